"""`clients.gateway.hl7.mllp`: framing, and what a peer cannot do."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from clients.gateway.hl7 import mllp
from clients.gateway.hl7.mllp import END, START, MllpError, MllpServer, call
from tests.gateway_kit import PATIENCE, eventually


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


async def test_a_block_larger_than_the_buffer_and_cut_anywhere() -> None:
    """A block comes whole wherever TCP cut it, also between the two bytes of its end mark."""
    body = b"MSH|" + b"x" * 200_000 + b"\x1c and \r inside" + b"y" * 70_000
    async with serving(limit=2**20) as (host, port, heard):
        reader, writer = await asyncio.open_connection(host, port)
        raw = START + body + END
        for at in range(0, len(raw), 65_535):
            writer.write(raw[at : at + 65_535])
            await writer.drain()
        for part in (START + b"two", END[:1], END[1:]):
            writer.write(part)
            await writer.drain()
        assert await mllp.read_block(reader, 2**20) == b"ACK " + body
        assert await mllp.read_block(reader) == b"ACK two"
        writer.close()
        await writer.wait_closed()
        assert heard == [body, b"two"]


async def test_all_blocks_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many peers that begin large blocks and never end them: memory is bounded, and comes back."""
    monkeypatch.setattr(mllp, "_TOGETHER", 2**20)
    async with serving(limit=2**20) as (host, port, _):
        held = [await asyncio.open_connection(host, port) for _ in range(4)]
        for _, writer in held:
            writer.write(START + b"x" * 400_000)
        watched = [asyncio.ensure_future(_gone(reader)) for reader, _ in held]
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in watched:
            task.cancel()
        await asyncio.gather(*watched, return_exceptions=True)
        for _, writer in held:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

        async def fits() -> bool:
            try:
                return await call(host, port, b"y" * 900_000) == b"ACK " + b"y" * 900_000
            except MllpError:  # the others are not gone yet
                return False

        await eventually(fits)


async def _gone(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        await reader.read()


async def test_only_who_is_on_the_list() -> None:
    async def handle(block: bytes) -> bytes:
        return b"ACK"

    server = MllpServer(handle, allow=[ipaddress.ip_network("10.0.0.0/8")])
    host, port = await server.start("127.0.0.1", 0)
    with pytest.raises(MllpError):
        await call(host, port, b"x")
    await server.stop()


async def test_messages_have_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the burst each message waits for its turn; none is lost."""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr(mllp, "_BURST", 2)
    async with serving() as (host, port, _):
        with monkeypatch.context() as patch:
            patch.setattr(mllp.asyncio, "sleep", sleep)
            for i in range(6):
                assert await call(host, port, b"%d" % i) == b"ACK %d" % i
    assert slept
    assert max(slept) > 0


async def test_an_error_of_ours_is_no_acknowledgement() -> None:
    async def broken(block: bytes) -> bytes:
        raise RuntimeError("a name")

    server = MllpServer(broken)
    host, port = await server.start("127.0.0.1", 0)
    with pytest.raises(MllpError):
        await call(host, port, b"x")
    await server.stop()


async def test_an_answer_reaches_a_peer_that_has_said_all() -> None:
    """It shuts its side down behind its message, as simple tools do."""
    async with serving() as (host, port, _):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(START + b"last" + END)
        writer.write_eof()
        assert await reader.read() == START + b"ACK last" + END
        writer.close()
        await writer.wait_closed()


async def forever(block: bytes) -> bytes:
    await asyncio.Event().wait()
    return block
