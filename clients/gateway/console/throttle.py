"""Slows down guessing of passwords, by name and by address, in bounded memory.

The first tries are free; each one after that has to wait twice as long as the one before, up to 20 minutes. So one
name takes fewer than 100 wrong tries a day (NIST SP 800-63B 5.2.2). A try is counted before the password is checked, so
that many at once are no way around it; a right password forgets the name's tries, but not the address's, since
who guesses may own one password that is right.

Waiting must not become a way to keep a clerk out in an emergency: an address from which the person signed in before
has a count of its own, which a stranger elsewhere cannot use up.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from clients.gateway.clock import Clock
from clients.gateway.networks import counted_as

FREE_BY_NAME = 5
FREE_BY_ADDRESS = 20
LONGEST = 20 * 60
FORGET = 24 * 3600


class Tries(msgspec.Struct):
    """What is known about one name or address."""

    count: int
    last: int


class Throttle:
    """Three tables of at most `size` entries; the entry that was not used for longest goes first."""

    def __init__(self, clock: Clock, *, size: int = 4096) -> None:
        self._clock = clock
        self._size = size
        self._names: OrderedDict[str, Tries] = OrderedDict()
        self._addresses: OrderedDict[str, Tries] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def wait(self, name: str, address: str) -> int:
        """Seconds until this name may be tried again from this address; 0 = now."""
        now = self._clock.now()
        by_name = _wait(self._names.get(self._who(name, address)), FREE_BY_NAME, now)
        return max(by_name, _wait(self._addresses.get(counted_as(address)), FREE_BY_ADDRESS, now))

    def count(self, name: str, address: str) -> None:
        """One try begins."""
        now = self._clock.now()
        self._add(self._names, self._who(name, address), now)
        self._add(self._addresses, counted_as(address), now)

    def right(self, name: str, address: str) -> None:
        """The try that was just counted was the right person's."""
        self._names.pop(self._who(name, address), None)
        tries = self._addresses.get(counted_as(address))
        if tries is not None:
            tries.count -= 1
        pair = _pair(name, address)
        self._known.pop(pair, None)
        self._known[pair] = None
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._names) + len(self._addresses) + len(self._known)

    def _who(self, name: str, address: str) -> str:
        pair = _pair(name, address)
        return pair if pair in self._known else name

    def _add(self, table: OrderedDict[str, Tries], key: str, now: int) -> None:
        tries = table.pop(key, None)
        if tries is None or now - tries.last > FORGET:
            tries = Tries(0, now)
        tries.count, tries.last = tries.count + 1, now
        table[key] = tries
        if len(table) > self._size:
            table.popitem(last=False)


def _pair(name: str, address: str) -> str:
    return f"{name}\n{counted_as(address)}"


def _wait(tries: Tries | None, free: int, now: int) -> int:
    if tries is None or tries.count < free or now - tries.last > FORGET:
        return 0
    pause = min(2 ** min(tries.count - free + 1, 20), LONGEST)
    return int(max(0, tries.last + pause - now))
