"""What staff have found or typed on their way through several pages, kept out of addresses and forms.

Who a patient is takes three pages: search or type, compare, done. What is known in between names people, so it stays
here, as searches do (`searches`): under a random id that means nothing outside this session and this transfer, in
memory only, and the oldest goes first.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

import msgspec

from clients.gateway.whose import Candidate, WorklistView


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """One step on the way. `asked` are the words of the search: number, accession, name."""

    asked: tuple[str, str, str] = ("", "", "")
    found: WorklistView | None = None
    candidate: Candidate | None = None


class Drafts:
    """The last `size` steps of all sessions."""

    def __init__(self, *, size: int = 256) -> None:
        self._size = size
        self._drafts: OrderedDict[tuple[str, str, str], Draft] = OrderedDict()

    def keep(self, session: str, subject: str, draft: Draft) -> str:
        """The id of a new one about `subject`."""
        number = secrets.token_hex(8)
        self._drafts[session, subject, number] = draft
        if len(self._drafts) > self._size:
            self._drafts.popitem(last=False)
        return number

    def get(self, session: str, subject: str, number: str) -> Draft | None:
        """What this session knew about `subject` under this id, if it is still kept."""
        found = self._drafts.get((session, subject, number))
        if found is not None:
            self._drafts.move_to_end((session, subject, number))
        return found
