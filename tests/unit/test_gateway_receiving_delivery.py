"""`clients.gateway.receiving.delivery`: each listed instance reaches a real PACS once, and nothing else ever does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from clients.gateway.errors import DiskFullError
from clients.gateway.receiving import delivery as module
from clients.gateway.receiving import ledger, storing
from tests.delivery_kit import DEADLINE, Party, images, party
from tests.gateway_kit import NOW, PATIENCE, carry, eventually, running
from tests.spool_kit import noise, workers

__all__ = ["party", "workers"]


class Crash(Exception):
    """The process ends here."""


class Dying:
    """A database that dies at its n-th transaction."""

    def __init__(self, db: Any, n: int, error: type[Exception] = Crash) -> None:
        self._db, self._left, self._error = db, n, error

    async def run(self, work: Callable[[Any], Any]) -> Any:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return await self._db.run(work)


async def test_every_instance_arrives_as_it_was(party: Party) -> None:
    await party.study(*images(5), noise(6))
    k = bytes((await party.row())["k_sealed"])
    await party.deliver()
    row = await party.row()
    assert (row["state"], row["total"]) == ("COMPLETE", 6)
    assert party.pacs.bytes == await party.originals()
    assert set(party.pacs.seen.values()) == {1}
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("COMPLETE", [])
    assert row["patient_name"] == "NOBODY, ATALL"
    assert row["first_stored_at"] == row["last_stored_at"] == NOW
    assert list((party.r.folder / "restored").iterdir()) == []
    assert party.r.on_disk(k) == []
    await party.deliver()
    assert set(party.pacs.seen.values()) == {1}, "an ended transfer delivers nothing"


async def test_s_takes_the_receipt(party: Party) -> None:
    await party.study(*images(3))
    await party.deliver()
    await carry(party.r, party.s)
    assert (await party.s.send(party.tid))["state"] == "COMPLETE"


async def test_images_arrive_while_packs_still_come(party: Party) -> None:
    """The first instance is in the PACS before the rest is here."""
    spool = await party.sealed(*(noise(i) for i in range(1, 5)))
    await party.fetched(spool, only=range(3))
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def first() -> bool:
            return len(party.pacs.bytes) == 1

        await eventually(first)
        await party.fetched(spool)
        party.prefetch.signal(party.cid).set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.pacs.bytes == await party.originals()


@pytest.mark.parametrize("idle", [20.0, 0.2])
async def test_one_association_is_fed_and_opened_again_after_a_while(party: Party, idle: float) -> None:
    """What comes while it is open goes over it; one that had nothing to do was released, and in good order."""
    spool = await party.sealed(*(noise(i) for i in range(1, 5)))
    await party.fetched(spool, only=range(3))
    async with party.scu(idle=idle) as scu, running(party.delivery(scu).run()) as (task,):

        async def first() -> bool:
            return len(party.pacs.bytes) == 1 and (idle > 1 or party.pacs.associations[0].is_released)

        await eventually(first)
        await party.fetched(spool)
        party.prefetch.signal(party.cid).set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.pacs.bytes == await party.originals()
    assert (len(party.pacs.associations) == 1) == (idle > 1)
    assert set(party.pacs.seen.values()) == {1}


# Exactly once


async def crashed(party: Party, *states: str) -> None:
    """The ledger of a run that ended at once: the state of each item in turn."""
    for no, state in enumerate(states):
        await party.r.execute(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, proof)"
            " VALUES ('PACS@here',?,?,?,0,x'00',?,0,?)",
            party.uids[no], party.tid, no, state, "store" if state == "stored" else "",
        )  # fmt: skip


async def notes(party: Party) -> dict[int, tuple[str, str]]:
    """Proof and note of each item."""
    found = await party.r.rows("SELECT no, proof, note FROM ledger WHERE tid=?", party.tid)
    return {r["no"]: (r["proof"], r["note"]) for r in found}


async def test_each_state_of_the_ledger_after_a_restart(party: Party) -> None:
    """`stored` and `failed` are settled; `sending` goes again to a PACS that cannot be asked; what was listed goes."""
    await party.study(*images(5))
    await crashed(party, "stored", "sending", "failed", "listed")
    await party.deliver()
    seen = {no: party.pacs.seen[uid] for no, uid in party.uids.items()}
    assert seen == {0: 0, 1: 1, 2: 0, 3: 1, 4: 1}
    assert await party.ledger() == {0: "stored", 1: "stored", 2: "failed", 3: "stored", 4: "stored"}
    assert (await notes(party))[1] == ("store", "resent")
    assert [note for _, note in (await notes(party)).values()].count("resent") == 1
    assert (await party.receipt()).gaps == [2]


async def test_what_may_be_there_is_asked_for_before_it_is_sent(party: Party) -> None:
    """Found: not sent. Not found: sent. What never was on its way is not asked for."""
    await party.study(*images(4))
    party.pacs.answer_queries()
    await crashed(party, "stored", "sending", "sending")
    party.pacs.bytes[party.uids[1]] = b"from before"
    await party.deliver()
    assert {no: party.pacs.seen[uid] for no, uid in party.uids.items()} == {0: 0, 1: 0, 2: 1, 3: 1}
    assert {no: party.pacs.asked[uid] for no, uid in party.uids.items()} == {0: 0, 1: 1, 2: 1, 3: 0}
    assert await notes(party) == {0: ("store", ""), 1: ("find", ""), 2: ("store", ""), 3: ("store", "")}
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps, receipt.proof) == ("COMPLETE", [], "store")


async def test_a_receipt_that_rests_on_queries_alone_says_so(party: Party) -> None:
    await party.study(*images(3))
    party.pacs.answer_queries()
    await crashed(party, *["sending"] * 3)
    party.pacs.bytes = await party.originals()
    await party.deliver()
    assert party.pacs.seen == {}
    receipt = await party.receipt()
    assert (receipt.state, receipt.proof) == ("COMPLETE", "find")


async def test_an_answer_that_comes_too_late_is_asked_for(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PACS stores it, and says so after our time-out: it is not sent twice."""
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    await party.study(*images(3))
    party.pacs.answer_queries()
    party.pacs.late.add(party.uids[1])
    async with party.scu(response=1.0) as scu, asyncio.timeout(PATIENCE):
        await party.delivery(scu).run()
    assert (await party.row())["state"] == "COMPLETE"
    assert set(party.pacs.seen.values()) == {1}
    assert (await notes(party))[1] == ("find", "")
    assert await party.r.alarms(party.tid) == ["pacs"]


async def test_a_pacs_that_is_away_is_asked_once_it_is_back(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    await party.study(*images(2))
    await crashed(party, "sending", "sending")
    party.pacs.bytes = await party.originals()
    party.pacs.stop()
    party.pacs.queries = True
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def alarmed() -> bool:
            return await party.r.alarms(party.tid) == ["pacs"]

        await eventually(alarmed)
        party.pacs.start()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.pacs.seen == {}
    assert (await party.receipt()).proof == "find"


async def test_a_crash_at_any_commit(party: Party) -> None:
    """At every transaction in turn, then a restart: everything arrives, and what was booked is not sent again."""
    await party.study(*images(2), noise(3))
    async with party.scu() as scu:
        for n in itertools.count(1):
            before = {no for no, state in (await party.ledger()).items() if state == "stored"}
            counts = {no: party.pacs.seen[party.uids[no]] for no in before}
            try:
                async with asyncio.timeout(PATIENCE):
                    await party.delivery(scu, db=Dying(party.r.db, n)).run()
                ended = True
            except (Crash, BaseExceptionGroup):
                ended = False
            assert {no: party.pacs.seen[party.uids[no]] for no in before} == counts
            if ended:
                break
    assert n > 5
    assert (await party.row())["state"] == "COMPLETE"
    assert party.pacs.bytes == await party.originals()


async def test_the_same_delivery_again_after_a_full_disk(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could be written is written once there is room; nothing is torn down, nothing is sent twice."""
    monkeypatch.setattr(module, "REST", 0.01)
    monkeypatch.setattr(ledger, "REST", 0.01)
    await party.study(*images(4))
    async with party.scu() as scu, asyncio.timeout(PATIENCE):
        for n in range(4, 10):
            delivery = party.delivery(scu, db=Dying(party.r.db, n, DiskFullError))
            try:
                await delivery.run()
            except (DiskFullError, BaseExceptionGroup):
                await delivery.run()
            if (await party.row())["state"] == "COMPLETE":
                break
    assert (await party.row())["state"] == "COMPLETE"
    assert party.pacs.bytes == await party.originals()


async def test_cancelled_and_run_again(party: Party) -> None:
    """The transfer was revoked, or the gateway ends: no file in the clear stays."""
    await party.study(*images(30))
    party.pacs.go_on.clear()
    async with party.scu() as scu, running(party.delivery(scu).run()):
        await eventually(lambda: _sent(party))
        party.pacs.go_on.set()
    assert [p for p in (party.r.folder / "restored").rglob("*") if p.is_file()] == []
    await party.deliver()
    assert party.pacs.bytes == await party.originals()


async def _sent(party: Party) -> bool:
    return bool(party.pacs.seen)


async def test_another_pacs_after_a_restart_gets_everything(party: Party) -> None:
    """The address was corrected: what the first one has, the second one does not."""
    await party.study(*images(4))
    party.pacs.answers[party.uids[2]] = 0xA700  # out of resources: it waits
    async with party.scu() as scu, running(party.delivery(scu, destination="OLD@there").run()):

        async def three() -> bool:
            return list((await party.ledger()).values()).count("stored") == 3

        await eventually(three)
    party.pacs.answers.clear()
    await party.deliver(destination="NEW@here")
    assert (await party.row())["state"] == "COMPLETE"
    assert [party.pacs.seen[party.uids[no]] >= 2 for no in range(4)] == [True] * 4
    destinations = await party.r.rows("SELECT DISTINCT destination FROM ledger")
    assert [r[0] for r in destinations] == ["NEW@here"]


async def test_no_more_than_so_many_files_in_the_clear(party: Party) -> None:
    """However slow the PACS, and however large the study."""
    await party.study(*images(3 * module._AHEAD))
    party.pacs.go_on.clear()
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def full() -> bool:
            return len(list((party.r.folder / "restored").rglob("*.dcm"))) == module._AHEAD

        await eventually(full)
        party.pacs.go_on.set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.most <= module._AHEAD
    assert (await party.row())["state"] == "COMPLETE"


# A PACS that refuses, or is away


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
async def test_one_refused_instance_is_exactly_one_gap(party: Party, status: int) -> None:
    await party.study(*images(5))
    party.pacs.answers[party.uids[2]] = status
    await party.deliver()
    row = await party.row()
    receipt = await party.receipt()
    assert (row["state"], row["why"]) == ("PARTIAL", "pacs")
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [2])
    assert party.pacs.seen[party.uids[2]] == 1, "it is not tried blindly"
    assert len(party.pacs.bytes) == 4
    failed = await party.r.one("SELECT * FROM ledger WHERE state='failed'")
    assert (failed["no"], failed["status"], failed["note"]) == (2, status, "refused")


async def test_a_pacs_that_is_busy_is_asked_again(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    await party.study(*images(3))
    party.pacs.answers[party.uids[1]] = 0xA700
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def alarmed() -> bool:
            return await party.r.alarms(party.tid) == ["pacs"]

        await eventually(alarmed)
        party.pacs.answers.clear()
        async with asyncio.timeout(PATIENCE):
            await task
    assert (await party.row())["state"] == "COMPLETE"


async def test_a_pacs_that_stays_away_ends_it_after_the_deadline(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and not once for each image: more images than may wait at once."""
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.05)
    monkeypatch.setattr(storing, "RETRY_MOST", 0.1)
    await party.study(*images(2 * module._AHEAD))
    await asyncio.to_thread(party.pacs.stop)
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def alarmed() -> bool:
            return await party.r.alarms(party.tid) == ["pacs"]

        await eventually(alarmed)
        assert not task.done()
        party.r.clock.at += DEADLINE
        async with asyncio.timeout(PATIENCE):
            await task
    receipt = await party.receipt()
    assert ((await party.row())["state"], receipt.state) == ("PARTIAL", "PARTIAL")
    assert receipt.gaps == list(range(2 * module._AHEAD))


async def test_what_was_sent_before_counts_in_the_deadline(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PACS that came back in time starts the clock anew."""
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    monkeypatch.setattr(storing, "RETRY_MOST", 0.05)
    await party.study(*images(2))
    party.pacs.answers[party.uids[0]] = 0xA700
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def tried() -> bool:
            return party.pacs.seen[party.uids[0]] > 1 and len(party.pacs.bytes) == 1

        await eventually(tried)
        party.r.clock.at += DEADLINE // 2
        party.pacs.answers.clear()
        async with asyncio.timeout(PATIENCE):
            await task
    assert (await party.row())["state"] == "COMPLETE"


async def test_a_transfer_that_is_not_open_delivers_nothing(party: Party) -> None:
    await party.study(*images(2))
    await party.r.execute("UPDATE receives SET state='REVOKED'")
    await party.deliver()
    assert party.pacs.seen == {}
