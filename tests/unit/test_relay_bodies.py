"""Bodies: bounded in bytes and time. Over real connections, since it is about what comes how."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from relay.answers import errors_middleware
from relay.bodies import Bodies
from relay.limits import Budget
from relay.log import make_log, silent
from transfer.encoding import sha256

CAP = 100_000


@asynccontextmanager
async def server(bodies: Bodies, inside: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[int]:
    async def handle(request: web.Request) -> web.Response:
        async with bodies.read(request, CAP, "who") as body:
            assert body.join() == b"".join(body.chunks)
            if inside is not None:
                await inside()
            return web.Response(text=f"{body.size} {body.digest.hex()}")

    app = web.Application(middlewares=[errors_middleware(lambda: 0, make_log())])
    app.router.add_post("/", handle)
    runner = web.AppRunner(
        app, handler_cancellation=True, auto_decompress=False, lingering_time=0.1, logger=silent()
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def talk(port: int, data: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to raw bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)
    finally:
        writer.close()
        await writer.wait_closed()


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: x", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def plain() -> Bodies:
    return Bodies(Budget(10 * CAP, 1))


async def test_with_a_length_and_in_chunks() -> None:
    body = bytes(CAP)
    expected = f"{CAP} {sha256(body).hex()}".encode()
    async with server(plain()) as port:
        assert await talk(port, post(body, f"Content-Length: {CAP}")) == (200, expected)
        chunk = b"%x\r\n" % CAP + body + b"\r\n0\r\n\r\n"
        assert await talk(port, post(chunk, "Transfer-Encoding: chunked")) == (200, expected)
        assert await talk(port, post(b"", "Content-Length: 0")) == (200, f"0 {sha256(b'').hex()}".encode())


@pytest.mark.parametrize("chunked", [True, False])
async def test_too_much_is_refused(chunked: bool) -> None:
    budget = Budget(10 * CAP, 1)
    async with server(Bodies(budget)) as port:
        body = bytes(CAP + 1)
        if chunked:
            sent = post(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
        else:
            sent = post(b"", f"Content-Length: {len(body)}")  # refused before a byte of it came
        status, answer = await talk(port, sent)
        assert status == 413
        assert b'"size"' in answer
    assert budget.free == 10 * CAP


async def test_a_compressed_body_is_taken_as_it_is() -> None:
    bomb = gzip.compress(bytes(50 * CAP))
    async with server(plain()) as port:
        status, answer = await talk(
            port, post(bomb, f"Content-Length: {len(bomb)}", "Content-Encoding: gzip")
        )
    assert (status, answer) == (200, f"{len(bomb)} {sha256(bomb).hex()}".encode())


async def test_a_body_that_stops_is_given_up() -> None:
    budget = Budget(10 * CAP, 1)
    async with server(Bodies(budget, idle=0.05)) as port:
        status, answer = await talk(port, post(b"half", "Content-Length: 1000"))
        assert status == 408
        assert b'"slow"' in answer
    assert budget.free == 10 * CAP


async def test_a_body_that_never_ends_is_given_up() -> None:
    async with server(Bodies(Budget(10 * CAP, 1), idle=60, total=0.05)) as port:
        assert (await talk(port, post(b"half", "Content-Length: 1000")))[0] == 408


async def test_broken_chunks_are_a_bad_request() -> None:
    async with server(plain()) as port:
        status, _ = await talk(port, post(b"5\r\nhello\r\nxyz\r\n", "Transfer-Encoding: chunked"))
    assert status == 400


async def test_more_than_fits_waits_and_a_client_that_leaves_gives_its_room_back() -> None:
    budget, inside, go = Budget(CAP, 1), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        inside.set()
        await go.wait()

    async with server(Bodies(budget), hold) as port:
        _, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(post(bytes(CAP), f"Content-Length: {CAP}"))
        await inside.wait()
        assert budget.free == 0
        second = asyncio.create_task(talk(port, post(b"x", "Content-Length: 1")))
        inside.clear()
        first.transport.abort()
        await inside.wait()
        assert budget.free == CAP - 1
        go.set()
        assert (await second)[0] == 200
    assert budget.free == CAP
