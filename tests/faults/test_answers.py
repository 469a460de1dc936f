"""Answers that no relay should give are a relay that is down, never a fault of the gateway's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from nacl.signing import SigningKey

from clients.gateway.clock import SystemClock, system_random
from clients.gateway.errors import RelayDownError
from clients.gateway.peers.relay import RelayClient, RelayRefusal
from transfer.ids import Cid, SiteId

GARBAGE = {
    "nothing": b"", "cut": b'{"messages": [', "list": b"[]", "null": b"null", "html": b"<html>",
    "number": b'{"messages": 5, "packs": 5, "prekeys": 5, "next": 1}',
    "not UTF-8": b'{"messages": [{"seq": 1, "at": 1, "from": "\xff", "body": "\xfe"}]}', "deep": b"[" * 10**6,
    "deep body": b'{"messages": [{"seq": 1, "at": 1, "body": ' + b"[" * 10**6,
    "huge number": b'{"messages": [{"seq": 1' + b"0" * 400 + b', "at": 1, "body": ""}], "packs": [], "next": -1}',
}  # fmt: skip


class Says:
    """A relay that says one thing."""

    status, body, headers = 200, b"", {}

    async def handle(self, _: web.Request) -> web.Response:
        return web.Response(status=self.status, body=self.body, headers=self.headers)


@pytest.fixture
async def says() -> AsyncIterator[tuple[Says, RelayClient]]:
    relay = Says()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", relay.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = RelayClient(url, SigningKey(bytes(32)), SystemClock(), system_random)
    await client.open()
    yield relay, client
    await client.close()
    await runner.cleanup()


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage(says: tuple[Says, RelayClient], name: str) -> None:
    relay, client = says
    relay.body = GARBAGE[name]
    with pytest.raises(RelayDownError):
        await client.queue(0)
    with pytest.raises(RelayDownError):
        await client.list_packs(Cid(bytes(16)), 0)
    with pytest.raises(RelayDownError):
        await client.prekeys(SiteId(bytes(32)))
    relay.status = 400
    with pytest.raises(RelayRefusal):
        await client.queue(0)


async def test_a_content_coding_that_is_none(says: tuple[Says, RelayClient]) -> None:
    relay, client = says
    relay.body, relay.headers = b"not gzip at all", {"Content-Encoding": "gzip"}
    with pytest.raises(RelayDownError):
        await client.queue(0)


@pytest.mark.parametrize("code", ["hash", "replayed"])
async def test_a_request_that_was_damaged_on_its_way_is_no_refusal(
    says: tuple[Says, RelayClient], code: str
) -> None:
    """A final refusal would give a pack or a message up that the relay has never seen whole."""
    relay, client = says
    relay.status, relay.body = 409, f'{{"error": "{code}"}}'.encode()
    with pytest.raises(RelayDownError):
        await client.put_pack(Cid(bytes(16)), 0, "D", b"x")
