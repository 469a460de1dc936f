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

from tests.wire import Wire

_PIECE = 1448
"""Bytes of a segment on Ethernet."""
_STILL = 0.02
"""Seconds of a repair; in life it is a round trip or more."""


class BadWire(Wire):
    """From `port` to `target`. `loss` of the segments are repaired, `cut` of them end their connection."""

    def __init__(self, target: int, seed: int, *, loss: float = 0.1, cut: float = 0.002) -> None:
        super().__init__(target)
        self._dice, self._loss, self._cut = random.Random(seed), loss, cut
        self.repaired = self.broken = 0

    def heal(self) -> None:
        """Nothing is lost from now on."""
        self._loss = self._cut = 0.0

    async def _pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
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
