"""Wakes those who wait for something to arrive: the seam behind every long poll.

No wake-up is lost: a waiter is registered *before* it looks, and a `notify` in between stays set until it is
waited for. A waiter that is cancelled (its client went away) leaves nothing behind. How many may wait is
bounded. This one lives in the process; a later one may listen to PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from relay.errors import RateError

T = TypeVar("T")
Topic = tuple[str, ...]
"""What one waits for: ("queue", site), ("packs", cid), ("mailbox", name)."""


class Notifier(Protocol):
    """See the module."""

    @property
    def waiting(self) -> int:
        """How many wait now."""

    def notify(self, *topic: str) -> None:
        """Wakes all who wait for `topic`."""

    async def until(self, topic: Topic, seconds: float, look: Callable[[], Awaitable[T]]) -> T:
        """What `look` finds as soon as that is true-ish, or what it last found after `seconds`. `RateError`."""

    def close(self) -> None:
        """Sends everybody home: the relay stops."""


class LocalNotifier:
    """`Notifier` for one process and one event loop."""

    def __init__(self, *, most: int = 4_000, each: int = 64) -> None:
        self._most, self._each = most, each
        self._waiting: dict[Topic, set[asyncio.Event]] = {}
        self._count = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._count

    def notify(self, *topic: str) -> None:
        """See `Notifier`."""
        for event in self._waiting.get(topic, ()):
            event.set()

    def close(self) -> None:
        """See `Notifier`."""
        self._closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    @contextmanager
    def _watch(self, topic: Topic) -> Iterator[asyncio.Event]:
        events = self._waiting.setdefault(topic, set())
        if self._count >= self._most or len(events) >= self._each:
            raise RateError(retry=5)
        event = asyncio.Event()
        events.add(event)
        self._count += 1
        try:
            yield event
        finally:
            self._count -= 1
            events.discard(event)
            if not events:
                self._waiting.pop(topic, None)

    async def until(self, topic: Topic, seconds: float, look: Callable[[], Awaitable[T]]) -> T:
        """See `Notifier`."""
        if seconds <= 0 or self._closed:
            return await look()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with self._watch(topic) as event:
            while True:
                found = await look()
                if found or self._closed:
                    return found
                try:
                    async with asyncio.timeout_at(end):
                        await event.wait()
                except TimeoutError:
                    return found
                event.clear()
