"""A wire that loses. This kernel has no netem to lose packets with, and TCP hides a lost packet from both programs:
what they see of ten in a hundred is a connection that stands still while it is repaired, and one that breaks where the
repair fails (RFC 9293 3.8.1, 3.8.3). So this wire does that, in front of a port of this machine: for each piece of data
it draws from its seed whether it passes, stands still for a while, or ends the connection, by a reset or in mid-piece.
"""

from __future__ import annotations

import asyncio
import random
import struct
from socket import SO_LINGER, SOL_SOCKET

_PIECE = 1448
"""Bytes of a segment on Ethernet."""
_STILL = 0.02
"""Seconds of a repair; in life it is a round trip or more."""


class BadWire:
    """From `port` to `target`. `loss` of the segments are repaired, `cut` of them end their connection."""

    def __init__(self, target: int, seed: int, *, loss: float = 0.1, cut: float = 0.002) -> None:
        self.target, self._dice, self._loss, self._cut = target, random.Random(seed), loss, cut
        self._pumps: set[asyncio.Task[None]] = set()
        self.repaired = self.broken = 0

    async def open(self, port: int = 0) -> None:
        """Listens."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Ends every connection."""
        self._server.close()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await self._server.wait_closed()

    def heal(self) -> None:
        """Nothing is lost from now on."""
        self._loss = self._cut = 0.0

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
                group.create_task(self._pump(reader, to_there))
                group.create_task(self._pump(there, writer))
        except* OSError:
            pass
        finally:
            writer.close()
            to_there.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(_PIECE):
            if self._dice.random() < self._loss:
                self.repaired += 1
                await asyncio.sleep(_STILL)
            if self._dice.random() < self._cut:
                self.broken += 1
                sink.write(piece[: self._dice.randrange(len(piece))])
                if self._dice.random() < 0.5:
                    sock = sink.get_extra_info("socket")
                    sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                raise ConnectionResetError
            sink.write(piece)
            await sink.drain()
        raise ConnectionResetError
