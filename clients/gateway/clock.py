"""Time and chance, the two things that tests must be able to hold still."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

Random = Callable[[int], bytes]
"""n random bytes."""
system_random: Random = os.urandom


class Clock(Protocol):
    """Unix seconds."""

    def now(self) -> int: ...


class SystemClock:
    """The machine's clock, moved by `skew` seconds (for drills)."""

    def __init__(self, skew: int = 0) -> None:
        self.skew = skew

    def now(self) -> int:
        return int(time.time()) + self.skew


class Signal:
    """Wakes whoever waits that something changed. No wake-up is lost: take `seen` before you look, then `wait`."""

    def __init__(self) -> None:
        self.seen = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        """Something changed."""
        self.seen += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen: int, timeout: float) -> bool:
        """Until a change after `seen`, or `timeout` seconds; True if there was one."""
        if self.seen != seen:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):  # wait_for may swallow a cancellation (Python 3.11)
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def changes(self, pause: float = 0.2) -> AsyncIterator[None]:
        """One item after each change, at most one in `pause` seconds."""
        while True:
            seen = self.seen
            yield None
            await self.wait(seen, 3600)
            await asyncio.sleep(pause)


def date_time(now: int) -> str:
    """Unix seconds in UTC as DICOM (PS3.5 6.2, DT) and HL7 v2 (2.A.22, DTM) both write them."""
    return time.strftime("%Y%m%d%H%M%S+0000", time.gmtime(now))
