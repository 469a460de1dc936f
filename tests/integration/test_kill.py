"""kill -9 of every party, at every stage, and a start on the same folder and port: the same COMPLETE, no instance
lost, none delivered twice but what was on its way to the PACS at that moment.

Where a transfer stands when somebody dies is decided by a wire that is held (`tests.programs.Link`) or read from the
gateways, never by waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import sqlite3
from collections.abc import Set
from pathlib import Path

import pytest
import pytest_asyncio

from clients.drill import Phone
from clients.gateway.views import TransferView
from tests.peers import need
from tests.programs import RECEIVER, Link, Program, Programs, Running, eventually, write_study

pytestmark = pytest.mark.asyncio(loop_scope="module")
KB = 1024


@pytest_asyncio.fixture(loop_scope="module")
async def world(everybody: Programs) -> Programs:
    """All of them alive."""
    await everybody.heal()
    return everybody


@pytest.fixture
def study(tmp_path: Path) -> dict[str, bytes]:
    """About half a megabyte, at `tmp_path/study`."""
    return write_study(tmp_path / "study", instances=16, side=128)


async def complete(
    world: Programs, view: TransferView, sent: dict[str, bytes], twice: Set[str] = frozenset()
) -> None:
    """The one good end, at both sites; each instance at the PACS byte for byte, once, or `twice` at the most."""
    end = await world.sender.until(view.tid, "COMPLETE", "PARTIAL", "EXPIRED", "REVOKED")
    assert (end.state, end.stored, end.gaps, end.proof) == ("COMPLETE", len(sent), 0, "store")
    there = await world.receiver.until(view.tid, "COMPLETE")
    assert there.receipt_code == end.receipt_code
    at_pacs = world.at_pacs(sent)
    assert {uid: copies[0] for uid, copies in at_pacs.items()} == sent
    for uid, copies in at_pacs.items():
        assert set(copies) == {sent[uid]}
        assert len(copies) == 1 or uid in twice


async def again(program: Program) -> None:
    """kill -9, and at once a new start."""
    await program.kill()
    await program.start()


def sending(world: Programs, tid: str, copy: Path) -> set[str]:
    """SOP Instance UIDs that the dead receiver's ledger calls `sending`; read from a copy of its database."""
    copy.mkdir()
    for name in ("gateway.db", "gateway.db-wal"):
        shutil.copy(world.receiver.folder / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "gateway.db")) as con:
        query = "SELECT sop_uid FROM ledger WHERE tid=? AND state='sending'"
        return {row[0] for row in con.execute(query, (bytes.fromhex(tid),))}


# The sender


async def test_sender_while_it_imports(world: Programs, tmp_path: Path) -> None:
    sent = write_study(tmp_path / "study", instances=300, side=8)
    argv = ("send", str(world.sender.folder), "--path", str(tmp_path / "study"), "--to", RECEIVER)
    incoming = world.sender.folder / "incoming"
    before = len(list(incoming.iterdir()))
    first = Running("send", tmp_path / "send.log", *argv)
    waiting = asyncio.create_task(first.start())

    async def some() -> bool | None:
        return True if len(list(incoming.iterdir())) > before + 2 else None

    await eventually(some)
    await world.sender.kill()
    assert (await waiting)["event"] in ("failed", "created", "skipped")
    assert await first.end() == 1
    assert first.events[-1]["code"] == "busy"
    await world.sender.start()
    second = Running("send", tmp_path / "send.log", *argv)
    await second.start()
    offered = await second.event("offered")
    view = await world.sender.engine.transfer(offered["tid"])
    await world.answer(view)
    assert await second.end() == 0
    assert second.events[-1]["event"] == "complete"
    await complete(world, view, sent)
    assert not list(incoming.glob("*.part"))


async def test_sender_while_it_uploads(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    world.up.hold("up", 200 * KB)
    view = await world.create(tmp_path / "study")
    await world.up.held.wait()
    cut = await world.sender.when(view.tid, lambda v: v.total == len(study))
    assert cut.moved < cut.bytes
    await world.sender.kill()
    world.up.release()
    await world.sender.start()
    view = await world.sender.when(view.tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, study)


async def test_sender_after_the_offer(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    view = await world.offer(tmp_path / "study")
    await again(world.sender)
    later = await world.sender.engine.transfer(view.tid)
    assert (later.link, later.pin, later.expires_at) == (view.link, view.pin, view.expires_at)
    await world.answer(view)
    await complete(world, view, study)


async def test_sender_between_question_and_answer(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    view = await world.offer(tmp_path / "study")
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
        await world.sender.kill()
        answer = asyncio.create_task(phone.decide("approve", by="patient", name="", rel="self"))
        await world.sender.start()
        assert (await answer).state == "RELEASED"
    later = await world.sender.engine.transfer(view.tid)
    assert later.tries_left == view.tries_left
    await complete(world, view, study)


async def test_sender_after_the_yes(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    world.store.hold("up", 0)
    view = await world.offer(tmp_path / "study")
    assert await world.answer(view) == "RELEASED"
    await again(world.sender)
    assert (await world.sender.engine.transfer(view.tid)).state == "RELEASED"
    world.store.release()
    await complete(world, view, study)


# The receiver


async def test_receiver_while_it_fetches(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    world.down.hold("down", 150 * KB)
    view = await world.offer(tmp_path / "study")
    await world.down.held.wait()
    await world.receiver.kill()
    world.down.release()
    await world.receiver.start()
    seen = await world.receiver.when(view.tid, lambda v: 0 < v.bytes == v.moved)
    assert seen.state == "SEEN"
    await world.answer(view)
    await complete(world, view, study)


async def test_receiver_is_down_when_the_yes_comes(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    view = await world.offer(tmp_path / "study")
    await world.receiver.until(view.tid, "SEEN")
    await world.receiver.kill()
    assert await world.answer(view) == "RELEASED"
    await world.receiver.start()
    await complete(world, view, study)


async def test_receiver_while_it_delivers(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    world.store.hold("up", 200 * KB)
    view = await world.offer(tmp_path / "study")
    await world.answer(view)
    await world.store.held.wait()
    there = await world.receiver.when(view.tid, lambda v: v.stored > 0)
    assert there.stored < len(study)
    await world.receiver.kill()
    unknown = sending(world, view.tid, tmp_path / "copy")
    assert 0 < len(unknown) < len(study)
    world.store.release()
    await world.receiver.start()
    await complete(world, view, study, twice=unknown)


# The relay


async def test_relay_while_it_takes_packs(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    world.up.hold("up", 200 * KB)
    view = await world.create(tmp_path / "study")
    await world.up.held.wait()
    await world.relay.kill()
    world.up.release()
    await world.relay.start()
    view = await world.sender.when(view.tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, study)


async def test_relay_between_question_and_answer(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    view = await world.offer(tmp_path / "study")
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
        await world.relay.kill()
        answer = asyncio.create_task(phone.decide("approve", by="patient", name="", rel="self"))
        await world.relay.start()
        assert (await answer).state == "RELEASED"
    await complete(world, view, study)


async def test_relay_after_the_yes(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    world.store.hold("up", 0)
    view = await world.offer(tmp_path / "study")
    await world.answer(view)
    await world.receiver.until(view.tid, "OPENED")
    await again(world.relay)
    world.store.release()
    await complete(world, view, study)


# All of them


async def test_everybody_while_they_deliver(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    world.store.hold("up", 200 * KB)
    view = await world.offer(tmp_path / "study")
    await world.answer(view)
    await world.store.held.wait()
    await asyncio.gather(*(program.kill() for program in world.programs))
    unknown = sending(world, view.tid, tmp_path / "copy")
    world.store.release()
    await asyncio.gather(*(program.start() for program in world.programs))
    await complete(world, view, study, twice=unknown)


async def test_the_dicom_port_is_free_at_once(world: Programs) -> None:
    port = world.sender.dicom_port
    assert world.sender.children()
    await world.sender.kill()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
    await world.sender.start()
    assert world.sender.dicom_port == port


# A scanner


@pytest.mark.peer
async def test_what_a_scanner_was_told_is_stored_is_sent(world: Programs, tmp_path: Path) -> None:
    """storescu sends while the gateway is killed. What was answered 0x0000 travels; the rest comes again."""
    storescu = need("storescu")["storescu"]
    sent = write_study(tmp_path / "study", instances=16, side=128)
    scanner = Link(world.sender.dicom_port)
    await scanner.open()
    argv = ("-v", "-aec", "SENDER", "127.0.0.1", str(scanner.port), "+sd", str(tmp_path / "study"))
    scanner.hold("up", 200 * KB)
    process = await asyncio.create_subprocess_exec(
        storescu, *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    await scanner.held.wait()
    await world.sender.kill()
    scanner.release()
    said = (await process.communicate())[0].decode()
    stored = answered(said)
    assert 0 < len(stored) < len(sent)
    await world.sender.start()

    async def arrived() -> bool | None:
        found = await world.sender.engine.studies("NADEL-")
        here = next((s for s in found if s.open), None)
        return True if here is not None and here.instances >= len(stored) else None

    await eventually(arrived)
    scanner.target = world.sender.dicom_port
    process = await asyncio.create_subprocess_exec(
        storescu, *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert len(answered((await process.communicate())[0].decode())) == len(sent)
    await scanner.close()
    latest = (await world.sender.engine.studies(limit=1))[0]
    view = await world.sender.engine.send(latest.id, RECEIVER, "drill", "test")

    async def whole() -> bool | None:
        return True if (await world.sender.engine.study(latest.id)).instances == len(sent) else None

    await eventually(whole)
    await world.sender.engine.close_study(latest.id, "test")
    view = await world.sender.when(view.tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, sent)


def answered(log: str) -> list[str]:
    """The files that storescu says were answered with Success."""
    found, current = [], ""
    for line in log.splitlines():
        if name := re.search(r"Sending file: (.*)", line):
            current = name[1]
        elif "Received Store Response (Success)" in line:
            found.append(current)
    return found
