"""`clients.gateway.peers.dispatch`: what comes from the relay goes to whom it concerns, or away, and never in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from clients.gateway.peers import dispatch
from clients.gateway.peers.relay import SiteEntry
from tests.gateway_kit import (
    DAY,
    HOUR,
    NOW,
    Handset,
    House,
    carry,
    eventually,
    houses,
    houses_at_a_relay,
    running,
)
from transfer import jws
from transfer.encoding import sha256
from transfer.errors import KeyUnknownError
from transfer.ids import Digest, Tid
from transfer.mailbox import Hello
from transfer.messages import Ack, Close, Offer, Prekey, encode, peek, sign_message
from transfer.sites import Identity


class Parties:
    def __init__(self, s: House, r: House, data: Path) -> None:
        self.s, self.r, self.data = s, r, data
        self.clock = s.clock


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses_at_a_relay(tmp_path) as (s, r, _):
        yield Parties(s, r, tmp_path / "relay")


async def queue_of(house: House) -> list[SiteEntry]:
    """What the relay still has for a site."""
    data = await house.relay.call("GET", "/v1/queue?after=0&wait=0")
    found = msgspec.json.decode(data)["messages"]
    return [msgspec.convert(m, SiteEntry) for m in found]


async def emptied(house: House) -> None:
    async def look() -> bool:
        return not await queue_of(house)

    await eventually(look)


async def test_an_offer_arrives_is_acknowledged_and_leaves_the_relay(both: Parties) -> None:
    s, r = both.s, both.r
    async with running(s.outbox.run(), r.outbox.run(), s.dispatch.run(), r.dispatch.run()):
        tid = await s.offer_to(r)

        async def done() -> bool:
            return not await s.rows("SELECT 1 FROM outbox WHERE kind='queue'")

        await eventually(done)
        await emptied(r)
        await emptied(s)
        assert r.dispatch.reachable
    assert (await r.receive(tid))["state"] == "SEEN"


async def test_a_phone_s_message_reaches_the_doors(both: Parties) -> None:
    tid = await both.s.offer_to(both.r)
    phone = await Handset.scan(both.s, tid)
    async with running(both.s.outbox.run(), both.s.dispatch.run()):

        async def open_() -> bool:
            return not await both.s.rows("SELECT 1 FROM outbox WHERE target=?", f"/m/{phone.mailbox.hex()}/0")

        await eventually(open_)
        hello = encode(Hello(v=1, tid=tid, s=both.s.site, exp=NOW + HOUR))
        base = f"{both.s.relay.origin}/m/{phone.mailbox.hex()}/{phone.door.run.hex()}"
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{base}/1", data=encode(phone.door.hello(hello))) as answer:
                assert answer.status == 200
            async with session.get(f"{base}/2?wait=25") as answer:
                assert answer.status == 200
        await emptied(both.s)


@pytest.mark.parametrize(
    "body",
    [
        "", "x", "a.b.c", "." * 100, {"v": 1}, {}, 5, None, [], "x" * 60_000,
    ],
    ids=["empty", "x", "abc", "dots", "object", "empty object", "number", "null", "list", "long"],
)  # fmt: skip
async def test_what_is_no_message_is_dropped(both: Parties, body: Any) -> None:
    await both.r.dispatch.handle(SiteEntry(seq=1, at=NOW, body=body, source=both.s.site.text))
    assert await both.r.rows("SELECT * FROM outbox") == []


@pytest.mark.parametrize("source", ["", "x", "A" * 43, "é"])
async def test_a_source_that_is_no_site_is_dropped(both: Parties, source: str) -> None:
    await both.r.dispatch.handle(SiteEntry(seq=1, at=NOW, body="a.b.c", source=source))
    assert await both.r.rows("SELECT * FROM outbox") == []


async def test_a_kind_of_message_that_is_not_for_a_queue_is_dropped(both: Parties) -> None:
    await both.r.hear(both.s.card, both.s)
    await both.r.hear(await _prekey(both.s), both.s)
    assert await both.r.rows("SELECT * FROM outbox") == []


async def _prekey(house: House) -> str:
    await house.pins.renew()
    text: str = await house.value("SELECT message FROM prekeys")
    assert peek(Prekey, text).site == house.site
    return text


async def test_a_site_that_nobody_paired_is_one_alarm(both: Parties, tmp_path: Path) -> None:
    """Enrolled at the relay, it may write to us; it learns nothing, and fills nothing."""
    stranger = await House(tmp_path / "x", both.clock).make("Stranger")
    await stranger.pin(both.r)
    await stranger.offer_to(both.r)
    (offer,) = await stranger.letters()
    for _ in range(20):
        await both.r.hear(offer, stranger)
    assert await both.r.alarms(None) == ["unknown-site"]
    assert await both.r.rows("SELECT * FROM receives") == []
    assert await both.r.rows("SELECT * FROM outbox") == []
    await stranger.close()


async def test_the_relay_cannot_say_that_a_message_is_another_site_s(both: Parties, tmp_path: Path) -> None:
    other = await House(tmp_path / "o", both.clock).make("Other")
    await both.r.pin(other)
    await both.s.offer_to(both.r)
    (offer,) = await both.s.letters()
    await both.r.hear(offer, other)
    assert await both.r.rows("SELECT * FROM receives") == []
    assert await both.r.rows("SELECT * FROM outbox") == []
    await other.close()


async def test_messages_for_transfers_that_are_not_here_are_dropped(both: Parties) -> None:
    tid = await both.s.offer_to(both.r)
    await carry(both.s, both.r)
    phone = await Handset.scan(both.s, tid)
    await phone.ask()
    await phone.decide()
    offer = (await both.s.send(tid))["offer"]
    await both.r.db.run(
        lambda con: both.r.inbox._decline(con, tid, jws.digest(offer), both.s.site, KeyUnknownError(), NOW)
    )
    (close,) = await both.r.letters()
    await both.s.hear(close, both.r)
    elsewhere = sign_message(
        msgspec.structs.replace(peek(Close, close), tid=Tid(b"?" * 16)), both.r.identity.key
    )
    await both.s.hear(elsewhere, both.r)


async def test_an_ack_must_be_signed_by_whom_it_comes_from(both: Parties) -> None:
    await both.s.offer_to(both.r)
    (offer,) = await both.s.letters()
    forged = sign_message(Ack(v=1, of=Digest(sha256(offer.encode()))), Identity(b"f" * 32).key)
    await both.s.hear(forged, both.r)
    assert await both.s.letters() == [offer]


async def test_what_could_not_be_stored_comes_again_by_itself(
    both: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk for a moment: the message stays at the relay, and is asked for again without a restart."""
    monkeypatch.setattr(dispatch, "_REST", 0.01)
    s, r = both.s, both.r
    study = await s.a_study()
    tids = [await s.offer_to(r, study) for _ in range(12)]
    texts = await s.letters()
    later = [sign_message(Ack(v=1, of=Digest(sha256(bytes([i])))), s.identity.key) for i in range(3)]
    async with running(r.dispatch.run()):
        async with r.full_disk():
            for text in texts + later:  # the later ones move the queue's number past those that wait
                await s.relay.post_message(r.site, text)

            async def some_wait() -> bool:
                left = {e.body for e in await queue_of(r)}
                return bool(left) and left < set(texts)

            await eventually(some_wait)
        await emptied(r)
    assert {r_["tid"] for r_ in await r.rows("SELECT tid FROM receives WHERE state='SEEN'")} == set(tids)


async def test_a_message_that_trips_the_program_holds_no_other_up(
    both: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fault of ours one message finds, those behind it are taken; it stays at the relay."""
    s, r = both.s, both.r
    tid = await s.offer_to(r)
    (offer,) = await s.letters()
    bad = sign_message(Ack(v=1, of=Digest(b"b" * 32)), s.identity.key)
    handle = r.dispatch.handle

    async def trip(entry: SiteEntry) -> None:
        if entry.body == bad:
            raise ZeroDivisionError
        await handle(entry)

    monkeypatch.setattr(r.dispatch, "handle", trip)
    async with running(r.dispatch.run()) as (task,):
        for text in (bad, offer):
            await s.relay.post_message(r.site, text)

        async def seen() -> bool:
            return bool(await r.rows("SELECT 1 FROM receives WHERE tid=?", tid))

        await eventually(seen)
        assert not task.done()
    assert [e.body for e in await queue_of(r)] == [bad]


async def test_the_same_entries_again_after_a_restart_change_nothing(both: Parties) -> None:
    s, r = both.s, both.r
    tid = await s.offer_to(r)
    (offer,) = await s.letters()
    for _ in range(3):
        await r.hear(offer, s)
        await r.restart()
    assert (await r.receive(tid))["state"] == "SEEN"
    assert await r.actions(tid.hex()) == ["incoming.offer"]
    assert len(await r.letters("ack")) == 1
    assert peek(Offer, offer).exp < NOW + DAY


async def test_a_relay_that_is_down_is_known_and_waited_for(tmp_path: Path) -> None:
    async with houses(tmp_path) as (s, _):
        s.dispatch.reachable = True
        async with running(s.dispatch.run()) as (task,):

            async def noticed() -> bool:
                return not s.dispatch.reachable

            await eventually(noticed)
            assert not task.done()
