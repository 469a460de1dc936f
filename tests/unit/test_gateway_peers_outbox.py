"""`clients.gateway.peers.outbox`: nothing leaves before its reader has it, and nothing is sent out of order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clients.gateway.peers import outbox
from clients.gateway.peers.outbox import acknowledged, forget, post
from clients.gateway.peers.relay import SiteEntry
from relay import service
from relay.enroll import enroll
from tests.gateway_kit import DAY, NOW, House, eventually, houses_at_a_relay, running
from transfer.encoding import sha256
from transfer.ids import Cid, MailboxId, RunId, Tid
from transfer.mailbox import Hello, Tombstone
from transfer.messages import Ack, encode, sign_message
from transfer.release import make_ack

MB = MailboxId(b"m" * 16)
RUN = RunId(b"r" * 16)
SLOT6 = f"/m/{MB.hex()}/{RUN.hex()}/6"


class Parties:
    """Two hospitals and their relay."""

    def __init__(self, s: House, r: House, relay: service.Running, data: Path) -> None:
        self.s, self.r, self.relay, self.data = s, r, relay, data
        self.clock = s.clock

    async def post(self, kind: str, target: str, body: str | bytes) -> None:
        await self.s.db.run(lambda con: post(con, kind, target, body, None, self.clock.at))
        self.s.outgoing.set()

    async def left(self, *columns: str) -> list[Any]:
        found = await self.s.rows(f"SELECT {', '.join(columns or ('body',))} FROM outbox ORDER BY id")
        return [tuple(r) if len(r) > 1 else r[0] for r in found]

    async def inbox(self) -> list[SiteEntry]:
        return await self.r.relay.queue(0)

    async def settled(self) -> None:
        """Everything that is due was tried."""

        async def look() -> bool:
            return not await self.s.rows("SELECT 1 FROM outbox WHERE next_at<=?", self.clock.at)

        await eventually(look)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses_at_a_relay(tmp_path) as (s, r, relay):
        yield Parties(s, r, relay, tmp_path / "relay")


def letter(house: House, text: bytes = b"1") -> str:
    """Any signed message."""
    return sign_message(Ack(v=1, of=sha256(text)), house.identity.key)  # type: ignore[arg-type]


async def test_the_same_entry_again_is_the_same_entry(both: Parties) -> None:
    for _ in range(3):
        await both.post("queue", both.r.site.hex(), "same")
    await both.post("queue", both.s.site.hex(), "same")
    await both.post("ack", both.r.site.hex(), "same")
    assert await both.left("kind") == ["queue", "queue", "ack"]


async def test_a_message_stays_until_its_reader_has_it(both: Parties) -> None:
    """The relay's 200 is not the end: a relay may lose what it took."""
    text = letter(both.s)
    await both.post("queue", both.r.site.hex(), text)
    async with running(both.s.outbox.run()):
        await both.settled()
        assert [e.body for e in await both.inbox()] == [text]
        assert await both.left("body", "next_at") == [(text.encode(), NOW + outbox._RESEND)]
        # the relay loses it; a minute later it is there again
        await both.r.relay.ack([e.seq for e in await both.inbox()])
        both.clock.at += outbox._RESEND
        both.s.outgoing.set()
        await both.settled()
        assert [e.body for e in await both.inbox()] == [text]
    await both.s.hear(make_ack(both.r.identity.key, text), both.r)
    assert await both.left() == []


async def test_only_the_addressee_s_word_ends_it(both: Parties) -> None:
    """Another paired site that was told the hash by the relay cannot make a release vanish."""
    text = letter(both.s)
    await both.post("queue", both.r.site.hex(), text)
    digest = sha256(text.encode())
    await both.s.db.run(lambda con: acknowledged(con, digest, both.s.site))
    await both.s.db.run(lambda con: acknowledged(con, sha256(b"other"), both.r.site))
    assert len(await both.left()) == 1
    await both.s.hear(make_ack(both.s.identity.key, text), both.r)
    assert len(await both.left()) == 1
    await both.s.db.run(lambda con: acknowledged(con, digest, both.r.site))
    assert await both.left() == []


async def test_an_ack_leaves_with_the_relay_s_answer(both: Parties) -> None:
    await both.post("ack", both.r.site.hex(), letter(both.s))
    async with running(both.s.outbox.run()):
        await both.settled()
    assert await both.left() == []
    assert len(await both.inbox()) == 1


async def test_backoff_grows_while_the_relay_is_down(both: Parties) -> None:
    await both.relay.stop()
    await both.post("queue", both.r.site.hex(), letter(both.s))
    await both.post("ack", both.r.site.hex(), letter(both.s, b"2"))
    waits = []
    async with running(both.s.outbox.run()):
        for _ in range(10):
            await both.settled()
            ((kind, next_at), (_, other)) = await both.left("kind", "next_at")
            assert kind == "queue"
            assert next_at == other
            waits.append(next_at - both.clock.at)
            both.clock.at = next_at
            both.s.outgoing.set()
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_after_a_restart_it_goes_on(both: Parties) -> None:
    text = letter(both.s)
    await both.post("queue", both.r.site.hex(), text)
    await both.s.restart()
    async with running(both.s.outbox.run()):
        await both.settled()
    assert [e.body for e in await both.inbox()] == [text]


async def test_a_refused_target_holds_no_other_up(both: Parties) -> None:
    """More dead letters than one batch, before the one that matters."""
    for i in range(outbox._BATCH * 2 + 3):
        await both.post("queue", f"{i + 1:064x}", "to nobody")
    text = letter(both.s)
    await both.post("queue", both.r.site.hex(), text)
    async with running(both.s.outbox.run()):
        await eventually(both.inbox)
    assert [e.body for e in await both.inbox()] == [text]
    dead = await both.s.value("SELECT count(*) FROM outbox WHERE target<>?", both.r.site.hex())
    assert dead == outbox._BATCH * 2 + 3, "a message waits for better days: its site may be enrolled yet"


async def test_what_the_relay_will_never_take_is_given_up(both: Parties) -> None:
    await both.post("mailbox", SLOT6, b'{"v":1,"box":"AA"}')  # a mailbox that is not there
    await both.post("ack", f"{1:064x}", letter(both.s))  # a site that is not there
    await both.post("mailbox", f"/m/{MB.hex()}/0", b"not JSON")
    async with running(both.s.outbox.run()):
        await both.settled()
    assert await both.left() == []


async def test_a_site_that_is_not_enrolled_yet_loses_nothing(both: Parties, tmp_path: Path) -> None:
    """The relay refuses it today (401) and takes all of it tomorrow."""
    new = await House(tmp_path / "new", both.clock, both.relay.url).make("New")
    hello = encode(Hello(v=1, tid=Tid(b"t" * 16), s=new.site, exp=NOW + 3600))
    for kind, target, body in (
        ("mailbox", f"/m/{MB.hex()}/0", hello),
        ("ack", both.r.site.hex(), letter(new).encode()),
        ("relay", "delete:" + Cid(b"c" * 16).hex(), b""),
    ):
        await new.db.run(lambda con, k=kind, t=target, b=body: post(con, k, t, b, None, NOW))  # type: ignore[misc]
    async with running(new.outbox.run()):

        async def tried() -> bool:
            return not await new.rows("SELECT 1 FROM outbox WHERE attempts=0")

        await eventually(tried)
        assert len(await new.rows("SELECT 1 FROM outbox")) == 3
        enroll(both.data, new.card, clock=both.clock)
        both.clock.at += outbox._MOST
        new.outgoing.set()

        async def gone() -> bool:
            return not await new.rows("SELECT 1 FROM outbox")

        await eventually(gone)
    await new.close()


async def test_a_phone_s_slot_is_filled_in_order(both: Parties) -> None:
    """Each box has a counter: the second before the first would end the phone's run. The first fails once."""
    await both.relay.stop()
    await both.post("mailbox", SLOT6, b'{"n":1}')
    async with running(both.s.outbox.run()):
        await both.settled()
        await both.post("mailbox", SLOT6, b'{"n":2}')
        await both.post("ack", both.r.site.hex(), letter(both.s))

        async def tried() -> bool:
            return not await both.s.rows("SELECT 1 FROM outbox WHERE kind='ack' AND attempts=0")

        await eventually(tried)
    assert await both.left("body", "attempts") == [
        (b'{"n":1}', 1),
        (b'{"n":2}', 0),
        (letter(both.s).encode(), 1),
    ]
    config = both.s.db
    assert [r["body"] for r in await config.run(both.s.outbox._due)] == []
    both.clock.at += 2
    due = await config.run(both.s.outbox._due)
    assert [r["body"] for r in due] == [b'{"n":1}', letter(both.s).encode()]


async def test_a_message_does_not_wait_for_one_that_is_on_its_way(
    both: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone waits for an answer behind an upload: the entries of one round held up those of the next."""
    deliver, held = both.s.outbox._deliver, asyncio.Event()

    async def slowly(kind: str, target: str, body: bytes) -> None:
        if kind == "mailbox":
            await held.wait()
        await deliver(kind, target, body)

    monkeypatch.setattr(both.s.outbox, "_deliver", slowly)
    await both.post("mailbox", SLOT6, b'{"n":1}')
    async with running(both.s.outbox.run()):
        await asyncio.sleep(0)
        await both.post("ack", both.r.site.hex(), letter(both.s))

        async def gone() -> bool:
            return not await both.s.rows("SELECT 1 FROM outbox WHERE kind='ack'")

        await eventually(gone)
        assert await both.left() == [b'{"n":1}']
        held.set()


async def test_a_tombstone_takes_the_place_of_a_hello_that_waits(both: Parties) -> None:
    path = f"/m/{MB.hex()}/0"
    await both.post("mailbox", path, encode(Hello(v=1, tid=Tid(b"t" * 16), s=both.s.site, exp=NOW + 60)))

    def end(con: Any) -> None:
        forget(con, "mailbox", path)
        post(con, "mailbox", path, encode(Tombstone(v=1, ended="REVOKED")), None, NOW)

    await both.s.db.run(end)
    assert await both.left() == [encode(Tombstone(v=1, ended="REVOKED"))]


async def test_a_page_hears_that_a_code_is_at_the_relay_and_of_no_answer_to_a_phone(both: Parties) -> None:
    hello = encode(Hello(v=1, tid=Tid(b"t" * 16), s=both.s.site, exp=NOW + 60))
    for path, body, woken in ((f"/m/{MB.hex()}/0", hello, 1), (SLOT6, b'{"n":1}', 0)):
        before = both.s.changed.seen
        await both.post("mailbox", path, body)
        async with running(both.s.outbox.run()):
            await both.settled()
        assert both.s.changed.seen - before == woken


async def test_deleting_packs_that_are_gone_is_done(both: Parties) -> None:
    cid = Cid(b"c" * 16)
    ct = b"\0" * (2**16 + 40)
    await both.s.relay.put_pack(cid, 0, "D", ct)
    for _ in range(2):
        await both.post("relay", f"delete:{cid.hex()}", b"")
        async with running(both.s.outbox.run()):
            await both.settled()
        assert await both.left() == []


async def test_nothing_is_sent_for_ever(both: Parties) -> None:
    """A site that was closed down: after 30 days its letters are given up."""
    await both.post("queue", both.r.site.hex(), letter(both.s))
    await both.post("queue", f"{1:064x}", "to nobody")
    both.clock.at += 30 * DAY + 1
    async with running(both.s.outbox.run()):
        await both.settled()
    assert await both.left() == []


async def test_a_clock_that_was_set_back_holds_nothing_up(both: Parties) -> None:
    both.clock.at += 2 * DAY  # what is posted now would be due in two days by the right clock
    target = f"/m/{MB.hex()}/0"
    hello = Hello(v=1, tid=Tid(b"t" * 16), s=both.s.identity.site, exp=NOW + 3600)
    await both.s.db.run(lambda con: post(con, "mailbox", target, encode(hello), None, both.clock.at))
    both.clock.at -= 2 * DAY
    async with running(both.s.outbox.run()):
        both.s.outgoing.set()

        async def sent() -> bool:
            return await both.left() == []

        await eventually(sent)
