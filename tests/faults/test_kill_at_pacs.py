"""kill -9 of the receiving gateway between the PACS's answer and the ledger's commit: a PACS that can be asked gets
nothing twice, one that cannot gets again what may not have arrived, and people are told.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import pytest_asyncio
from pynetdicom import evt

from clients.gateway.views import TransferView
from tests.dicom_kit import free_port
from tests.faults.committing import ABSENT, CommittingPacs, committing_pacs, honest
from tests.faults.real_pacs import dcmqrscp, orthanc
from tests.faults.wire import Tap
from tests.programs import PATIENCE, Programs, eventually, write_study

pytestmark = pytest.mark.asyncio(loop_scope="module")
KB = 1024


@pytest_asyncio.fixture(loop_scope="module")
async def tap(everybody: Programs) -> AsyncIterator[Tap]:
    """On the wire to the PACS, for one test."""
    await everybody.heal()
    own = everybody.store.target
    made = Tap(own)
    await made.open()
    everybody.store.target = made.port
    yield made
    everybody.store.cut()
    everybody.store.target = own
    await made.close()


@contextlib.contextmanager
def ledger(world: Programs) -> Iterator[sqlite3.Connection]:
    """The receiver's database, from outside."""
    with contextlib.closing(sqlite3.connect(world.receiver.folder / "gateway.db", timeout=PATIENCE)) as con:
        con.isolation_level = None
        yield con


def uids(con: sqlite3.Connection, view: TransferView, state: str) -> set[str]:
    """SOP Instance UIDs of the ledger's rows in a state."""
    query = "SELECT sop_uid FROM ledger WHERE tid=? AND state=?"
    return {row[0] for row in con.execute(query, (bytes.fromhex(view.tid), state))}


def at_hand(world: Programs, con: sqlite3.Connection, view: TransferView) -> int:
    """Images that are restored and need nothing more of the database; 0 while a series has no label yet."""
    unlabelled = "SELECT 1 FROM in_series s JOIN receives r ON r.cid=s.cid WHERE r.tid=? AND s.label=''"
    if con.execute(unlabelled, (bytes.fromhex(view.tid),)).fetchone():
        return 0
    return len(list((world.receiver.folder / "restored" / view.tid).glob("*.dcm")))


async def killed_between_answer_and_commit(world: Programs, tap: Tap, view: TransferView) -> set[str]:
    """Some images are booked, some have been answered as stored and are not booked; these UIDs."""
    world.store.hold("up", 200 * KB)
    await world.answer(view)
    with ledger(world) as con:

        async def some() -> bool | None:
            sending = uids(con, view, "sending")
            enough = uids(con, view, "stored") and len(sending) > 1
            return True if enough and at_hand(world, con, view) >= len(sending) else None

        await eventually(some)
        con.execute("BEGIN IMMEDIATE")  # nobody else commits from here on
        unknown = uids(con, view, "sending")
        assert uids(con, view, "stored")
        world.store.release()

        async def answered() -> bool | None:
            return True if unknown <= tap.answered.keys() else None

        await eventually(answered)
        await world.receiver.kill()
        con.execute("ROLLBACK")
        assert uids(con, view, "sending") == unknown
    return unknown


def audit(world: Programs, view: TransferView) -> str:
    """What the audit log says of the receipt."""
    with ledger(world) as con:
        query = "SELECT detail FROM audit WHERE action='receipt.complete' AND subject=?"
        ((detail,),) = con.execute(query, (view.tid,))
    return str(detail)


async def nothing_twice(
    world: Programs, tap: Tap, folder: Path, pacs: AbstractContextManager[int]
) -> tuple[TransferView, set[str], int]:
    """The transfer, the images that were not known of at the restart, and how many images there are."""
    sent = write_study(folder / "study", instances=16, side=128)
    with pacs as port:
        tap.target = port
        view = await world.offer(folder / "study")
        unknown = await killed_between_answer_and_commit(world, tap, view)
        await world.receiver.start()
        end = await world.sender.until(view.tid, "COMPLETE", "PARTIAL")
    assert (end.state, end.stored, end.gaps) == ("COMPLETE", len(sent), 0)
    assert tap.sent == tap.answered == dict.fromkeys(sent, 1)
    there = await world.receiver.until(view.tid, "COMPLETE")
    assert (there.sentence, there.proof) == ("Every image is in the PACS.", end.proof)
    return end, unknown, len(sent)


@pytest.mark.peer
async def test_a_pacs_with_queries_gets_nothing_twice(everybody: Programs, tap: Tap, tmp_path: Path) -> None:
    """It is asked for what is not known before anything is sent, and for the rest at the end: it cannot commit."""
    end, _, count = await nothing_twice(everybody, tap, tmp_path, dcmqrscp(tmp_path / "pacs"))
    assert (end.proof, tap.queries) == ("find", count)
    assert audit(everybody, end) == f"gaps 0, found {count}, sent again 0"


@pytest.mark.peer
async def test_a_pacs_that_commits_gets_nothing_twice(everybody: Programs, tap: Tap, tmp_path: Path) -> None:
    """It is asked for what is not known, and answers for all at the end."""
    knows = {"us": ("RECEIVER", "127.0.0.1", everybody.receiver.dicom_port)}
    end, unknown, count = await nothing_twice(
        everybody, tap, tmp_path, orthanc(tmp_path / "pacs", knows=knows)
    )
    assert (end.proof, tap.queries) == ("commit", len(unknown))
    assert audit(everybody, end) == f"gaps 0, found 0, sent again 0, committed {count}"


async def test_a_pacs_without_queries_gets_the_unknown_again(
    everybody: Programs, tap: Tap, tmp_path: Path
) -> None:
    """Once, and it is said; the bundled PACS takes no queries."""
    sent = write_study(tmp_path / "study", instances=16, side=128)
    view = await everybody.offer(tmp_path / "study")
    unknown = await killed_between_answer_and_commit(everybody, tap, view)
    await everybody.receiver.start()
    end = await everybody.sender.until(view.tid, "COMPLETE", "PARTIAL")
    assert (end.state, end.stored, end.gaps) == ("COMPLETE", len(sent), 0)
    assert tap.sent == tap.answered == {uid: 2 if uid in unknown else 1 for uid in sent}
    there = await everybody.receiver.until(view.tid, "COMPLETE")
    assert there.sentence == (
        "Every image is in the PACS. The PACS did not answer queries:"
        f" {len(unknown)} images that may have been there already were sent again."
    )
    assert audit(everybody, view) == f"gaps 0, found 0, sent again {len(unknown)}"
    with ledger(everybody) as con:
        noted = con.execute("SELECT sop_uid FROM ledger WHERE note='resent'").fetchall()
    assert {row[0] for row in noted} == unknown
    at_pacs = everybody.at_pacs(sent)
    assert {uid: set(copies) for uid, copies in at_pacs.items()} == {uid: {h} for uid, h in sent.items()}


async def test_killed_between_the_last_image_and_the_report(
    everybody: Programs, tap: Tap, tmp_path: Path
) -> None:
    """Every image is booked as stored, and nothing is committed. The next start asks again, in another transaction;
    what is reported for the one before is nobody's.
    """
    await everybody.receiver.kill()  # it remembers which PACS did not commit
    await everybody.receiver.start()
    sent = write_study(tmp_path / "study", instances=8, side=32)
    port, ours = free_port(), everybody.receiver.dicom_port

    def never(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
        return 0x0000

    with committing_pacs(port, CommittingPacs(ours, never, "RECEIVER")) as pacs:
        tap.target = port
        view = await everybody.offer(tmp_path / "study")
        await everybody.answer(view)

        async def asked() -> bool | None:
            return True if pacs.requested.is_set() else None

        await eventually(asked)
        await everybody.receiver.kill()
        with ledger(everybody) as con:
            assert uids(con, view, "stored") == set(sent)
        pacs.say = honest
        await everybody.receiver.start()
        pacs.tell(pacs.transactions[0], [], [(uid, ABSENT) for uid in sent])
        end = await everybody.sender.until(view.tid, "COMPLETE", "PARTIAL")
    assert (end.state, end.stored, end.proof) == ("COMPLETE", len(sent), "commit")
    assert (len(pacs.requests), len(set(pacs.transactions))) == (2, 2)
    assert tap.sent == tap.answered == dict.fromkeys(sent, 1)
