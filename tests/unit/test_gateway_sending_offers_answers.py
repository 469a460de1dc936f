"""`clients.gateway.sending.offers`: what R may answer. Receipts, none for a week, and that it declines."""

from __future__ import annotations

from typing import Any

import pytest

from clients.gateway.sending.offers import NO_RECEIPT_ALARM, NO_RECEIPT_END
from tests.gateway_kit import HOUR, NOW
from tests.offers_kit import Parties, parties
from transfer import jws
from transfer.door import receipt_code
from transfer.errors import HashError, SignatureError, StateError
from transfer.ids import Digest, Tid
from transfer.messages import Close, sign_message

__all__ = ["parties"]


# receipts


async def test_a_receipt_ends_it(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("RELEASED")
    k = bytes(await s.value("SELECT k_sealed FROM spools"))
    text = await parties.receipt(tid)
    row = await s.send(tid)
    assert (row["state"], row["why"], row["receipt"], row["ended_at"]) == ("COMPLETE", "", text, NOW)
    assert s.on_disk(k) == []
    assert len(await s.letters("ack")) == 1
    assert (await s.actions(tid.hex()))[-1] == "receipt.complete"


async def test_a_receipt_with_gaps_is_a_partial_end(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    await parties.receipt(tid, "PARTIAL")
    row = await parties.s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "gaps")


async def test_what_was_never_sent_is_never_complete(parties: Parties) -> None:
    """R has all that we announced; we know of an image that could not be read here."""
    tid = await parties.bring("RELEASED")
    await parties.s.execute("UPDATE spools SET unsent=1")
    await parties.receipt(tid, "COMPLETE")
    row = await parties.s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "unsent")


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": Digest(b"?" * 32)},
        {"grant": Digest(b"?" * 32)},
        {"offer": Digest(b"?" * 32)},
        {"tid": Tid(b"?" * 16)},
    ],
    ids=["manifest", "grant", "offer", "tid"],
)
async def test_a_receipt_for_anything_else_is_refused(parties: Parties, change: dict[str, Any]) -> None:
    tid = await parties.bring("RELEASED")
    with pytest.raises(HashError):
        await parties.receipt(tid, **change)
    row = await parties.s.send(tid)
    assert (row["state"], row["receipt"]) == ("RELEASED", None)
    assert await parties.s.letters("ack") == []


async def test_a_receipt_by_anybody_else_is_refused(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    with pytest.raises(SignatureError):
        await parties.receipt(tid, key=parties.s.identity.key)
    text = await parties.receipt(tid)
    await parties.s.execute("UPDATE sends SET state='RELEASED', receipt=NULL")
    with pytest.raises(StateError):
        await parties.s.offers.receipt(text, parties.s.site, tid)
    assert await parties.state(tid) == "RELEASED"


@pytest.mark.parametrize(("first", "second"), [("PARTIAL", "COMPLETE"), ("COMPLETE", "PARTIAL")])
async def test_a_later_receipt_replaces_the_text_and_never_the_state(
    parties: Parties, first: str, second: str
) -> None:
    tid = await parties.bring(first)
    parties.clock.at += HOUR
    later = await parties.receipt(tid, second)
    row = await parties.s.send(tid)
    assert (row["state"], row["receipt"]) == (first, later)
    assert len(await parties.s.letters("ack")) == 2


async def test_an_earlier_receipt_again_replaces_nothing(parties: Parties) -> None:
    """The relay may bring old letters again: they are acknowledged and change nothing, not even the log."""
    tid = await parties.bring("RELEASED")
    first = await parties.receipt(tid, "PARTIAL")
    parties.clock.at += HOUR
    later = await parties.receipt(tid, "COMPLETE")
    log = await parties.s.actions()
    for text in (first, later, first, later):
        await parties.s.offers.receipt(text, parties.r.site, tid)
    assert (await parties.s.send(tid))["receipt"] == later
    assert await parties.s.actions() == log


async def test_a_receipt_after_a_stop_is_kept_and_changes_no_state(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    await parties.s.offers.stop(tid, "clerk")
    text = await parties.receipt(tid, "PARTIAL")
    row = await parties.s.send(tid)
    assert (row["state"], row["receipt"]) == ("REVOKED", text)
    assert len(receipt_code(text)) == 9


async def test_no_receipt_for_a_day_is_an_alarm_and_for_a_week_the_end(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("RELEASED")
    parties.clock.at = NOW + NO_RECEIPT_ALARM - 1
    await s.offers.expire()
    assert await s.alarms(tid) == []
    parties.clock.at += 1
    seen = s.changed.seen
    await s.offers.expire()
    assert await s.alarms(tid) == ["no-receipt"]
    assert s.changed.seen > seen, "the desk is told"
    seen = s.changed.seen
    parties.clock.at += 1
    await s.offers.expire()
    assert s.changed.seen == seen, "once"
    parties.clock.at = NOW + NO_RECEIPT_END - 1
    await s.offers.expire()
    assert await parties.state(tid) == "RELEASED"
    parties.clock.at += 1
    await s.offers.expire()
    row = await s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "no-receipt")
    assert await s.value("SELECT k_sealed FROM spools") is None
    late = await parties.receipt(tid)
    assert ((await s.send(tid))["state"], (await s.send(tid))["receipt"]) == ("PARTIAL", late)


# R declines


@pytest.mark.parametrize("why", ["kid-unknown", "clock", "expired", ""])
async def test_declined_before_the_answer_is_an_alarm(parties: Parties, why: str) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    for _ in range(3):
        await parties.declined(tid, why)
        parties.clock.at += 1
    row = await s.send(tid)
    assert (row["state"], row["why"]) == ("OFFERED", why)
    assert await s.alarms(tid) == [why or "declined"]
    assert (await s.actions(tid.hex())).count("transfer.declined") == 1
    assert len(await s.letters("ack")) == 3


async def test_declined_after_the_yes_is_the_end(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("RELEASED")
    await parties.declined(tid, "expired")
    row = await s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "expired")
    assert await s.alarms(tid) == ["expired"]
    assert await s.value("SELECT k_sealed FROM spools") is None


async def test_r_may_say_nothing_but_declined(parties: Parties) -> None:
    tid = await parties.bring("OFFERED")
    for change in (
        {"state": "REVOKED"},
        {"state": "DENIED"},
        {"offer": Digest(b"?" * 32)},
        {"tid": Tid(b"?" * 16)},
    ):
        with pytest.raises(HashError):
            await parties.declined(tid, **change)
    offer = jws.digest((await parties.s.send(tid))["offer"])
    own = Close(v=1, tid=tid, offer=offer, state="DECLINED", why="", iat=NOW)
    text = sign_message(own, parties.s.identity.key)
    with pytest.raises(StateError):
        await parties.s.offers.declined(text, parties.s.site, tid)
    assert await parties.s.alarms(tid) == []
