"""`GET /live`: tells an open page that something changed, by Server-Sent Events (WHATWG HTML 9.2).

The stream carries no data about anybody: it only says "change" or "tick", and the page then fetches itself again, with
the same permissions as by hand. One task follows the engine for all streams. Their number is bounded, for all and
for each session; each ends after an hour (the browser comes back by itself) and as soon as its session does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from clients.gateway.clock import Signal
from clients.gateway.console.problems import WatchersError
from clients.gateway.views import Engine

MOST = 128
MOST_OF_SESSION = 12
LIFE = 3600.0
log = structlog.get_logger("console")


class Pulse:
    """Follows `engine.changes()` and wakes every stream. `tick` seconds pass at most between two events."""

    def __init__(self, engine: Engine, *, tick: float = 10.0, gap: float = 1.0) -> None:
        self._engine = engine
        self._tick = tick
        self._gap = gap
        self._signal = Signal()
        self._task: asyncio.Task[None] | None = None
        self._streams: Counter[str] = Counter()
        self._ended = False

    async def start(self) -> None:
        """Begins to follow the engine."""
        self._task = asyncio.create_task(self._follow(), name="console-pulse")

    def end(self) -> None:
        """Lets every stream end, so that a server can stop."""
        self._ended = True
        self._signal.set()

    async def stop(self) -> None:
        """Stops following."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while not self._ended:
            try:
                async for _ in self._engine.changes():
                    self._signal.set()
            except Exception as why:
                log.warning("lost sight of the engine", kind=type(why).__name__)
            await asyncio.sleep(1)

    async def stream(
        self, request: web.Request, session: str, valid: Callable[[], Awaitable[bool]]
    ) -> web.StreamResponse:
        """One stream, until its session, its hour or this server ends. Raises `WatchersError`."""
        if self._streams.total() >= MOST or self._streams[session] >= MOST_OF_SESSION or self._ended:
            raise WatchersError(retry_after=30)
        self._streams[session] += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            await response.write(b"retry: 2000\n\n")
            await self._tell(response, valid)
        except ConnectionError:
            pass  # the page was closed
        finally:
            self._streams[session] -= 1
            self._streams += Counter()  # forgets the sessions that are down to none
        return response

    async def _tell(self, response: web.StreamResponse, valid: Callable[[], Awaitable[bool]]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + LIFE
        seen = self._signal.seen
        while loop.time() < end and not self._ended:
            changed = await self._signal.wait(seen, self._tick)
            seen = self._signal.seen
            if not await valid():
                await response.write(b"event: end\ndata: 1\n\n")
                return
            await response.write(b"event: change\ndata: 1\n\n" if changed else b"event: tick\ndata: 1\n\n")
            await asyncio.sleep(self._gap)  # a busy engine is no reason to fetch a page ten times a second
