"""A form with a file in it (RFC 7578), read within bounds.

Nothing of such a form is read before it is known who sends it and that they may (`visit.action`). The file is held in
memory until it is where it belongs: two at a time, whatever the number of senders; the others wait, and are told to
come again after half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from clients.gateway.console.problems import BodyError, FormKindError
from clients.gateway.console.visit import Reader
from clients.gateway.sending.reports import MAX_PDF, MAX_TEXT

FILE = web.RequestKey("file", bytes)
"""The bytes of the form's one file; none where none was chosen."""
_LARGEST_TEXT = 4 * MAX_TEXT
"""Bytes of all other fields together."""
_PARTS = 16
_AT_ONCE = 2


def upload_reader() -> Reader:
    """What reads the forms of one application."""
    room = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def read(request: web.Request) -> AsyncIterator[dict[str, str]]:
        async with room:
            yield await read_upload(request)
            request[FILE] = b""

    return read


async def read_upload(request: web.Request) -> dict[str, str]:
    """The text fields; the file is `request[FILE]`. Raises a `Problem`."""
    if request.content_type != "multipart/form-data":
        raise FormKindError
    try:
        return await _parts(request)
    except (
        HttpProcessingError,
        ValueError,
        AssertionError,
        LookupError,
        RuntimeError,
        web.RequestPayloadError,
    ):
        raise FormKindError from None


async def _parts(request: web.Request) -> dict[str, str]:
    fields: dict[str, str] = {}
    left, count, request[FILE] = _LARGEST_TEXT, 0, b""
    async for part in await request.multipart():
        count += 1
        if count > _PARTS or not isinstance(part, BodyPartReader) or not part.name:
            raise FormKindError
        if part.filename is not None:
            request[FILE] = await _bounded(part, MAX_PDF) or request[FILE]
            continue
        value = await _bounded(part, left)
        left -= len(value)
        fields[part.name] = value.decode("utf-8")
    return fields


async def _bounded(part: BodyPartReader, most: int) -> bytes:
    body = bytearray()
    while chunk := await part.read_chunk(2**16):
        body += chunk
        if len(body) > most:
            raise BodyError
    return bytes(body)
