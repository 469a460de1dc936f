"""`clients.gateway.sending.ends`: what an end says, to whom, and what is gone then. `offers` has every event."""

from __future__ import annotations

import pytest

from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.peers.relay import hello_path
from clients.gateway.sending.ends import hello_of
from tests.gateway_kit import DAY, HOUR, NOW, Handset, House
from tests.offers_kit import Parties, parties
from transfer import tries
from transfer.ids import MailboxId, Tid
from transfer.mailbox import Hello, Tombstone
from transfer.messages import Close, Release, decode, encode

__all__ = ["parties"]


async def said_to_the_mailbox(s: House, tid: Tid) -> list[bytes]:
    path = hello_path(MailboxId((await s.send(tid))["mailbox"]))
    return [bytes(r[0]) for r in await s.rows("SELECT body FROM outbox WHERE target=? ORDER BY id", path)]


async def test_an_end_leaves_a_tombstone_in_place_of_the_hello(parties: Parties) -> None:
    s, r = parties.s, parties.r
    tid = await s.offer_to(r)
    row = await s.send(tid)
    assert decode(hello_of(row, s.site), Hello) == Hello(v=1, tid=tid, s=s.site, exp=row["exp"])
    assert decode(hello_of({**dict(row), "pin_sealed": None}, s.site), Hello).exp == 0, "its code is over"
    assert await said_to_the_mailbox(s, tid) == [hello_of(row, s.site)]
    await s.offers.stop(tid, "clerk")
    (tombstone,) = await said_to_the_mailbox(s, tid)
    assert decode(tombstone, Tombstone).ended == "REVOKED"
    row = await s.send(tid)
    assert (row["q_sealed"], row["pin_sealed"], row["swept"]) == (None, None, 1)


async def test_a_phone_is_told_each_state_once_and_until_its_slot_is_full(parties: Parties) -> None:
    s, r = parties.s, parties.r
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
    s = parties.s
    with pytest.raises(AbsentError):
        await s.db.run(lambda con: s.offers.tell(con, Tid(bytes(16)), NOW))


# stop, reopen, expire


async def test_stop_before_an_offer_says_nothing_to_anybody(parties: Parties) -> None:
    tid = await parties.bring("PREPARING")
    await parties.s.offers.stop(tid, "clerk")
    kinds = await parties.s.rows("SELECT kind, target FROM outbox")
    assert [(r["kind"], r["target"].split(":")[0]) for r in kinds] == [("relay", "delete")]
    assert (await parties.s.send(tid))["q_sealed"] is None


async def test_stop_leaves_a_tombstone_and_erases_the_code(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    row = await s.send(tid)
    q, pin = bytes(row["q_sealed"]), bytes(row["pin_sealed"])
    await s.offers.stop(tid, "jdoe")
    assert await parties.mailbox(tid) == Tombstone(v=1, ended="REVOKED")
    assert s.on_disk(q, pin) == []
    assert (await s.actions(tid.hex()))[-1] == "transfer.stop"


async def test_stop_after_the_yes_is_said_to_r(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    await parties.s.offers.stop(tid, "clerk")
    (close,) = await parties.letters(Close)
    assert close.state == "REVOKED"


async def test_a_release_that_nobody_took_yet_is_not_sent_after_a_stop(parties: Parties) -> None:
    """The relay was away: what waits for it is the close, and not the key."""
    tid = await parties.bring("RELEASED")
    await parties.s.offers.stop(tid, "clerk")
    assert await parties.letters(Release) == []
    assert [c.state for c in await parties.letters(Close)] == ["REVOKED"]


async def test_reopen_gives_a_new_code_for_the_same_offer(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    before = await s.send(tid)
    old = bytes(before["q_sealed"]), bytes(before["pin_sealed"])
    await s.offers.reopen(tid, "jdoe")
    after = await s.send(tid)
    assert after["offer"] == before["offer"]
    assert after["mailbox"] != before["mailbox"]
    assert s.on_disk(*old) == [], "the old code is nowhere"
    bodies = {
        r["target"]: bytes(r["body"])
        for r in await s.rows("SELECT target, body FROM outbox WHERE kind='mailbox'")
    }
    assert bodies[f"/m/{bytes(before['mailbox']).hex()}/0"] == encode(Tombstone(v=1, ended="REOPENED"))
    assert b'"tid"' in bodies[f"/m/{bytes(after['mailbox']).hex()}/0"]
    assert (await s.actions(tid.hex()))[-1] == "transfer.reopen"


async def test_reopen_three_times_and_no_more(parties: Parties) -> None:
    tid = await parties.bring("OFFERED")
    for _ in range(tries.REOPENS):
        await parties.s.offers.reopen(tid, "jdoe")
    before = await parties.s.send(tid)
    with pytest.raises(GatewayError) as caught:
        await parties.s.offers.reopen(tid, "jdoe")
    assert caught.value.code == "reopen-limit"
    assert (await parties.s.send(tid))["mailbox"] == before["mailbox"]


async def test_expiry_is_by_our_own_clock(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    k = bytes(await s.value("SELECT k_sealed FROM spools"))
    parties.clock.at = NOW + 2 * HOUR - 1
    await s.offers.expire()
    assert await parties.state(tid) == "OFFERED"
    parties.clock.at += 1
    await s.offers.expire()
    assert await parties.state(tid) == "EXPIRED"
    assert s.on_disk(k) == []
    assert await parties.mailbox(tid) == Tombstone(v=1, ended="EXPIRED")
    (close,) = await parties.letters(Close)
    assert close.state == "EXPIRED"


async def test_a_clock_that_jumps_back_takes_no_end_back(parties: Parties) -> None:
    tid = await parties.bring("EXPIRED")
    parties.clock.at = NOW - DAY
    await parties.s.offers.expire()
    assert await parties.state(tid) == "EXPIRED"


# What is erased a day after the end


@pytest.mark.parametrize("end", ["COMPLETE", "PARTIAL", "DENIED", "REVOKED"])
async def test_a_day_past_the_end_no_secret_is_left(parties: Parties, end: str) -> None:
    """q, PIN and the channels' keys: neither in the database file nor in its WAL."""
    s = parties.s
    tid = await parties.bring("OFFERED")
    phone, second = await Handset.scan(s, tid), await Handset.scan(s, tid)
    await phone.ask()
    await second.ask()
    await phone.decide("deny" if end == "DENIED" else "approve")
    row = await s.send(tid)
    secrets = [bytes(row["q_sealed"]), bytes(row["pin_sealed"])]
    if end in ("COMPLETE", "PARTIAL"):
        await parties.receipt(tid, end)
    if end == "REVOKED":
        await s.offers.stop(tid, "clerk")
    assert await parties.state(tid) == end
    secrets += [bytes(r[0]) for r in await s.rows("SELECT channel_sealed FROM tries")]
    parties.clock.at += tries.AFTER_END - 1
    await s.offers.expire()
    assert (await s.send(tid))["q_sealed"] is not None
    assert len(s.on_disk(*secrets)) >= 1
    parties.clock.at += 1
    await s.offers.expire()
    after = await s.send(tid)
    assert (after["q_sealed"], after["pin_sealed"], after["swept"]) == (None, None, 1)
    assert await s.rows("SELECT 1 FROM tries WHERE channel_sealed IS NOT NULL OR m4 IS NOT NULL") == []
    assert s.on_disk(*secrets) == []
    assert await parties.mailbox(tid) == Tombstone(v=1, ended=end)
    for kept in ("offer", "grant_sealed"):
        assert after[kept] is not None
    assert after["receipt"] is not None or end in ("DENIED", "REVOKED")
    outbox = await s.value("SELECT count(*) FROM outbox")
    await s.offers.expire()
    assert await s.value("SELECT count(*) FROM outbox") == outbox, "once is enough"
