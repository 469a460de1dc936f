"""What strangers and neighbours may cost: how often (`Buckets`), how many bytes in memory (`Budget`).

They protect availability only. Who may read or write what never depends on them (protocol s. 12), nor do the
tries at a PIN, which S counts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from relay.config import Rate
from relay.errors import RateError


class Buckets:
    """A token bucket for each key. The least used of `most` keys is forgotten, and so starts full again."""

    def __init__(
        self, rate: Rate, *, most: int = 65_536, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._most, self._clock = rate, most, clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def _tokens(self, key: Hashable) -> float:
        tokens, at = self._buckets.get(key, (float(self._rate.burst), self._clock()))
        return min(float(self._rate.burst), tokens + (self._clock() - at) * self._rate.per_second)

    def check(self, key: Hashable) -> None:
        """`RateError` if the bucket is empty; takes nothing."""
        tokens = self._tokens(key)
        if tokens < 1:
            raise RateError(retry=max(1, math.ceil((1 - tokens) / self._rate.per_second)))

    def take(self, key: Hashable) -> None:
        """Takes a token, or raises `RateError`."""
        self.check(key)
        self._buckets[key] = (self._tokens(key) - 1, self._clock())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._buckets)


class Budget:
    """Bytes that all may hold at once, and what part of them one holder may. More wait their turn.

    Those who wait cost memory too (what their connection has buffered), so their number is bounded likewise.
    """

    def __init__(self, total: int, share: float, *, patience: float = 60, most: int = 128) -> None:
        self._free, self._each, self._patience = total, max(1, int(total * share)), patience
        self._most, self._most_each = most, max(1, int(most * share))
        self._held: dict[Hashable, int] = {}
        self._queue: deque[tuple[int, Hashable, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    @asynccontextmanager
    async def hold(self, size: int, who: Hashable) -> AsyncIterator[None]:
        """Holds `size` bytes. `RateError` after `patience` seconds, or at once if too many wait already."""
        if size > self._each:
            raise RateError(retry=60)
        await self._wait(size, who)
        try:
            yield
        finally:
            self._give_back(size, who)

    def _fits(self, size: int, who: Hashable) -> bool:
        return size <= self._free and self._held.get(who, 0) + size <= self._each

    def _grant(self, size: int, who: Hashable) -> None:
        self._free -= size
        self._held[who] = self._held.get(who, 0) + size

    async def _wait(self, size: int, who: Hashable) -> None:
        if not self._queue and self._fits(size, who):
            self._grant(size, who)
            return
        waiting = sum(other == who for _, other, _ in self._queue)
        if len(self._queue) >= self._most or waiting >= self._most_each:
            raise RateError(retry=2)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, who, turn)
        self._queue.append(entry)
        try:
            self._serve()
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as why:
            if turn.done() and not turn.cancelled():
                self._give_back(size, who)  # the turn came in the same moment
            else:
                self._queue.remove(entry)
                self._serve()
            if isinstance(why, TimeoutError):
                raise RateError(retry=5) from None
            raise

    def _give_back(self, size: int, who: Hashable) -> None:
        self._free += size
        self._held[who] -= size
        if not self._held[who]:
            del self._held[who]
        self._serve()

    def _serve(self) -> None:
        """Lets those in whose bytes fit, in the order they came; one holder at their limit holds up nobody else."""
        for entry in list(self._queue):
            size, who, turn = entry
            if size > self._free:
                return
            if not turn.done() and self._fits(size, who):
                self._queue.remove(entry)
                self._grant(size, who)
                turn.set_result(None)


def address_key(address: str) -> str:
    """The address that a bucket is for: IPv4 as it is, IPv6 by its /64, since one household has as many."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False).network_address)
    return str(ip)
