"""What searches of the hospital's archive found, kept out of addresses and forms.

An address and a form name a finding by a random id and a study by its place in the list: no name, number or UID of
a patient goes into a browser's history, a proxy's log or a screenshot's address bar. Bounded, in memory only, and of
the session that searched: after a restart staff search again.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from clients.gateway.pulled import MatchView, SearchView


class Finding(msgspec.Struct, frozen=True):
    """One search: what was typed, and what came of it."""

    terms: dict[str, str]
    found: SearchView


class Findings:
    """The last `size` searches of all sessions."""

    def __init__(self, *, size: int = 128) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[str, str], Finding] = OrderedDict()

    def keep(self, session: str, terms: Mapping[str, str], found: SearchView) -> str:
        """The id of a new finding."""
        number = secrets.token_hex(8)
        self._kept[session, number] = Finding(dict(terms), found)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return number

    def get(self, session: str, number: str) -> Finding | None:
        """What this session found under this id."""
        found = self._kept.get((session, number))
        if found is not None:
            self._kept.move_to_end((session, number))
        return found

    def match(self, session: str, number: str, place: str) -> MatchView | None:
        """The study at this place of a finding's list."""
        found = self.get(session, number)
        if found is None or not (place.isascii() and place.isdigit() and len(place) < 6):
            return None
        matches = found.found.matches
        return matches[int(place)] if int(place) < len(matches) else None
