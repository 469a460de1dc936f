"""A wire to a port of this machine, which tests bend: each connection is two pumps."""

from __future__ import annotations

import asyncio


class Wire:
    """From `port` to `target`. What a subclass does to the bytes is its `_pump`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self, port: int = 0) -> None:
        """Listens at `port`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Cuts every connection."""
        self._server.close()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Ends the connections that are there."""
        for pump in self._pumps:
            pump.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        try:
            there, to_there = await asyncio.open_connection("127.0.0.1", self.target)
        except BaseException as why:  # also cut before anybody was reached
            writer.close()
            if isinstance(why, OSError):
                return
            raise
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("up", reader, to_there))
                group.create_task(self._pump("down", there, writer))
        except* OSError:
            pass
        finally:
            writer.close()
            to_there.close()

    async def _pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carries bytes "up" to the target or "down" from it, until it raises `OSError`."""
        raise NotImplementedError
