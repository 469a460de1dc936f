"""`clients.gateway.receiving.ledger`: what became of each image, on disk before and after the PACS was asked."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from clients.gateway.clock import Signal
from clients.gateway.errors import DiskFullError
from clients.gateway.receiving import ledger as module
from clients.gateway.receiving.ledger import Ledger, Result
from clients.gateway.store.database import Con, Database, rows
from tests.gateway_kit import NOW, PATIENCE, StillClock, eventually, running
from transfer.ids import Digest, Tid
from transfer.messages import ItemEntry

TID, OTHER = Tid(b"t" * 16), Tid(b"o" * 16)


def items(count: int) -> list[ItemEntry]:
    return [
        ItemEntry(no, 0, "1.2", f"1.2.{no}", "1.2.840.10008.1.2", "raw", 0, 1, 1, Digest(bytes(32)))
        for no in range(count)
    ]


async def a_ledger(db: Any, count: int = 3, destination: str = "PACS@here", tid: Tid = TID) -> Ledger:
    made = Ledger(tid, destination, db, StillClock(), Signal())
    await db.run(made.load)
    await db.run(lambda con: made.list_items(con, items(count)))
    return made


async def states(db: Database, tid: Tid = TID) -> list[tuple[Any, ...]]:
    def work(con: Con) -> list[tuple[Any, ...]]:
        found = rows(con, "SELECT state, proof, status, note FROM ledger WHERE tid=? ORDER BY no", (tid,))
        return [tuple(r) for r in found]

    return await db.run(work)


LISTED, SENDING = ("listed", "", None, ""), ("sending", "", None, "")


async def test_from_listed_to_stored_and_failed(db: Database) -> None:
    ledger = await a_ledger(db)
    assert await states(db) == [LISTED] * 3
    await ledger.sending(0, 2)
    assert await states(db) == [SENDING, SENDING, LISTED]
    ledger.settle(Result(0, "store", 0xB000))
    ledger.settle(Result(1, "find", None, "resent"))
    ledger.settle(Result(2, "", 0xA900, "refused"))
    await ledger.flush()
    assert await states(db) == [
        ("stored", "store", 0xB000, ""), ("stored", "find", None, "resent"), ("failed", "", 0xA900, "refused"),
    ]  # fmt: skip


async def test_a_restart_knows_what_it_does_not_know(db: Database) -> None:
    ledger = await a_ledger(db, 4)
    await ledger.sending(0, 3)
    ledger.settle(Result(0, "store", 0))
    ledger.settle(Result(1, "", None, "hash"))
    await ledger.flush()
    later = await a_ledger(db, 4)
    assert (later.settled, later.unknown) == ({0, 1}, {2})
    assert (await states(db))[2:] == [SENDING, LISTED], "to list an item again changes nothing"
    other = await a_ledger(db, 4, tid=OTHER)
    assert (other.settled, other.unknown) == (set(), set())
    assert (await states(db))[2:] == [SENDING, LISTED]


async def test_each_destination_has_rows_of_its_own(db: Database) -> None:
    """What one PACS holds, another does not."""
    ledger = await a_ledger(db)
    await a_ledger(db, tid=OTHER)
    await ledger.sending(0, 3)
    ledger.settle(Result(0, "store"))
    await ledger.flush()
    later = await a_ledger(db, destination="PACS@there")
    assert (later.settled, later.unknown) == (set(), set())
    await later.sending(0, 1)
    later.settle(Result(1, "", 0xA900, "refused"))
    await later.flush()
    first = await a_ledger(db)
    assert (first.settled, first.unknown) == ({0}, {1, 2})
    assert await states(db, OTHER) == [LISTED] * 3


async def test_numbers_that_are_listed_late_are_marked_too(db: Database) -> None:
    """Items of another series come to this destination with lower numbers."""
    ledger = await a_ledger(db, 0)
    five = items(5)
    await db.run(lambda con: ledger.list_items(con, five[3:]))
    await ledger.sending(3, 5)
    await db.run(lambda con: ledger.list_items(con, five[:3]))
    ledger.again()
    await ledger.sending(0, 5)
    assert await states(db) == [SENDING] * 5


async def test_one_commit_marks_the_next_few(db: Database) -> None:
    ledger = await a_ledger(db, 100)
    for no in range(40):
        await ledger.sending(no, 100)
        found = [s[0] for s in await states(db)]
        assert found.count("sending") == (32 if no < 32 else 64)


async def test_only_what_was_stored_is_a_first_image(db: Database) -> None:
    def times(con: Con) -> tuple[Any, ...]:
        return tuple(rows(con, "SELECT first_stored_at, last_stored_at FROM receives")[0])

    await db.run(
        lambda con: con.execute(
            "INSERT INTO receives (tid, cid, peer, state, offer, created_at, exp) VALUES (?,x'',x'','OPENED','',0,0)",
            (TID,),
        )
    )
    ledger = await a_ledger(db)
    ledger.settle(Result(0, "", None, "hash"))
    await ledger.flush()
    assert await db.run(times) == (0, NOW)
    ledger.settle(Result(1, "find"))
    await ledger.flush()
    assert await db.run(times) == (NOW, NOW)


# Booking


class Full:
    """A database on a disk that is full for the first so many writes."""

    def __init__(self, db: Database, times: int) -> None:
        self.db, self.left = db, times

    async def run(self, work: Any) -> Any:
        if self.left:
            self.left -= 1
            raise DiskFullError
        return await self.db.run(work)


async def test_what_a_full_disk_did_not_let_in_is_booked_later(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST", 0.01)
    await a_ledger(db)
    full = Full(db, 0)
    ledger = await a_ledger(full)
    full.left = 3
    async with running(ledger.book()):
        ledger.settle(Result(0, "store"))
        ledger.settle(Result(1, "store"))

        async def booked() -> bool:
            return [s[0] for s in await states(db)] == ["stored", "stored", "listed"]

        await eventually(booked)
    full.left = 2
    async with asyncio.timeout(PATIENCE):
        await ledger.sending(2, 3)
    assert (await states(db))[2] == SENDING
    full.left = 1
    ledger.settle(Result(2, "store"))
    with pytest.raises(DiskFullError):
        await ledger.flush()
    await ledger.flush()
    assert (await states(db))[2][0] == "stored"


async def test_a_result_under_way_is_not_lost(db: Database) -> None:
    """The last look at the ledger waits for results that are being booked."""
    ledger = await a_ledger(db, 1)
    disk = threading.Event()
    slow = asyncio.create_task(db.run(lambda con: disk.wait(PATIENCE)))
    async with running(ledger.book()):
        ledger.settle(Result(0, "store"))
        async with asyncio.timeout(PATIENCE):
            while ledger._results:  # noqa: ASYNC110  # until the booking has taken it
                await asyncio.sleep(0)
        ending = asyncio.create_task(ledger.flush())
        await asyncio.sleep(0)
        assert not ending.done()
        disk.set()
        await asyncio.gather(slow, ending)
        assert (await states(db))[0][0] == "stored"
