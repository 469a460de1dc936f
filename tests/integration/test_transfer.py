"""A study travels: every end that a transfer can have, over real parties."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from clients.drill import Phone
from clients.gateway.errors import GatewayError
from clients.gateway.store import audit
from clients.gateway.views import TransferView
from tests.world import World, hashes
from transfer import tries
from transfer.door import EndedError, WrongPinError
from transfer.errors import LockedError
from transfer.messages import encode


async def wrong_pin(view: TransferView) -> WrongPinError | LockedError:
    """What a phone hears that types a wrong PIN."""
    pin = f"{(int(view.pin) + 1) % 10**6:06d}"
    async with Phone(view.link, pin) as phone:
        with pytest.raises((WrongPinError, LockedError)) as caught:
            await phone.ask()
    assert isinstance(caught.value, (WrongPinError, LockedError))
    return caught.value


async def test_complete_byte_for_byte(world: World, study: Path) -> None:
    offered = await world.offer(study)
    seen = await world.receiver.until(offered.tid, "SEEN")
    assert seen.patient_name == ""
    assert await world.answer(offered) == "RELEASED"
    end = await world.sender.until(offered.tid, "COMPLETE")
    there = await world.receiver.until(offered.tid, "COMPLETE")
    sent = hashes(study)
    assert world.stored() == sent
    assert (end.stored, end.gaps, end.proof) == (len(sent), 0, "store")
    assert end.receipt_code == there.receipt_code != ""
    assert end.decided_by == there.decided_by == "patient"
    assert there.patient_name != ""
    assert there.total == len(sent)
    assert sum(s.have for s in there.series) == len(sent)


async def test_yes_before_the_upload_ends(world: World, study: Path) -> None:
    """The answer overtakes the images: R opens what it has and goes on as the rest arrives."""
    result = await world.sender.engine.import_path(str(study), "test")
    view = await world.sender.engine.send(result["studies"][0], "Lakeside Trauma Center", "transfer", "test")
    await world.answer(view)
    await world.sender.until(view.tid, "COMPLETE")
    assert world.stored() == hashes(study)


async def test_deny_is_final(world: World, study: Path) -> None:
    offered = await world.offer(study)
    assert await world.answer(offered, "deny") == "DENIED"
    await world.receiver.until(offered.tid, "DENIED")
    async with Phone(offered.link, offered.pin) as second:
        asked = await second.ask()
        assert asked.decided is not None
        assert asked.decided.d == "deny"
        status = await second.decide("approve", by="proxy", name="A. Proxy", rel="parent")
        assert (status.state, status.refused) == ("DENIED", "decided")
    with pytest.raises(GatewayError, match="state"):
        await world.sender.engine.cancel(offered.tid, "test")
    assert world.stored() == {}


async def test_first_of_two_phones_decides(world: World, study: Path) -> None:
    offered = await world.offer(study)
    async with Phone(offered.link, offered.pin) as one, Phone(offered.link, offered.pin) as two:
        await asyncio.gather(one.ask(), two.ask())
        first = await one.decide("approve", by="proxy", name="Chris Proxy", rel="spouse")
        assert (first.state, first.refused) == ("RELEASED", "")
        second = await two.decide("deny", by="patient", name="", rel="self")
        assert second.refused == "decided"
        assert second.decided is not None
        assert second.decided.d == "approve"
    view = await world.sender.until(offered.tid, "COMPLETE")
    assert view.decided_by == "proxy: Chris Proxy (spouse)"


async def test_wrong_pins_lock_and_staff_reopen(world: World, study: Path) -> None:
    offered = await world.offer(study)
    for left in range(tries.MAX - 1, 0, -1):
        why = await wrong_pin(offered)
        assert isinstance(why, WrongPinError)
        assert why.left == left
    assert isinstance(await wrong_pin(offered), LockedError)
    async with Phone(offered.link, offered.pin) as right:
        with pytest.raises(LockedError):
            await right.ask()
    locked = await world.sender.engine.transfer(offered.tid)
    assert locked.locked
    assert locked.tries_left == 0
    assert locked.reopens_left == 3
    opened = await world.sender.engine.reopen(offered.tid, "test")
    assert opened.tid == offered.tid
    assert opened.link != offered.link
    assert opened.tries_left == tries.MAX
    async with Phone(offered.link, offered.pin) as old:
        with pytest.raises(EndedError):
            await old.ask()
    await world.answer(opened)
    await world.sender.until(offered.tid, "COMPLETE")


async def test_reopen_three_times_only(world: World, study: Path) -> None:
    offered = await world.offer(study)
    for _ in range(tries.REOPENS):
        await world.sender.engine.reopen(offered.tid, "test")
    with pytest.raises(GatewayError, match="reopen-limit"):
        await world.sender.engine.reopen(offered.tid, "test")


async def test_expired_and_asked_again(world: World, study: Path) -> None:
    offered = await world.offer(study)
    world.sender.clock.skew = 7300
    world.sender.rooms.changed.set()
    await world.sender.until(offered.tid, "EXPIRED")
    world.sender.clock.skew = 0
    await world.receiver.until(offered.tid, "EXPIRED")
    async with Phone(offered.link, offered.pin) as late:
        with pytest.raises(EndedError) as caught:
            await late.ask()
    assert caught.value.state == "EXPIRED"
    again = await world.sender.engine.reopen(offered.tid, "test")
    assert again.tid != offered.tid
    assert again.state == "OFFERED"
    await world.answer(again)
    await world.sender.until(again.tid, "COMPLETE")


async def test_staff_stop_a_wrong_send(world: World, study: Path) -> None:
    offered = await world.offer(study)
    await world.receiver.until(offered.tid, "SEEN")
    stopped = await world.sender.engine.cancel(offered.tid, "test")
    assert stopped.state == "REVOKED"
    assert stopped.link == stopped.pin == ""
    await world.receiver.until(offered.tid, "REVOKED")
    async with Phone(offered.link, offered.pin) as late:
        with pytest.raises(EndedError):
            await late.ask()


async def test_person_stops_sharing_while_the_pacs_is_down(world: World, study: Path) -> None:
    await world.pacs.stop()
    offered = await world.offer(study)
    async with Phone(offered.link, offered.pin) as phone:
        await phone.ask()
        await phone.decide("approve", by="patient", name="", rel="self")
        await world.receiver.until(offered.tid, "OPENED")
        status = await phone.stop()
        assert status.state == "REVOKED"
    await world.receiver.until(offered.tid, "REVOKED")
    assert (await world.sender.engine.transfer(offered.tid)).state == "REVOKED"


async def test_pacs_down_then_up(world: World, study: Path) -> None:
    await world.pacs.stop()
    offered = await world.offer(study)
    await world.answer(offered)

    async def alarmed() -> TransferView | None:
        view = await world.receiver.engine.transfer(offered.tid)
        return view if view.alarms else None

    await world.receiver.until(offered.tid, "OPENED")
    await world.receiver.eventually(alarmed)
    await world.start_pacs()
    await world.sender.until(offered.tid, "COMPLETE")
    assert world.stored() == hashes(study)


async def test_relay_down_then_up(world: World, study: Path) -> None:
    offered = await world.offer(study)
    await world.receiver.until(offered.tid, "SEEN")
    await world.relay.stop()
    await world.start_relay()
    await world.answer(offered)
    await world.sender.until(offered.tid, "COMPLETE")
    assert world.stored() == hashes(study)


async def test_every_party_restarts(world: World, study: Path) -> None:
    offered = await world.offer(study)
    await world.receiver.until(offered.tid, "SEEN")
    for site in (world.sender, world.receiver):
        await site.close()
        await site.open()
    async with Phone(offered.link, offered.pin) as phone:
        await phone.ask()
        await world.sender.close()
        await world.sender.open()
        status = await phone.decide("approve", by="patient", name="", rel="self")
        assert status.state == "RELEASED"
    await world.receiver.close()
    await world.receiver.open()
    await world.sender.until(offered.tid, "COMPLETE")
    assert world.stored() == hashes(study)


async def test_yes_while_s_is_down_and_stop_after_the_end(world: World, study: Path) -> None:
    """The relay keeps the yes until S is back. A stop that comes too late undoes nothing, and both hospitals see it."""
    offered = await world.offer(study)
    await world.receiver.until(offered.tid, "SEEN")
    async with Phone(offered.link, offered.pin) as phone:
        await phone.ask()
        await world.sender.close()
        yes = phone._door.decide("approve", by="patient", name="", rel="self", lang="en", t=0)
        await phone._post(5, encode(yes))
        await world.sender.open()
        assert (await phone._status()).state == "RELEASED"
        await world.sender.until(offered.tid, "COMPLETE")
        assert (await phone._status()).state == "COMPLETE"
        status = await phone.stop()
        assert (status.state, status.refused) == ("COMPLETE", "decided")

    async def told() -> TransferView | None:
        view = await world.receiver.engine.transfer(offered.tid)
        return view if view.stop_asked else None

    there = await world.receiver.eventually(told)
    here = await world.sender.engine.transfer(offered.tid)
    assert (there.state, here.state) == ("COMPLETE", "COMPLETE")
    assert here.stop_asked
    assert world.stored() == hashes(study)


async def test_a_telephone_code_is_over_for_a_latecomer_and_not_at_the_question(
    world: World, study: Path
) -> None:
    offered = await world.offer(study)
    voice = await world.sender.engine.door(offered.tid, "voice", "", "desk")
    code = {"link": voice.link, "pin": voice.pin, "number": voice.number}

    async def over() -> bool | None:
        """The relay says so."""
        if (await world.sender.engine.transfer(offered.tid)).pin:
            return None
        waits = "SELECT 1 FROM outbox WHERE kind='mailbox'"
        return await world.sender.rooms.db.run(lambda con: con.execute(waits).fetchone()) is None or None

    async with Phone(**code) as phone, Phone(**code) as late:
        await phone.ask()
        world.sender.clock.skew = 601
        await world.sender.eventually(over)
        with pytest.raises(EndedError) as why:
            await late.ask()
        assert why.value.state == "EXPIRED"
        status = await phone.decide("approve", by="proxy", name="A. TEST", rel="parent")
        assert status.state == "RELEASED"
    await world.sender.until(offered.tid, "COMPLETE")


async def test_clock_ten_minutes_ahead_is_declined_and_said(world: World, study: Path) -> None:
    world.sender.clock.skew = 700
    offered = await world.offer(study)

    async def alarmed() -> TransferView | None:
        view = await world.sender.engine.transfer(offered.tid)
        return view if view.alarms else None

    view = await world.sender.eventually(alarmed)
    assert view.state == "OFFERED"
    assert view.why == "clock"
    assert "clock" in view.sentence


async def test_audit_tells_the_story_and_cannot_be_changed(world: World, study: Path) -> None:
    offered = await world.offer(study)
    await world.answer(offered)
    await world.sender.until(offered.tid, "COMPLETE")
    actions = [a.action for a in await world.sender.engine.audit() if a.subject == offered.tid]
    assert actions[::-1] == [
        "transfer.create", "transfer.offer", "transfer.joined", "transfer.approve", "receipt.complete",
    ]  # fmt: skip
    db = world.sender.rooms.db
    assert await db.run(audit.verify) == 0
    for change in ("UPDATE audit SET actor='x'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            await db.run(lambda con, change=change: con.execute(change))


async def test_a_study_sent_twice_is_not_stored_twice(world: World, study: Path) -> None:
    """The same folder imported again adds nothing; a second transfer is the PACS's to take as the same."""
    await world.sender.engine.import_path(str(study), "test")
    again = await world.sender.engine.import_path(str(study), "test")
    found = await world.sender.engine.study(again["studies"][0])
    assert found.instances == len(hashes(study))
    assert found.refused == 0
