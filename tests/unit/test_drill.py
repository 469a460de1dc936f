"""The phone without a browser where there is no hospital at the other end: what it says, and that it gives up."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from clients import drill
from clients.drill import LinkError, NoAnswerError, Phone, TrustError
from clients.gateway.errors import GatewayError
from tests.relay_tls import make_certificate
from transfer.errors import HeaderError, VersionError
from transfer.ids import SiteId, Tid
from transfer.links import damm, make_link, spoken
from transfer.mailbox import Hello
from transfer.messages import encode

Q = os.urandom(16)
HELLO = Hello(v=1, tid=Tid(b"t" * 16), s=SiteId(b"s" * 32), exp=2_000_000_000)


class Relay:
    """A relay that answers m0 with `status` and `body`, takes what is posted, and has nothing else."""

    def __init__(self) -> None:
        self.status, self.body, self.posts = 200, encode(HELLO), 0

    async def get(self, request: web.Request) -> web.Response:
        if request.path.endswith("/0"):
            return web.Response(status=self.status, body=self.body if self.status == 200 else b"{}")
        return web.Response(status=204)

    async def post(self, request: web.Request) -> web.Response:
        self.posts += 1
        return web.json_response({"i": 0})


async def serve(relay: Relay, tls: ssl.SSLContext | None = None) -> tuple[str, web.AppRunner]:
    app = web.Application()
    app.router.add_get("/m/{path:.*}", relay.get)
    app.router.add_post("/m/{path:.*}", relay.post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    scheme = "https" if tls else "http"
    return f"{scheme}://127.0.0.1:{runner.addresses[0][1]}", runner


@pytest.fixture
async def relay(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Relay, str]]:
    """It, and a link to it; with less patience than a person has."""
    for name, seconds in (("_STEP", 0.3), ("_PATIENCE", 0.3), ("_APPEAR", 0.1)):
        monkeypatch.setattr(drill, name, seconds)
    made = Relay()
    url, runner = await serve(made)
    yield made, make_link(url, Q)
    await runner.cleanup()


@pytest.mark.parametrize(
    "link", ["", "nonsense", "https://relay.example/s", "https://relay.example/s#1.short", "#"]
)
def test_what_is_no_link(link: str) -> None:
    with pytest.raises(LinkError, match="link: This link leads to nothing"):
        Phone(link, "123456")


def test_links_of_other_times() -> None:
    with pytest.raises(VersionError):
        Phone(make_link("https://relay.example", Q).replace("#1.", "#2."), "123456")


@pytest.mark.parametrize(
    ("number", "code", "error"),
    [
        ("123456", spoken("27182818"), "link"), ("12345678", spoken("27182818"), "link"),
        ("", spoken("27182818"), "link"), ("１２３4567", spoken("27182818"), "link"),
        ("1234567", "27182818", "typo"), ("1234567", "", "typo"),
        ("1234567", spoken("27182818")[::-1], "typo"),
    ],
)  # fmt: skip
def test_what_was_heard_wrong(number: str, code: str, error: str) -> None:
    with pytest.raises(GatewayError) as why:
        Phone("https://relay.example/v", code, number=number)
    assert why.value.code == error


def test_a_number_and_a_code_in_groups() -> None:
    phone = Phone("https://relay.example/v", "271 828 18" + damm("27182818"), number="0000042")
    assert (phone._mailbox, phone._q, phone._pin) == ("0000042", b"", "27182818")


@pytest.mark.parametrize("status", [404, 410])
async def test_a_mailbox_that_is_not_there(relay: tuple[Relay, str], status: int) -> None:
    relay[0].status = status
    async with Phone(relay[1], "123456") as phone:
        with pytest.raises(LinkError):
            await phone.ask()
    assert relay[0].posts == 0


async def test_a_hospital_that_does_not_answer_is_asked_again(relay: tuple[Relay, str]) -> None:
    async with Phone(relay[1], "123456") as phone:
        with pytest.raises(NoAnswerError):
            await phone.ask()
    assert relay[0].posts == 3


async def test_a_relay_that_is_down(relay: tuple[Relay, str]) -> None:
    async with Phone(make_link("http://127.0.0.1:1", Q), "123456") as phone:
        with pytest.raises(NoAnswerError):
            await phone.ask()


@pytest.mark.parametrize(
    "host", ["a..b", ".", "a" * 64, "[", "[x]", "a:b:c", "x:99999", "x:-1", "\u2603.\u202e", "\udce4"]
)
async def test_a_host_that_nobody_can_have(relay: tuple[Relay, str], host: str) -> None:
    """Found by reading what the fuzzer takes for an address: an error of another library, or a minute of patience."""
    async with Phone(make_link(f"http://{host}", Q), "123456") as phone:
        with pytest.raises(LinkError):
            await phone.ask()


async def test_a_relay_that_talks_nonsense(relay: tuple[Relay, str]) -> None:
    relay[0].body = b"<html>"
    async with Phone(relay[1], "123456") as phone:
        with pytest.raises(HeaderError):
            await phone.ask()


async def test_a_certificate_of_nobody(tmp_path: Path) -> None:
    cert, key = make_certificate()
    (tmp_path / "cert.pem").write_bytes(cert)
    (tmp_path / "key.pem").write_bytes(key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    url, runner = await serve(Relay(), tls)
    async with Phone(make_link(url, Q), "123456", ssl.create_default_context()) as phone:
        with pytest.raises(TrustError):
            await phone.ask()
    await runner.cleanup()


def test_keys_are_made_anew() -> None:
    one, two = Phone(make_link("https://r.example", Q), "1"), Phone(make_link("https://r.example", Q), "1")
    assert one._door.run != two._door.run
