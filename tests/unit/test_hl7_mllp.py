"""`clients.gateway.hl7.mllp`: framing, and what a peer cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from clients.gateway.hl7 import mllp
from clients.gateway.hl7.mllp import END, START, MllpError, MllpServer, call


@asynccontextmanager
async def serving(*, limit: int = 2**16) -> AsyncIterator[tuple[str, int, list[bytes]]]:
    heard: list[bytes] = []

    async def handle(block: bytes) -> bytes:
        heard.append(block)
        return b"ACK " + block

    server = MllpServer(handle, limit=limit)
    host, port = await server.start("127.0.0.1", 0)
    try:
        yield host, port, heard
    finally:
        await server.stop()


async def test_a_message_and_its_acknowledgement() -> None:
    async with serving() as (host, port, heard):
        assert await call(host, port, b"MSH|x\rPID|y\r") == b"ACK MSH|x\rPID|y\r"
        assert heard == [b"MSH|x\rPID|y\r"]


async def test_many_on_one_connection_in_order() -> None:
    async with serving() as (host, port, _):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"".join(START + b"%d" % i + END for i in range(50)))
        for i in range(50):
            assert await mllp.read_block(reader) == b"ACK %d" % i
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n", START + b"x" * 100_000, START + b"cut"])
async def test_what_is_no_block_is_hung_up_on(rubbish: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllp, "_STALL", 0.2)
    async with serving() as (host, port, heard):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(rubbish)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        assert heard == []
        assert await call(host, port, b"next") == b"ACK next"


async def test_more_peers_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllp, "_CONNECTIONS", 2)
    async with serving() as (host, port, _):
        held = [await asyncio.open_connection(host, port) for _ in range(2)]
        for reader, writer in held:
            writer.write(START + b"here" + END)
            assert await mllp.read_block(reader) == b"ACK here"
        with pytest.raises(MllpError):
            await call(host, port, b"third")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()


async def test_nobody_there_and_nobody_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllp, "_STALL", 0.2)
    silent = MllpServer(forever)
    host, port = await silent.start("127.0.0.1", 0)
    with pytest.raises(MllpError):
        await call(host, port, b"x")
    await silent.stop()
    with pytest.raises(MllpError):
        await call(host, port, b"x")


async def forever(block: bytes) -> bytes:
    await asyncio.Event().wait()
    return block
