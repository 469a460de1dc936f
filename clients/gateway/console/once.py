"""A form that is sent twice is done once.

A hurried hand clicks "Send" twice, and the browser sends the form twice. Each form carries a mark; the first
request with that mark does the work, and any other, at the same time or later, waits for it and gets the
same answer. A failure is not remembered: the person may try again with the same form.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

Key = tuple[str, str, str]
"""(session, address, mark)."""


class Once:
    """Remembers the answers of the last `size` forms, for the life of the process."""

    def __init__(self, *, size: int = 1024) -> None:
        self._size = size
        self._tasks: OrderedDict[Key, asyncio.Future[str]] = OrderedDict()

    async def run(self, key: Key, work: Callable[[], Awaitable[str]]) -> str:
        """The answer of `work`, done once for `key`. It goes on even if the one who waits for it goes away."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(work())
            task.add_done_callback(lambda done: self._settle(key, done))
            self._tasks[key] = task
            self._trim()
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for the work that is under way."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def _settle(self, key: Key, done: asyncio.Future[str]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._tasks.pop(key, None)

    def _trim(self) -> None:
        for key in [k for k, t in self._tasks.items() if t.done()][: max(0, len(self._tasks) - self._size)]:
            del self._tasks[key]
