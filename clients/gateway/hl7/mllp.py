"""The Minimal Lower Layer Protocol (HL7 2.5.1, appendix C.2): a block is VT, the message, FS and CR.

A peer is a hospital's interface engine, on the inside; it is bounded all the same: so many connections, so many bytes
a block, so many seconds to send one that has begun. Each block gets one acknowledgement, in order, after what it says
was stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from clients.gateway.errors import GatewayError

log = structlog.get_logger()
START, END = b"\x0b", b"\x1c\r"
MAX_BLOCK = 2**25
_CONNECTIONS = 32
_IDLE = 3600.0
_STALL = 30.0
"""Seconds for the rest of a block, and for an acknowledgement."""

Handler = Callable[[bytes], Awaitable[bytes]]
"""A message to its acknowledgement."""


class MllpError(GatewayError):
    """The HL7 interface does not answer. Check that it runs and where it listens; it is tried again."""

    code = "hl7-down"


class MllpServer:
    """Takes blocks at one port."""

    def __init__(self, handle: Handler, *, limit: int = MAX_BLOCK) -> None:
        self._handle, self._limit = handle, limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens; where. Raises `OSError`."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=self._limit)
        where: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return where

    async def stop(self) -> None:
        """Hangs up on everybody."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while block := await read_block(reader):
                answer = await self._handle(block)
                async with asyncio.timeout(_STALL):
                    writer.write(START + answer + END)
                    await writer.drain()
        except (TimeoutError, MllpError, OSError):
            log.info("an HL7 peer was hung up on")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def read_block(reader: asyncio.StreamReader) -> bytes:
    """The next message; nothing at the end of the stream. Raises `MllpError` for what is no block, `TimeoutError`."""
    async with asyncio.timeout(_IDLE):
        first = await reader.read(1)
    if not first:
        return b""
    if first != START:
        raise MllpError
    try:
        async with asyncio.timeout(_STALL):
            return (await reader.readuntil(END))[: -len(END)]
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise MllpError from None


async def call(host: str, port: int, message: bytes) -> bytes:
    """Sends one message over a connection of its own; its acknowledgement. Raises `MllpError`."""
    try:
        async with asyncio.timeout(_STALL):
            reader, writer = await asyncio.open_connection(host, port, limit=2**20)
            try:
                writer.write(START + message + END)
                await writer.drain()
                answer = await read_block(reader)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (TimeoutError, OSError):
        raise MllpError from None
    if not answer:
        raise MllpError
    return answer
