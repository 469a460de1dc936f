"""`clients.gateway.sending.additions`: what comes late follows under the same yes, and only while it may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clients.gateway.errors import GatewayError
from clients.gateway.sending.additions import CLOSED
from clients.gateway.sending.offering import SiteWords
from tests.gateway_kit import DAY, HOUR, Handset, House, carry, houses
from transfer import jws
from transfer.errors import StateError
from transfer.ids import Tid
from transfer.links import PATHS, make_scan
from transfer.messages import Offer, peek
from transfer.summary import read_summary

WORDS = SiteWords("Valley ED", "Ward 3")


class Living:
    """A sender and a receiver; nothing is carried but by hand, nothing is packed."""

    def __init__(self, s: House, r: House) -> None:
        self.s, self.r = s, r

    async def offer(self, add: int = DAY, study: str = "") -> Tid:
        self.study = study or await self.s.a_study()
        tid = await self.s.offers.create(self.study, self.r.site, "transfer", "clerk", add=add)
        await self.s.make_offer(tid, self.r)
        await self.freeze()
        return tid

    async def yes(self, tid: Tid) -> Handset:
        phone = await Handset.scan(self.s, tid)
        await phone.ask()
        assert (await phone.decide()).refused == ""
        return phone

    async def released(self, add: int = DAY, study: str = "") -> Tid:
        tid = await self.offer(add, study)
        await self.yes(tid)
        await carry(self.s, self.r)
        return tid

    async def freeze(self) -> None:
        """As the packer does when the study is closed."""
        await self.s.execute(
            "UPDATE spools SET frozen=(SELECT max(id) FROM instances WHERE study=spools.study) WHERE frozen IS NULL"
        )

    async def end(self, tid: Tid, state: str) -> None:
        await self.s.execute("UPDATE sends SET state=?, ended_at=? WHERE tid=?", state, self.s.clock.at, tid)

    async def late(self, count: int = 1) -> None:
        await self.s.adopt(
            *[self.s.file(SeriesInstanceUID="2.25.77", InstanceNumber=i) for i in range(count)]
        )

    async def children(self, tid: Tid) -> list[Tid]:
        found = await self.s.rows("SELECT tid FROM sends WHERE parent=? ORDER BY rowid", tid)
        return [Tid(row["tid"]) for row in found]

    async def follow_up(self) -> None:
        """One round of the loop: children begin, and those that may are offered and released."""
        await self.s.offers.follow_up()
        for tid, peer in await self.s.offers.waiting_for_prekey():
            assert peer == self.r.site
            text = await self.r.value("SELECT message FROM prekeys ORDER BY exp DESC LIMIT 1")
            prekey = self.s.pins._verified([text], peer)
            assert prekey is not None
            await self.s.offers.offer(tid, *prekey, WORDS, 2 * HOUR)

    async def states(self, *tids: Tid) -> list[str]:
        return [(await self.s.send(tid))["state"] for tid in tids]


@pytest.fixture
async def living(tmp_path: Path) -> AsyncIterator[Living]:
    async with houses(tmp_path) as (s, r):
        yield Living(s, r)


async def test_late_images_follow_under_the_same_yes(living: Living) -> None:
    """A transfer of its own: tid, cid, key, release; nobody is asked, and nothing of the parent moves."""
    tid = await living.released()
    await living.end(tid, "COMPLETE")
    before = tuple(await living.s.send(tid))
    await living.late(2)
    assert await living.s.offers.follow_up()
    (child,) = await living.children(tid)
    await living.follow_up()
    row, parent = await living.s.send(child), await living.s.send(tid)
    assert tuple(parent) == before
    assert (row["state"], row["kind"], row["q_sealed"], row["pin_sealed"]) == ("RELEASED", "add", None, None)
    assert row["cid"] != parent["cid"]
    offer, first = peek(Offer, row["offer"]), peek(Offer, parent["offer"])
    assert (offer.parent, offer.kind, offer.r, offer.add, offer.alt) == (
        jws.digest(parent["offer"]), "add", first.r, 0, [],
    )  # fmt: skip
    assert not await living.s.rows("SELECT 1 FROM outbox WHERE kind='mailbox' AND tid=?", child), "a door"
    await carry(living.s, living.r)
    opened = await living.r.receive(child)
    assert opened["state"] == "OPENED"
    assert "transfer.covered" in await living.s.actions(child.hex())
    assert await living.s.alarms(tid) == []


@pytest.mark.parametrize("state", ["PREPARING", "RELEASED", "OFFERED"])
async def test_an_addition_has_no_door_and_gets_none(living: Living, state: str) -> None:
    """It asks nobody, in whatever state: OFFERED, which none ever is, would not open one either."""
    s = living.s
    tid = await living.released()
    await living.late()
    await s.offers.follow_up()
    if state == "RELEASED":
        await living.follow_up()
    (child,) = await living.children(tid)
    assert await living.states(child) == [state if state != "OFFERED" else "PREPARING"]
    await s.execute("UPDATE sends SET state=? WHERE tid=?", state, child)
    row = await s.send(child)
    assert (row["q_sealed"], row["pin_sealed"]) == (None, None), "a code"
    before = tuple(row)
    for door in PATHS:
        with pytest.raises(StateError):
            await s.offers.switch(child, door, make_scan(b"a phone's own q."), "clerk")
    if state != "OFFERED":
        with pytest.raises(StateError):
            await s.offers.reopen(child, "clerk")
    assert tuple(await s.send(child)) == before
    assert not await s.rows("SELECT 1 FROM outbox WHERE kind='mailbox' AND tid=?", child)


async def test_the_person_reads_for_how_long(living: Living) -> None:
    row = await living.s.send(await living.offer(8 * HOUR))
    offer = peek(Offer, row["offer"])
    assert (offer.add, read_summary(row["summary"]).add, row["add_until"]) == (
        8 * HOUR, 8 * HOUR, offer.iat + 8 * HOUR,
    )  # fmt: skip


async def test_an_addition_holds_what_came_since_and_each_burst_is_one(living: Living) -> None:
    tid = await living.released()
    await living.late(2)
    await living.follow_up()
    await living.late(1)
    await living.follow_up()
    (first,) = await living.children(tid)
    await living.freeze()
    await living.follow_up()
    assert await living.children(tid) == [first], "nothing came since"
    await living.late(1)
    await living.follow_up()
    _, second = await living.children(tid)
    ranges = [
        tuple(
            await living.s.one(
                "SELECT p.after, p.frozen FROM spools p JOIN sends s USING (cid) WHERE tid=?", x
            )
        )
        for x in (tid, first, second)
    ]
    assert ranges == [(0, 3), (3, 6), (6, None)]
    await living.s.offers.close_additions(tid, "clerk")
    await living.late(1)
    await living.follow_up()
    assert await living.s.value("SELECT max(frozen) FROM spools") == 7, (
        "what came after the close is not in it"
    )
    assert await living.s.alarms(tid) == ["late-images"]


async def test_without_a_yes_that_stands_nothing_follows(living: Living) -> None:
    """The parent that nobody opened, or that was taken back, has no child; what came before the yes follows it."""
    tid = await living.offer()
    await living.late()
    for state in ("PREPARING", "DENIED", "EXPIRED", "REVOKED", "OFFERED"):
        await living.end(tid, state)
        await living.follow_up()
        assert await living.children(tid) == []
    await living.yes(tid)
    for state in ("REVOKED", "DIVERTED", "PARTIAL"):
        await living.end(tid, state)
        await living.follow_up()
        assert len(await living.children(tid)) == (state == "PARTIAL")
    assert await living.s.alarms(tid) == []


async def test_it_waits_until_the_parent_s_release_is_acknowledged(living: Living) -> None:
    """R would refuse the child of what it has not opened yet."""
    tid = await living.offer()
    await living.yes(tid)
    await living.late()
    assert await living.s.offers.follow_up(), "it is looked at again"
    await living.follow_up()
    (child,) = await living.children(tid)
    assert await living.states(child) == ["PREPARING"]
    await carry(living.s, living.r)
    await living.follow_up()
    assert await living.states(child) == ["RELEASED"]


@pytest.mark.parametrize("how", ["time", "staff", "person"])
async def test_after_the_close_late_images_are_a_new_transfer(living: Living, how: str) -> None:
    tid = await living.offer()
    phone = await living.yes(tid)
    await carry(living.s, living.r)
    await living.end(tid, "COMPLETE")
    if how == "time":
        living.s.clock.at += DAY
    elif how == "staff":
        await living.s.offers.close_additions(tid, "clerk")
        assert "transfer.close-additions" in await living.s.actions(tid.hex())
    else:
        await phone.stop()
    assert (await living.s.send(tid))["add_until"] <= living.s.clock.at
    await living.late()
    await living.follow_up()
    await living.follow_up()
    assert await living.children(tid) == []
    assert (await living.s.alarms(tid)).count("late-images") == 1
    with pytest.raises(GatewayError) as why:
        await living.s.offers.close_additions(tid, "clerk")
    assert why.value.code == "not-living"


async def test_what_has_not_left_when_it_is_closed_does_not_leave(living: Living) -> None:
    tid = await living.offer()
    await living.yes(tid)
    await living.late()
    await living.follow_up()
    (child,) = await living.children(tid)
    await living.s.offers.close_additions(tid, "clerk")
    row = await living.s.send(child)
    assert (row["state"], row["why"], row["release"], row["offer"]) == ("REVOKED", CLOSED, None, None)
    assert await living.s.value("SELECT k_sealed FROM spools WHERE cid=?", row["cid"]) is None
    assert await living.s.alarms(tid) == ["late-images"]


async def test_an_offer_that_comes_too_late_is_not_made(living: Living) -> None:
    """The clock passes the end between the child's beginning and its offer: nothing is signed."""
    tid = await living.released()
    await living.late()
    await living.s.offers.follow_up()
    (child,) = await living.children(tid)
    living.s.clock.at += DAY
    before = await living.s.letters()
    with pytest.raises(StateError):
        await living.s.make_offer(child, living.r)
    assert await living.states(child) == ["PREPARING"]
    assert await living.s.letters() == before
    await living.follow_up()
    assert await living.states(child) == ["REVOKED"]


async def test_a_crash_at_the_child_leaves_it_as_it_was_or_whole(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    tid = await living.released()
    await living.late()

    async def crash_behind(step: str) -> None:
        done = getattr(living.s.offers, step)

        def breaks(*args: Any, **options: Any) -> None:
            done(*args, **options)
            raise RuntimeError

        monkeypatch.setattr(living.s.offers, step, breaks)
        with pytest.raises(RuntimeError):
            await living.follow_up()
        await living.s.restart()

    before = await living.s.letters()
    await crash_behind("_create")
    assert await living.children(tid) == []
    await crash_behind("_cover")
    (child,) = await living.children(tid)
    row = await living.s.send(child)
    assert (row["state"], row["offer"]) == ("PREPARING", None), "signed and not released"
    assert await living.s.letters() == before
    await living.follow_up()
    assert await living.children(tid) == [child]
    assert await living.states(child) == ["RELEASED"]


@pytest.mark.parametrize("who", ["staff", "person"])
async def test_who_stops_the_transfer_stops_what_was_added(living: Living, who: str) -> None:
    tid = await living.offer()
    phone = await living.yes(tid)
    await carry(living.s, living.r)
    await living.late()
    await living.follow_up()
    (child,) = await living.children(tid)
    if who == "staff":
        await living.s.offers.stop(tid, "clerk")
    else:
        await phone.stop()
    assert await living.states(tid, child) == ["REVOKED", "REVOKED"]


async def test_of_two_transfers_the_newer_one_has_the_additions(living: Living) -> None:
    old = await living.released()
    new = await living.released(HOUR, living.study)
    await living.late()
    await living.follow_up()
    assert (await living.children(old), len(await living.children(new))) == ([], 1)


async def test_a_site_that_is_not_paired_any_more_gets_nothing(living: Living) -> None:
    tid = await living.released()
    await living.s.pins.unpin(living.r.site, "admin")
    await living.late()
    await living.follow_up()
    assert await living.children(tid) == []


async def test_the_study_is_kept_for_as_long_as_something_may_be_added(living: Living) -> None:
    tid = await living.released(3 * DAY)
    await living.end(tid, "COMPLETE")
    for at, kept in ((2 * DAY, 1), (2 * DAY, 0)):
        living.s.clock.at += at
        await living.s.studies.forget_old(DAY)
        assert await living.s.value("SELECT count(*) FROM studies") == kept


async def test_a_look_reads_no_table_of_years_from_end_to_end(living: Living) -> None:
    """It comes twice a second while a study arrives; what was sent, and what arrived, only grows."""
    said: list[str] = []
    await living.s.db.run(lambda con: con.set_trace_callback(said.append))
    await living.s.offers.follow_up()
    await living.s.offers.waiting_for_prekey()
    await living.s.db.run(lambda con: con.set_trace_callback(None))
    looks = [sql for sql in said if sql.lstrip().startswith(("SELECT", "UPDATE"))]
    assert len(looks) >= 5
    plans = [row["detail"] for sql in looks for row in await living.s.rows(f"EXPLAIN QUERY PLAN {sql}")]
    scans = [step for step in plans if step.startswith("SCAN")]
    assert [step.split()[1] for step in scans] == ["t"], scans  # studies, which are forgotten with time
