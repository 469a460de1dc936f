"""`clients.gateway.sending.doors`: what a phone may decide, what it hears then, and what it may ask for afterwards."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.gateway_kit import NOW, Handset
from tests.phones_kit import Parties, offered
from tests.transfer_kit import a_grant, payload, signed
from transfer import jws
from transfer.channel import ChannelState
from transfer.ids import BlobKey
from transfer.mailbox import Decided, Sealed
from transfer.messages import Close, Grant, encode, name_of, open_message
from transfer.tries import AFTER_END

__all__ = ["offered"]


async def test_an_answer_again_is_the_same_answer(offered: Parties) -> None:
    """Until its m6 is there a phone repeats m5; and a relay may bring an old one again."""
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    await phone.decide()
    yes = phone.m5
    for _ in range(3):
        await phone.post(5, yes)
    assert len(await phone.answers(6)) == 1
    status = await phone.stop()
    assert status.state == "REVOKED"
    await phone.post(5, yes)
    await phone.post(5, phone.m5)
    assert len(await phone.answers(6)) == 2
    run = await s.one("SELECT channel_sealed FROM tries")
    assert run["channel_sealed"] is not None, "an old answer again is no reason to end the run"


async def test_a_box_that_does_not_open_ends_the_run(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    await phone.post(5, encode(Sealed(v=1, box=BlobKey(b"x" * 40))))
    assert (await s.one("SELECT channel_sealed FROM tries"))["channel_sealed"] is None
    phone.m5 = encode(phone.door.decide("approve", by="patient", name="", rel="self", lang="en", t=NOW))
    await phone.post(5, phone.m5)
    assert (await s.send(tid))["state"] == "OFFERED"
    await (await Handset.scan(s, tid)).ask()


async def test_the_first_of_two_phones_decides(offered: Parties) -> None:
    s, _, tid = offered
    one, two = await Handset.scan(s, tid), await Handset.scan(s, tid)
    await one.ask()
    await two.ask()
    assert (await one.decide("deny")).state == "DENIED"
    status = await two.decide("approve", by="proxy", name="A", rel="parent")
    assert (status.state, status.refused) == ("DENIED", "decided")
    assert status.decided == Decided("deny", NOW), "what, and when"


async def test_both_decide_at_the_same_moment(offered: Parties) -> None:
    s, _, tid = offered
    phones = [await Handset.scan(s, tid) for _ in range(4)]
    for phone in phones:
        await phone.ask()
    found = await asyncio.gather(*(p.decide("approve" if i % 2 else "deny") for i, p in enumerate(phones)))
    assert sorted(f.refused for f in found) == ["", "decided", "decided", "decided"]
    assert len({f.state for f in found}) == 1
    assert len([t for t in await s.actions(tid.hex()) if t in ("transfer.approve", "transfer.deny")]) == 1


async def test_an_answer_after_the_time_is_refused(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    s.clock.at = (await s.send(tid))["exp"]
    status = await phone.decide()
    assert (status.state, status.refused, status.decided) == ("OFFERED", "expired", None)
    assert (await s.send(tid))["release"] is None


async def test_a_grant_for_another_offer_is_refused(offered: Parties) -> None:
    """The same phone key, the same person: for the offer that they read, and for no other."""
    s, r, tid = offered
    other = await s.offer_to(r)
    one, two = await Handset.scan(s, tid), await Handset.scan(s, other)
    await one.ask()
    await two.ask()
    two.door._hash = one.door._hash  # type: ignore[attr-defined]
    status = await two.decide()
    assert status.refused == "hash"
    assert (await s.send(other))["state"] == "OFFERED"


@pytest.mark.parametrize(
    ("name", "why"), [("\u202eenaJ", "header"), ("Jane\x00", "header"), ("x" * 3000, "size")]
)
async def test_a_name_that_no_honest_page_signs_decides_nothing(
    offered: Parties, name: str, why: str
) -> None:
    """A page that neither cleans nor bounds what was typed: S takes no such grant, and says so."""
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    offer = jws.digest((await s.send(tid))["offer"])
    body = payload(a_grant(by="proxy", rel="other", name="Jane", tid=tid, offer=offer), name=name)
    status = await phone.say(signed(Grant, body, phone.door._key))
    assert (status.state, status.refused) == ("OFFERED", why)
    assert (await s.send(tid))["grant_sealed"] is None
    assert (await (await Handset.scan(s, tid)).ask()).decided is None


async def test_a_phone_is_told_what_became_of_it(offered: Parties) -> None:
    s, _, tid = offered
    phone, late = await Handset.scan(s, tid), await Handset.scan(s, tid)
    await phone.ask()
    await phone.decide()
    await late.ask()
    await s.offers.stop(tid, "jdoe")
    told = [phone.door.status(b) for b in (await phone.answers(6))[1:]]
    assert [t.state for t in told] == ["REVOKED"]
    assert await late.answers(6) == [], "it has asked nothing yet: its counters are untouched"


async def test_after_a_decision_the_page_answers_for_a_day(offered: Parties) -> None:
    s, _, tid = offered
    first = await Handset.scan(s, tid)
    await first.ask()
    await first.decide("deny")
    second = await Handset.scan(s, tid)
    s.clock.at = NOW + AFTER_END - 1
    asked = await second.ask()
    assert asked.state == "DENIED"
    assert asked.decided is not None
    third = await Handset.scan(s, tid)
    s.clock.at = NOW + AFTER_END
    await third.start()
    assert await third.answers(2) == []


async def test_without_a_decision_the_end_is_the_end(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await s.offers.stop(tid, "jdoe")
    await phone.start()
    assert await phone.answers(2) == []


async def test_stop_is_for_who_said_yes(offered: Parties) -> None:
    s, _, tid = offered
    no = await Handset.scan(s, tid)
    await no.ask()
    await no.decide("deny")
    assert (await no.stop()).refused == "decided"
    assert (await s.send(tid))["state"] == "DENIED"


@pytest.mark.parametrize("state", ["COMPLETE", "PARTIAL"])
async def test_a_stop_after_the_end_is_told_and_takes_nothing_back(offered: Parties, state: str) -> None:
    """The end stays; the phone hears that it was too late, staff see the wish, and R gets one close."""
    s, _, tid = offered
    one, two = await Handset.scan(s, tid), await Handset.scan(s, tid)
    await one.ask()
    await one.decide()
    await s.execute("UPDATE sends SET state=?, ended_at=?", state, NOW)
    await two.ask()
    for phone in (one, two):
        status = await phone.stop()
        assert (status.state, status.refused) == (state, "decided")
    assert (await s.send(tid))["state"] == state
    assert (await s.actions(tid.hex())).count("transfer.stop-asked") == 1
    assert len(await s.alarms(tid)) == 1
    closes = [text for text in await s.letters() if name_of(text) == Close.NAME]
    assert [open_message(Close, text, s.site).state for text in closes] == ["REVOKED"]


async def test_a_counter_is_never_used_twice(offered: Parties) -> None:
    """Each box that leaves has its own number, also over a restart in between."""
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    await phone.decide()
    await s.restart()
    await phone.stop()
    sealed = await s.value("SELECT channel_sealed FROM tries")
    state = msgspec.json.decode(s.vault.open("channel", sealed), type=ChannelState)
    assert (state.sent, state.received) == (1 + 2, 2)
    assert len(set(await phone.answers(6))) == 2


async def test_keys_of_a_channel_are_sealed_on_disk(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    state = phone.door._channel.state  # type: ignore[attr-defined]
    assert s.on_disk(state.out_key, state.in_key) == []
