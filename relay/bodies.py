"""Reads a request's body: whole, hashed, and never more of it in memory than is allowed.

A body is at most one pack (4 MiB). Its room in memory is taken from a `Budget` before the first byte is read,
so a crowd of uploads waits in its TCP connections and not in the relay's memory. A body that stops arriving,
or arrives for ever, is given up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from relay.errors import HeaderError, SizeError, SlowError
from relay.limits import Budget
from transfer.ids import Digest

IDLE = 30
"""Seconds without a byte."""
TOTAL = 600
"""Seconds for a whole body: 4 MiB at 56 kbit/s."""
EMPTY = Digest(hashlib.sha256().digest())


class Body:
    """The chunks as they came, their number of bytes, their SHA-256."""

    __slots__ = ("chunks", "digest", "size")

    def __init__(self, chunks: list[bytes], size: int, digest: Digest) -> None:
        self.chunks, self.size, self.digest = chunks, size, digest

    def join(self) -> bytes:
        """All of it."""
        return b"".join(self.chunks)

    def text(self) -> str:
        """As the ASCII of a compact JWS. `HeaderError`."""
        try:
            return self.join().decode("ascii")
        except UnicodeDecodeError:
            raise HeaderError from None


class Bodies:
    """`read` a body of at most `cap` bytes, within `budget`."""

    def __init__(self, budget: Budget, *, idle: float = IDLE, total: float = TOTAL) -> None:
        self._budget, self._idle, self._total = budget, idle, total

    @asynccontextmanager
    async def read(self, request: web.BaseRequest, cap: int, who: Hashable) -> AsyncIterator[Body]:
        """The body; its room is given back at the end of the block. `SizeError`, `SlowError`, `HeaderError`."""
        if not request.body_exists:
            yield Body([], 0, EMPTY)
            return
        declared = request.content_length
        if cap == 0 or (declared is not None and declared > cap):
            raise SizeError
        async with self._budget.hold(cap if declared is None else declared, who):
            body = await self._collect(request, cap)
            try:
                yield body
            finally:
                body.chunks = []  # now, and not when some traceback that saw it is collected

    async def _collect(self, request: web.BaseRequest, cap: int) -> Body:
        chunks: list[bytes] = []
        size, digest = 0, hashlib.sha256()
        now = asyncio.get_running_loop().time
        end = now() + self._total
        whole = False
        try:
            async with asyncio.timeout_at(min(end, now() + self._idle)) as deadline:
                while chunk := await request.content.readany():
                    size += len(chunk)
                    if size > cap:
                        raise SizeError
                    digest.update(chunk)
                    chunks.append(chunk)
                    deadline.reschedule(min(end, now() + self._idle))
            whole = True
        except TimeoutError:
            raise SlowError from None
        except (HttpProcessingError, ClientPayloadError, web.RequestPayloadError):
            raise HeaderError from None
        finally:
            if not whole:
                chunks.clear()
        return Body(chunks, size, Digest(digest.digest()))
