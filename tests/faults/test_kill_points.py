"""kill -9 at the points that `tests/integration/test_kill.py` does not name: while images are coded, after the yes and
before the release leaves, before R has stored it, after an image is on disk and before its sender hears so, between the
last commit and the receipt, before an ack, and of the PACS itself. (Between the PACS's answer and the ledger:
`test_kill_at_pacs.py`; anywhere at all: `test_kill_anywhere.py`.)
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
import pytest_asyncio

from clients.drill import Phone
from clients.gateway.views import TransferView
from tests.living_kit import begin
from tests.peers import need
from tests.programs import RECEIVER, Gateway, Link, Programs, eventually, write_study

pytestmark = pytest.mark.asyncio(loop_scope="module")
KB = 1024


@pytest_asyncio.fixture(loop_scope="module")
async def world(everybody: Programs) -> Programs:
    """All of them alive."""
    await everybody.heal()
    return everybody


async def complete(world: Programs, view: TransferView, sent: dict[str, bytes], twice: set[str]) -> None:
    """COMPLETE at both; each instance at the PACS byte for byte, once, or more often where it is in `twice`."""
    end = await world.sender.until(view.tid, "COMPLETE", "PARTIAL", "EXPIRED", "REVOKED")
    assert (end.state, end.stored, end.gaps) == ("COMPLETE", len(sent), 0)
    await world.receiver.until(view.tid, "COMPLETE")
    at_pacs = world.at_pacs(sent)
    assert {uid: set(copies) for uid, copies in at_pacs.items()} == {uid: {h} for uid, h in sent.items()}
    assert {uid for uid, copies in at_pacs.items() if len(copies) > 1} <= twice


def read(site: Gateway, copy: Path, sql: str, *args: object) -> list[tuple[object, ...]]:
    """Rows of a copy of a gateway's database."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("gateway.db", "gateway.db-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(site.folder / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "gateway.db")) as con:
        return con.execute(sql, args).fetchall()


async def test_sender_while_it_codes(world: Programs, tmp_path: Path) -> None:
    sent = write_study(tmp_path / "study", instances=200, side=32)
    view = await world.create(tmp_path / "study")
    await world.sender.kill()
    await world.sender.start()
    view = await world.sender.when(view.tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, sent, set())


async def test_receiver_between_the_last_commit_and_the_receipt(world: Programs, tmp_path: Path) -> None:
    """All is stored and booked, and the receipt has not left: it is in the outbox, and leaves after the start."""
    sent = write_study(tmp_path / "study", instances=6)
    view = await world.offer(tmp_path / "study")
    await world.sender.when(view.tid, lambda v: 0 < v.bytes == v.moved and v.total == len(sent))
    whole = (await world.sender.engine.transfer(view.tid)).bytes
    await world.receiver.when(view.tid, lambda v: v.moved == whole)
    world.down.hold("up", 0)
    await world.answer(view)
    await world.receiver.until(view.tid, "COMPLETE")
    await world.receiver.kill()
    assert (await world.sender.engine.transfer(view.tid)).state == "RELEASED"
    world.down.release()
    await world.receiver.start()
    await complete(world, view, sent, set())


async def test_sender_before_its_ack(world: Programs, tmp_path: Path) -> None:
    """It has the receipt, and R does not know that yet."""
    sent = write_study(tmp_path / "study", instances=6)
    world.store.hold("up", 0)
    view = await world.offer(tmp_path / "study")
    await world.answer(view)
    await world.receiver.until(view.tid, "OPENED")
    await world.store.held.wait()
    world.up.hold("up", 0)
    world.store.release()
    await world.sender.until(view.tid, "COMPLETE")
    await world.sender.kill()
    query = "SELECT count(*) FROM outbox WHERE kind='queue' AND tid=?"
    tid = bytes.fromhex(view.tid)
    assert read(world.receiver, tmp_path / "copy", query, tid) == [(1,)]
    world.up.release()
    await world.sender.start()

    async def acknowledged() -> bool | None:
        return True if read(world.receiver, tmp_path / "copy", query, tid) == [(0,)] else None

    await eventually(acknowledged)
    await complete(world, view, sent, set())


async def test_pacs_while_it_stores(world: Programs, tmp_path: Path) -> None:
    sent = write_study(tmp_path / "study", instances=16, side=128)
    world.store.hold("up", 200 * KB)
    view = await world.offer(tmp_path / "study")
    await world.answer(view)
    await world.store.held.wait()
    await world.pacs.kill()
    query = "SELECT sop_uid FROM ledger WHERE tid=? AND state='sending'"
    unknown = {str(r[0]) for r in read(world.receiver, tmp_path / "copy", query, bytes.fromhex(view.tid))}
    world.store.release()
    await world.pacs.start()
    await complete(world, view, sent, unknown)


async def test_both_while_an_addition_is_delivered(world: Programs, tmp_path: Path) -> None:
    """One addition, COMPLETE at both, nothing of its parent moves. (One after the other:
    `tests/integration/test_kill_additions.py`.)
    """
    living = await begin(world, tmp_path)
    world.store.hold("up", 200 * KB)
    await living.arrive()
    await living.close()
    await world.store.held.wait()
    tid = await living.added()
    await asyncio.gather(world.sender.kill(), world.receiver.kill())
    query = "SELECT sop_uid FROM ledger WHERE tid=? AND state='sending'"
    unknown = {str(r[0]) for r in read(world.receiver, tmp_path / "copy", query, bytes.fromhex(tid))}
    assert unknown
    world.store.release()
    await asyncio.gather(world.sender.start(), world.receiver.start())
    await living.complete(twice=unknown)


async def test_sender_after_the_yes_before_its_release_leaves(world: Programs, tmp_path: Path) -> None:
    """The release is committed and no byte of it has left: it leaves the store after the start, and so does m6."""
    sent = write_study(tmp_path / "study", instances=6)
    view = await world.offer(tmp_path / "study")
    await world.receiver.until(view.tid, "SEEN")
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
        world.up.hold_at(b"POST /v1/sites/")
        answer = asyncio.create_task(phone.decide("approve", by="patient", name="", rel="self"))
        await world.up.held.wait()
        assert (await world.sender.engine.transfer(view.tid)).state == "RELEASED"
        await world.sender.kill()
        world.up.cut()
        assert (await world.receiver.engine.transfer(view.tid)).state == "SEEN"
        query = (
            "SELECT count(*) FROM outbox o JOIN sends s ON s.tid=o.tid AND o.body=CAST(s.release AS BLOB)"
            " WHERE s.tid=?"
        )
        assert read(world.sender, tmp_path / "copy", query, bytes.fromhex(view.tid)) == [(1,)]
        world.up.release()
        await world.sender.start()
        assert (await answer).state == "RELEASED"
    await complete(world, view, sent, set())


async def test_receiver_before_it_has_stored_the_release(world: Programs, tmp_path: Path) -> None:
    """The relay has it in R's queue, the wire has it, and R dies before it has read it to the end."""
    sent = write_study(tmp_path / "study", instances=6)
    view = await world.offer(tmp_path / "study")
    await world.receiver.until(view.tid, "SEEN")
    whole = (
        await world.sender.when(view.tid, lambda v: 0 < v.bytes == v.moved and v.total == len(sent))
    ).bytes
    await world.receiver.when(view.tid, lambda v: v.moved == whole)
    world.down.hold("down", 0)
    assert await world.answer(view) == "RELEASED"
    await world.down.held.wait()
    await world.receiver.kill()
    query = "SELECT count(*) FROM used WHERE tid=?"
    assert read(world.receiver, tmp_path / "copy", query, bytes.fromhex(view.tid)) == [(0,)]
    world.down.release()
    await world.receiver.start()
    await complete(world, view, sent, set())


@pytest.mark.peer
async def test_sender_after_fsync_before_its_answer(world: Programs, tmp_path: Path) -> None:
    """The image is on the gateway's disk and the scanner has not heard so: it sends again, and there is one of it."""
    storescu = need("storescu")["storescu"]
    sent = write_study(tmp_path / "study", instances=1, side=256)
    scanner = Link(world.sender.dicom_port)
    await scanner.open()
    argv = ("-aec", "SENDER", "127.0.0.1", str(scanner.port), str(tmp_path / "study" / "000.dcm"))
    incoming = world.sender.folder / "incoming"
    before = set(incoming.glob("*.dcm"))
    scanner.hold("up", 60 * KB)
    process = await asyncio.create_subprocess_exec(
        storescu, *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    await scanner.held.wait()  # the association is there, and half of the image
    scanner.release()
    scanner.hold("down", 0)

    async def settled() -> set[Path] | None:
        return set(incoming.glob("*.dcm")) - before or None

    await eventually(settled)
    await world.sender.kill()
    scanner.release()
    assert await process.wait() != 0, "the scanner was told that it is stored"
    await world.sender.start()
    scanner.target = world.sender.dicom_port
    again = await asyncio.create_subprocess_exec(
        storescu, *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await again.wait() == 0
    await scanner.close()

    async def arrived() -> str | None:
        latest = (await world.sender.engine.studies(limit=1))[0]
        return latest.id if latest.instances == 1 and latest.open else None

    study = await eventually(arrived)
    await world.sender.engine.close_study(study, "test")
    view = await world.sender.engine.send(study, RECEIVER, "drill", "test")
    view = await world.sender.when(view.tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, sent, set())
