"""`clients.gateway.receiving.proofs`: rows of one transfer at one destination, and of no other."""

from __future__ import annotations

import pytest

from clients.gateway.clock import Signal
from clients.gateway.receiving.ledger import Ledger, Result
from clients.gateway.receiving.proofs import Proofs, Unproven
from clients.gateway.store.database import Database, rows
from tests.gateway_kit import StillClock
from transfer.ids import Digest, Tid
from transfer.messages import ItemEntry

ONE, OTHER = Tid(b"1" * 16), Tid(b"2" * 16)


async def proofs_at(db: Database, tid: Tid, destination: str) -> Proofs:
    """Four items: stored, stored and found, refused, on its way."""
    ledger = Ledger(tid, destination, db, StillClock(), Signal())
    items = [
        ItemEntry(no, 0, "1.2", f"1.2.{no}", "1.2.840.10008.1.2", "raw", 0, 1, 1, Digest(bytes(32)))
        for no in range(4)
    ]
    await db.run(lambda con: ledger.list_items(con, items))
    await ledger.sending(0, 4)
    for result in (Result(0, "store", 0), Result(1, "find"), Result(2, "", 0xA900, "refused")):
        ledger.settle(result)
    await ledger.flush()
    return Proofs(ledger, db)


async def states(db: Database, tid: Tid, destination: str) -> list[str]:
    found = await db.run(
        lambda con: rows(
            con, "SELECT proof, state, note, lost FROM ledger WHERE tid=? AND destination=? ORDER BY no",
            (tid, destination),
        )
    )  # fmt: skip
    return [f"{r['proof'] or r['note'] or r['state']} {r['lost']}" for r in found]


START = ["store 0", "find 0", "refused 0", "sending 0"]


@pytest.fixture
async def here(db: Database) -> Proofs:
    """Beside another destination of the same transfer, and another transfer at the same destination."""
    await proofs_at(db, ONE, "PACS@there")
    await proofs_at(db, OTHER, "PACS@here")
    return await proofs_at(db, ONE, "PACS@here")


async def others(db: Database) -> list[list[str]]:
    return [await states(db, ONE, "PACS@there"), await states(db, OTHER, "PACS@here")]


async def test_stored_items_that_are_not_committed_in_parts(db: Database, here: Proofs) -> None:
    first, second = Unproven(0, "1.2", "1.2.0", "", "", "store"), Unproven(1, "1.2", "1.2.1", "", "", "find")
    assert await here.open(-1, 10) == [first, second]
    assert await here.open(-1, 1) == [first]
    assert await here.open(0, 1) == [second]
    assert await here.open(1, 1) == []


async def test_only_what_is_stored_is_proven(db: Database, here: Proofs) -> None:
    await here.prove("commit", [])
    await here.prove("commit", range(9))
    assert await states(db, ONE, "PACS@here") == ["commit 0", "commit 0", "refused 0", "sending 0"]
    assert await here.open(-1, 10) == []
    assert await others(db) == [START, START]


async def test_lost_once_is_listed_and_lost_twice_is_a_gap(db: Database, here: Proofs) -> None:
    assert await here.lose([0, 2, 3]) is True
    assert await states(db, ONE, "PACS@here") == ["listed 1", "find 0", "refused 0", "sending 0"]
    await db.run(lambda con: con.execute("UPDATE ledger SET state='stored', proof='store' WHERE lost=1"))
    assert await here.lose([0]) is False
    assert await states(db, ONE, "PACS@here") == ["lost 2", "find 0", "refused 0", "sending 0"]
    assert await others(db) == [START, START]
