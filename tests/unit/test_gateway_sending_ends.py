"""`clients.gateway.sending.ends`: what an end says, to whom, and what is gone then. `offers` has every event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.errors import AbsentError
from clients.gateway.peers.relay import hello_path
from clients.gateway.sending.ends import hello_of
from tests.gateway_kit import NOW, Handset, House, houses
from transfer.ids import MailboxId, Tid
from transfer.mailbox import Hello, Tombstone
from transfer.messages import decode

Parties = tuple[House, House]


@pytest.fixture
async def parties(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses(tmp_path) as both:
        yield both


async def said_to_the_mailbox(s: House, tid: Tid) -> list[bytes]:
    path = hello_path(MailboxId((await s.send(tid))["mailbox"]))
    return [bytes(r[0]) for r in await s.rows("SELECT body FROM outbox WHERE target=? ORDER BY id", path)]


async def test_an_end_leaves_a_tombstone_in_place_of_the_hello(parties: Parties) -> None:
    s, r = parties
    tid = await s.offer_to(r)
    row = await s.send(tid)
    assert decode(hello_of(row, s.site), Hello) == Hello(v=1, tid=tid, s=s.site, exp=row["exp"])
    assert await said_to_the_mailbox(s, tid) == [hello_of(row, s.site)]
    await s.offers.stop(tid, "clerk")
    (tombstone,) = await said_to_the_mailbox(s, tid)
    assert decode(tombstone, Tombstone).ended == "REVOKED"
    row = await s.send(tid)
    assert (row["q_sealed"], row["pin_sealed"], row["swept"]) == (None, None, 1)


async def test_a_phone_is_told_each_state_once_and_until_its_slot_is_full(parties: Parties) -> None:
    s, r = parties
    tid = await s.offer_to(r)
    silent, phone = await Handset.scan(s, tid), await Handset.scan(s, tid)
    await silent.start()
    await phone.ask()
    assert (await phone.decide()).state == "RELEASED"
    await s.db.run(lambda con: s.offers.tell(con, tid, NOW))
    assert len(await phone.answers(6)) == 1, "that one it knows"
    for _ in range(40):  # its wishes are answered one by one
        await s.db.run(lambda con: s.offers.tell(con, tid, NOW, run=bytes(phone.door.run), refused="late"))
    assert len(await phone.answers(6)) <= 32, "as many as the slot takes"
    assert await silent.answers(6) == [], "it has asked for nothing"


async def test_of_a_transfer_that_is_not_there_nobody_is_told(parties: Parties) -> None:
    s, _ = parties
    with pytest.raises(AbsentError):
        await s.db.run(lambda con: s.offers.tell(con, Tid(bytes(16)), NOW))
