"""A wire to a port of this machine, which tests bend: each connection is two pumps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(talk: Talk, port: int = 0) -> AsyncIterator[int]:
    """The port at which `talk` holds each conversation; all of them are over, and closed, afterwards."""
    talks: set[asyncio.Task[None]] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                await talk(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(hold(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


class Wire:
    """From `port` to `target`. What a subclass does to the bytes is its `_pump`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self, port: int = 0) -> None:
        """Listens at `port`."""
        self._ends = contextlib.AsyncExitStack()
        self.port = await self._ends.enter_async_context(listening(self._carry, port))

    async def close(self) -> None:
        """Cuts every connection."""
        await self._ends.aclose()

    def cut(self) -> None:
        """Ends the connections that are there."""
        for pump in self._pumps:
            pump.cancel()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        there, to_there = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("up", reader, to_there))
                group.create_task(self._pump("down", there, writer))
        except* OSError:
            pass
        finally:
            to_there.close()
            with contextlib.suppress(OSError):
                await to_there.wait_closed()

    async def _pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carries bytes "up" to the target or "down" from it, until it raises `OSError`."""
        raise NotImplementedError
