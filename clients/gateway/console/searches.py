"""What staff search for at the desk, kept out of addresses.

A name in an address ends in the browser's history, in a proxy's log and in a screenshot. The search form is
therefore posted; the words stay here, under a random id that means nothing outside this session, and the address
carries the id. Bounded, in memory only: after a restart the desk shows the whole list again.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

MAX_LENGTH = 100


class Searches:
    """The last `size` searches of all sessions."""

    def __init__(self, *, size: int = 512) -> None:
        self._size = size
        self._words: OrderedDict[tuple[str, str], str] = OrderedDict()

    def keep(self, session: str, words: str) -> str:
        """The id of a new search."""
        number = secrets.token_hex(8)
        self._words[session, number] = words[:MAX_LENGTH]
        if len(self._words) > self._size:
            self._words.popitem(last=False)
        return number

    def words(self, session: str, number: str) -> str:
        """What this session searched for under this id; "" if nothing."""
        found = self._words.get((session, number), "")
        if found:
            self._words.move_to_end((session, number))
        return found
