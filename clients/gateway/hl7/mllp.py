"""The Minimal Lower Layer Protocol (HL7 2.5.1, appendix C.2): a block is VT, the message, FS and CR.

A peer is a hospital's interface engine, on the inside; it is bounded all the same: who may connect, how many at once,
so many bytes a block and so many for all blocks that are under way, so many seconds for one that has begun, so many
messages a second. Each block gets one acknowledgement, in order, after what it says was stored; a peer that does not
wait for it (the protocol says that it does) waits all the same, since nothing more is read from it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from clients.gateway.errors import GatewayError
from clients.gateway.networks import Network, admits, is_local

log = structlog.get_logger()
START, END = b"\x0b", b"\x1c\r"
MAX_BLOCK = 2**25
_TOGETHER = 3 * MAX_BLOCK
"""Bytes of all blocks that are being read."""
_CONNECTIONS = 32
_PER_SECOND, _BURST = 20.0, 200
"""Messages, of all peers together."""
_BUFFER = 2**16
_IDLE = 3600.0
_STALL = 30.0
"""Seconds for the rest of a block, and for an acknowledgement."""
_HANDSHAKE = 10.0
_GOODBYE = 2.0

Handler = Callable[[bytes], Awaitable[bytes]]
"""A message to its acknowledgement."""


class MllpError(GatewayError):
    """The HL7 interface does not answer. Check that it runs and where it listens; it is tried again."""

    code = "hl7-down"


class Purse:
    """Bytes that all connections share. What is taken out comes back by `close`."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, count: int) -> None:
        """Raises `MllpError` where there are not so many."""
        if count > self.left:
            raise MllpError
        self.left -= count


class _Pace:
    """How fast messages may come: `_BURST` at once, and `_PER_SECOND` more each second."""

    def __init__(self) -> None:
        self._at, self._left = time.monotonic(), float(_BURST)

    async def wait(self) -> None:
        """Until the next message may be read."""
        now = time.monotonic()
        self._left = min(float(_BURST), self._left + (now - self._at) * _PER_SECOND) - 1
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / _PER_SECOND)


class MllpServer:
    """Takes blocks at one port. `allow`: the networks that may connect; None: this machine only."""

    def __init__(
        self,
        handle: Handler,
        *,
        limit: int = MAX_BLOCK,
        allow: Iterable[Network] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._handle, self._limit, self._tls = handle, limit, tls
        self._allow = list(allow) if allow is not None else None
        self._purse, self._pace = Purse(max(_TOGETHER, limit)), _Pace()
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens; where. Raises `OSError`."""
        self._server = await asyncio.start_server(
            self._accept, host, port, limit=_BUFFER, ssl=self._tls,
            ssl_handshake_timeout=_HANDSHAKE if self._tls else None,
        )  # fmt: skip
        where: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return where

    async def stop(self) -> None:
        """Hangs up on everybody. Who has no acknowledgement yet sends its message again."""
        if self._server is not None:
            self._server.close()
        tasks = dict(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in tasks.values():  # of those that had not begun
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _CONNECTIONS or not self._may_come(writer):
            log.warning("an HL7 peer was turned away")
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)

    def _may_come(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer is not None else ""
        return is_local(address) if self._allow is None else admits(self._allow, address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._pace.wait()
                if not (block := await read_block(reader, self._limit, self._purse)):
                    break
                answer = await self._handle(block)
                async with asyncio.timeout(_STALL):
                    writer.write(START + answer + END)
                    await writer.drain()
        except (TimeoutError, MllpError, OSError):
            log.info("an HL7 peer was hung up on")
        except Exception as why:  # an error of ours: no acknowledgement, so the message comes again
            log.error("an HL7 message was not handled", kind=type(why).__name__)
        finally:
            writer.close()
            try:
                async with asyncio.timeout(_GOODBYE):
                    await writer.wait_closed()
            except (TimeoutError, OSError):  # it reads nothing any more
                writer.transport.abort()


async def read_block(
    reader: asyncio.StreamReader, limit: int = MAX_BLOCK, purse: Purse | None = None
) -> bytes:
    """The next message; nothing at the end of the stream. Raises `MllpError` for what is no block, `TimeoutError`."""
    async with asyncio.timeout(_IDLE):
        first = await reader.read(1)
    if not first:
        return b""
    if first != START:
        raise MllpError
    parts: list[bytes] = []
    size, purse = 0, purse or Purse(limit)
    try:
        async with asyncio.timeout(_STALL):
            while not size or not parts[-1].endswith(END):
                part = await _up_to_end(reader)
                if size + len(part) > limit + len(END):
                    raise MllpError
                purse.take(len(part))
                parts.append(part)
                size += len(part)
    except asyncio.IncompleteReadError:
        raise MllpError from None
    finally:
        purse.left += size
    return b"".join(parts)[: -len(END)]


async def _up_to_end(reader: asyncio.StreamReader) -> bytes:
    """What is there of a block, as far as the reader's buffer goes: it ends with `END`, or there is more."""
    try:
        return await reader.readuntil(END)
    except asyncio.LimitOverrunError as why:
        return await reader.readexactly(why.consumed)


async def call(host: str, port: int, message: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Sends one message over a connection of its own; its acknowledgement. Raises `MllpError`."""
    try:
        async with asyncio.timeout(_STALL):
            reader, writer = await asyncio.open_connection(host, port, limit=_BUFFER, ssl=tls)
            try:
                writer.write(START + message + END)
                await writer.drain()
                answer = await read_block(reader, 2**20)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (TimeoutError, OSError):
        raise MllpError from None
    if not answer:
        raise MllpError
    return answer
