"""`clients.gateway.peers.relay`: each call against a real relay, and each way in which an answer may fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clients.gateway.clock import system_random
from clients.gateway.errors import ConfigError, GatewayError, RelayDownError
from clients.gateway.peers import relay as module
from clients.gateway.peers.relay import RelayClient, RelayRefusal, slot_path, tls_context
from tests.gateway_kit import NOW, House, StillClock, houses, houses_at_a_relay
from tests.wire import listening
from transfer.ids import Cid, MailboxId, RunId, SiteId, Tid
from transfer.mailbox import Hello
from transfer.messages import encode
from transfer.release import make_ack
from transfer.sites import Identity

CID = Cid(b"c" * 16)
CT = bytes(2**16 + 40)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    async with houses_at_a_relay(tmp_path) as (s, r, _):
        yield s, r


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[RelayClient]:
    """A client whose relay answers every request with these bytes, whatever they are."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)
        writer.write(answer)

    async with listening(serve) as port:
        client = RelayClient(f"http://127.0.0.1:{port}", Identity(b"k" * 32).key, StillClock(), system_random)
        await client.open()
        try:
            yield client
        finally:
            await client.close()


def reply(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body)}",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_messages_go_from_queue_to_queue(both: tuple[House, House]) -> None:
    s, r = both
    await r.relay.health()
    texts = [make_ack(s.identity.key, str(i)) for i in range(3)]
    for text in texts:
        await s.relay.post_message(r.site, text)
    entries = await r.relay.queue(0)
    assert [(e.body, e.source) for e in entries] == [(t, s.site.text) for t in texts]
    assert await r.relay.queue(entries[0].seq) == entries[1:]
    await r.relay.ack([e.seq for e in entries[:2]])
    assert await r.relay.queue(0) == entries[2:]


async def test_packs_go_up_are_listed_read_and_deleted(both: tuple[House, House]) -> None:
    s, _ = both
    for n in (1, 0):
        for _ in range(2):  # the same again is no error
            await s.relay.put_pack(CID, n, "D" if n else "M", CT)
    page = await s.relay.list_packs(CID, 0, wait=0)
    assert [(p.n, p.kind, p.size) for p in page.packs] == [(1, "D", len(CT)), (0, "M", len(CT))]
    assert (await s.relay.list_packs(CID, page.next, wait=0)).packs == []
    assert await s.relay.get_pack(CID, 1) == CT
    with pytest.raises(RelayRefusal) as caught:
        await s.relay.put_pack(CID, 1, "D", CT[:-1] + b"\1")
    assert (caught.value.status, caught.value.code) == (409, "relay-different")
    for _ in range(2):
        await s.relay.delete_packs(CID)
    await s.relay.delete_packs(Cid(b"x" * 16))
    with pytest.raises(RelayRefusal) as caught:
        await s.relay.list_packs(CID, 0, wait=0)
    assert caught.value.status == 410


async def test_a_stranger_to_the_cid_reads_nothing(both: tuple[House, House]) -> None:
    s, r = both
    await s.relay.put_pack(CID, 0, "D", CT)
    with pytest.raises(RelayRefusal) as caught:
        await r.relay.get_pack(CID, 0)
    assert caught.value.status in (403, 404)


async def test_mailboxes(both: tuple[House, House]) -> None:
    s, _ = both
    mailbox, run = MailboxId(b"m" * 16), RunId(b"r" * 16)
    hello = encode(Hello(v=1, tid=Tid(b"t" * 16), s=s.site, exp=NOW + 60))
    for _ in range(2):
        await s.relay.put_hello(mailbox, hello)
        await s.relay.call("PUT", slot_path(mailbox, run, 2), b'{"v":1}')


async def test_a_site_that_is_not_enrolled_is_told_so(both: tuple[House, House], tmp_path: Path) -> None:
    s, _ = both
    new = RelayClient(s.relay.origin, Identity(b"n" * 32).key, s.clock, system_random)
    await new.open()
    with pytest.raises(RelayRefusal) as caught:
        await new.health()
    assert caught.value.code == "relay-unknown-site"
    await new.close()


async def test_an_address_in_capitals_is_the_same_relay(both: tuple[House, House]) -> None:
    s, _ = both
    shouted = s.relay.origin.replace("http://127.0.0.1", "HTTP://127.0.0.1").upper()
    client = RelayClient(shouted, s.identity.key, s.clock, system_random)
    assert client.origin == s.relay.origin
    await client.open()
    await client.health()
    await client.close()


@pytest.mark.parametrize("off", [-7200, 7200])
async def test_a_clock_that_is_hours_off_still_works_and_is_known(
    both: tuple[House, House], off: int
) -> None:
    """The relay answers with its time; the second request is signed for that."""
    s, _ = both
    clock = StillClock(NOW + off)
    client = RelayClient(s.relay.origin, s.identity.key, clock, system_random)
    await client.open()
    await client.health()
    assert client.skew == -off
    clock.at += 10
    await client.health()
    await client.close()


@pytest.mark.parametrize("time", ["", "-5", "1e9", "9" * 40, "٣٣", "nan"])
async def test_a_relay_s_time_that_is_none_is_not_learned(time: str) -> None:
    async with answering(reply(200, TT1_Time=time.encode("utf-8").decode("latin-1"))) as client:
        await client.call("GET", "/v1/queue")
        assert client.skew == 0


async def test_nobody_there(tmp_path: Path) -> None:
    async with houses(tmp_path) as (s, _):
        with pytest.raises(RelayDownError):
            await s.relay.health()


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "x:99999"])
async def test_an_address_that_nobody_can_have(host: str) -> None:
    """In a setting of the administrator's, who hears that the relay is not there."""
    client = RelayClient(f"http://{host}", Identity(bytes(32)).key, StillClock(), system_random)
    await client.open()
    with pytest.raises(RelayDownError):
        await client.health()
    await client.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", reply(500), reply(503), reply(507), reply(429), reply(200, b"x" * 10)[:-5]],
    ids=["silence", "no HTTP", "500", "503", "507", "429", "cut off"],
)
async def test_no_answer_is_try_again_later(answer: bytes) -> None:
    async with answering(answer) as client:
        with pytest.raises(RelayDownError):
            await client.call("GET", "/v1/queue")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply(403, b'{"error":"not-yours"}'), "relay-not-yours"),
        (reply(403, b"<html>proxy</html>"), "relay-refused"),
        (reply(403, b'{"error":["x"]}'), "relay-refused"),
        (reply(403, b'{"error":"' + b"x" * 100 + b'"}'), "relay-refused"),
        (reply(403, b'["error"]'), "relay-refused"),
        (reply(302, b"", Location="http://127.0.0.1:9/"), "relay-refused"),
    ],
)
async def test_no_is_a_refusal_with_a_code_that_is_ours(answer: bytes, code: str) -> None:
    """A redirection is not followed: whoever can answer for the relay must not send our signed requests elsewhere."""
    async with answering(answer) as client:
        with pytest.raises(RelayRefusal) as caught:
            await client.call("GET", "/v1/queue")
    assert caught.value.code == code


async def test_an_answer_without_end_is_cut_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    async with answering(head + bytes(module._ANSWER_CAP + 2**20)) as client:
        with pytest.raises(RelayDownError):
            await client.get_pack(CID, 0)


CALLS: list[Callable[[RelayClient], Awaitable[object]]] = [
    lambda c: c.queue(0),
    lambda c: c.prekeys(SiteId(b"s" * 32)),
    lambda c: c.list_packs(CID, 0, 0),
]


@pytest.mark.parametrize("call", CALLS, ids=["queue", "prekeys", "packs"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"messages":{}}',
        b'{"packs":[[1,2]],"next":"x"}',
        b'{"prekeys":[1]}',
        b"\xff",
    ],
)
async def test_an_answer_in_another_form_is_no_answer(
    call: Callable[[RelayClient], Awaitable[object]], body: bytes
) -> None:
    async with answering(reply(200, body)) as client:
        with pytest.raises(RelayDownError):
            await call(client)


async def test_errors_say_nothing_of_what_was_sent(both: tuple[House, House]) -> None:
    s, _ = both
    secret = "SECRET-BODY"
    with pytest.raises(GatewayError) as caught:
        await s.relay.post_message(s.site, secret)
    assert secret not in str(caught.value)
    assert s.site.hex() not in str(caught.value)


def test_trust_is_the_hospital_s_own_ca_or_the_machine_s(tmp_path: Path) -> None:
    assert tls_context("") is not None
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match="ca_file"):
            tls_context(str(path))
