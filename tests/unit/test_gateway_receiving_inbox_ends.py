"""`clients.gateway.receiving.inbox`: how a transfer ends at R, and what its receipt or its close says."""

from __future__ import annotations

import pytest

from clients.gateway.receiving.inbox import peek_end
from tests.gateway_kit import HOUR, NOW, carry
from tests.inbox_kit import Parties, list_items, p
from tests.transfer_kit import CID, S
from transfer import jws
from transfer.ids import Tid
from transfer.manifest import ChainWriter
from transfer.messages import Receipt, open_message, peek
from transfer.release import KEEP
from transfer.states import TERMINAL

__all__ = ["p"]


async def a_receipt(p: Parties, tid: Tid) -> Receipt:
    row = await p.r.receive(tid)
    assert row["receipt"] in await p.r.letters()
    receipt = open_message(Receipt, row["receipt"], p.r.site)
    assert receipt.grant == jws.digest(p.r.vault.open("grant", row["grant_sealed"]).decode())
    assert receipt.offer == jws.digest(row["offer"])
    return receipt


async def test_everything_stored_is_complete(p: Parties) -> None:
    tid = await p.opened()
    record = await list_items(p, tid, "stored", "stored", want=2)
    k = bytes((await p.r.receive(tid))["k_sealed"])
    await p.r.inbox.finish(tid, "delivered")
    receipt = await a_receipt(p, tid)
    assert (receipt.state, receipt.gaps, receipt.proof, receipt.manifest) == (
        "COMPLETE",
        [],
        "store",
        jws.digest(record),
    )
    assert await p.state(tid) == "COMPLETE"
    assert p.r.on_disk(k, k[24:]) == [], "the key is nowhere"
    await p.r.inbox.finish(tid, "gave-up")
    assert await p.state(tid) == "COMPLETE"


async def test_what_is_missing_is_named_by_number(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", "failed", "stored", "sending", "listed")
    await p.r.inbox.finish(tid, "gave-up", "pacs")
    receipt = await a_receipt(p, tid)
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [1, 3, 4])
    assert b"2.25." not in jws.unverified_payload(Receipt.NAME, (await p.r.receive(tid))["receipt"], 65536)


async def test_images_that_the_sender_lost_are_no_complete_study(p: Parties) -> None:
    """All that was listed is stored; the sender's own count says that there were more."""
    tid = await p.opened()
    await list_items(p, tid, "stored", "stored", want=3)
    await p.r.inbox.finish(tid, "delivered")
    row = await p.r.receive(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "unsent")
    assert ((await a_receipt(p, tid)).state, (await a_receipt(p, tid)).gaps) == ("PARTIAL", [])


async def test_a_manifest_without_an_end_is_never_complete(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", end=False)
    await p.r.inbox.finish(tid, "gave-up", "no-end")
    assert (await a_receipt(p, tid)).state == "PARTIAL"


@pytest.mark.parametrize(
    ("why", "said"), [("chain", "chain"), ("pack", "pack"), ("hash", "hash"), ("no-end", "")]
)
async def test_without_any_record_s_is_told_by_a_close(p: Parties, why: str, said: str) -> None:
    """There is no record that a receipt could name; S must not wait a week for it."""
    tid = await p.opened()
    await p.r.inbox.finish(tid, "gave-up" if why == "no-end" else "chain", why)
    assert (await p.r.receive(tid))["receipt"] is None
    assert await p.declined() == [said]
    await carry(p.r, p.s)
    assert (await p.s.send(tid))["state"] == "PARTIAL"


async def test_a_broken_chain_is_an_alarm(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", "listed", end=False)
    await p.r.inbox.finish(tid, "chain", "chain")
    assert await p.r.alarms(tid) == ["chain"]
    assert (await a_receipt(p, tid)).gaps == [1]


async def test_revoked_after_the_yes_says_what_was_delivered(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", "listed", end=False)
    offer = (await p.r.receive(tid))["offer"]
    k = bytes((await p.r.receive(tid))["k_sealed"])
    await p.hear(p.close(tid, offer, "REVOKED"))
    assert (await a_receipt(p, tid)).gaps == [1]
    assert p.r.on_disk(k) == []


async def test_a_receipt_waits_until_s_has_it(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored")
    await p.r.inbox.finish(tid, "delivered")
    receipt = (await p.r.receive(tid))["receipt"]
    await p.r.restart()
    assert receipt in await p.r.letters()
    await p.s.execute("INSERT INTO records SELECT cid, 0, 0, ? FROM spools", peek(Receipt, receipt).manifest)
    await carry(p.r, p.s)
    assert await p.r.letters() == []
    assert (await p.s.send(tid))["state"] == "COMPLETE"


async def test_expiry_is_48_hours_past_the_offer_s_end(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    p.clock.at = NOW + 2 * HOUR + KEEP - 1
    await p.r.inbox.expire()
    assert await p.state(tid) == "SEEN"
    p.clock.at += 1
    await p.r.inbox.expire()
    assert await p.state(tid) == "EXPIRED"
    assert "EXPIRED" in TERMINAL


def test_the_last_record_says_so() -> None:
    writer = ChainWriter(CID, S.key)
    assert not peek_end(writer.record([], [], []))
    assert peek_end(writer.record([], [], [], total=0))
