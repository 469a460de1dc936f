"""A study is offered while its images are still being read (ADR 0016), and whoever reads them dies of kill -9.

Whoever reads: the gateway, or a `send` that holds the folder itself. The end is COMPLETE with every image that the
path held, or it is no COMPLETE.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
import pytest_asyncio

from clients.gateway.views import TransferView
from tests.programs import RECEIVER, Programs, Running, write_study

pytestmark = pytest.mark.asyncio(loop_scope="module")
FILES = 100


@pytest_asyncio.fixture(loop_scope="module")
async def world(everybody: Programs) -> Programs:
    """All of them alive."""
    await everybody.heal()
    return everybody


@pytest.fixture
def study(tmp_path: Path) -> dict[str, bytes]:
    """Many small images, at `tmp_path/study`: reading them takes longer than an offer."""
    return write_study(tmp_path / "study", instances=FILES, side=8)


async def offered(world: Programs, path: Path) -> tuple[Running, str]:
    """`send --path`, when it has just said what to scan; and the transfer."""
    argv = ("send", str(world.sender.folder), "--path", str(path), "--to", RECEIVER)
    command = Running("send", path.parent / "send.log", *argv)
    await command.start()
    return command, str((await command.event("offered"))["tid"])


def missing(world: Programs, copy: Path) -> int:
    """Images that the dead sender had not taken in yet; read from a copy of its database."""
    copy.mkdir()
    for name in ("gateway.db", "gateway.db-wal"):
        if (world.sender.folder / name).exists():
            shutil.copy(world.sender.folder / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "gateway.db")) as con:
        query = (
            "SELECT count(*) FROM imports m JOIN import_files f ON f.import=m.id WHERE m.stopped='' AND NOT EXISTS"
            " (SELECT 1 FROM instances i WHERE i.sop_uid=f.sop_uid)"
        )
        return int(con.execute(query).fetchone()[0])


async def complete(world: Programs, view: TransferView, sent: dict[str, bytes]) -> None:
    """Both sites say COMPLETE, and the PACS has each image."""
    end = await world.sender.until(view.tid, "COMPLETE", "PARTIAL", "EXPIRED", "REVOKED")
    assert (end.state, end.stored, end.gaps) == ("COMPLETE", len(sent), 0)
    await world.receiver.until(view.tid, "COMPLETE")
    assert {uid: copies[0] for uid, copies in world.at_pacs(sent).items()} == sent


async def test_the_gateway_dies_and_goes_on(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    command, tid = await offered(world, tmp_path / "study")
    await world.sender.kill()
    assert await command.end() == 1
    assert command.events[-1]["code"] == "busy"
    assert 0 < missing(world, tmp_path / "copy") < FILES
    await world.sender.start()
    view = await world.sender.when(tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, study)


async def test_the_command_dies_and_the_gateway_goes_on(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    await world.sender.stop()
    command, tid = await offered(world, tmp_path / "study")
    await command.kill()
    assert 0 < missing(world, tmp_path / "copy") < FILES
    await world.sender.start()
    view = await world.sender.when(tid, lambda v: v.link != "")
    await world.answer(view)
    await complete(world, view, study)


async def test_the_path_is_gone_after_the_crash(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    _, tid = await offered(world, tmp_path / "study")
    await world.sender.kill()
    assert missing(world, tmp_path / "copy") > 0
    shutil.rmtree(tmp_path / "study")
    await world.sender.start()
    end = await world.sender.until(tid, "REVOKED", "COMPLETE", "PARTIAL")
    assert (end.state, end.why) == ("REVOKED", "import-unfinished")
    assert any("nothing at this path" in sentence for sentence in end.alarms)
    there = await world.receiver.seen(tid)
    assert there is None or there.stored == 0


async def test_the_path_is_gone_after_the_yes(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    """The yes was said while images were missing: what is here arrives, and both sides say that it is not all."""
    _, tid = await offered(world, tmp_path / "study")
    await world.sender.kill()
    left = missing(world, tmp_path / "copy")
    assert left > 0
    shutil.move(tmp_path / "study", tmp_path / "elsewhere")
    with contextlib.closing(sqlite3.connect(world.sender.folder / "gateway.db", isolation_level=None)) as con:
        # as if it had died again at once: the import is open while the phone answers
        con.execute("UPDATE imports SET stopped='held' WHERE stopped=''")
    await world.sender.start()
    view = await world.sender.when(tid, lambda v: v.link != "")
    await world.answer(view)
    await world.sender.kill()
    with contextlib.closing(sqlite3.connect(world.sender.folder / "gateway.db", isolation_level=None)) as con:
        con.execute("UPDATE imports SET stopped='' WHERE stopped='held'")
    await world.sender.start()
    end = await world.sender.until(tid, "COMPLETE", "PARTIAL", "REVOKED")
    assert end.state == "PARTIAL"
    assert 0 < end.gaps <= left  # whole files that had no row yet are taken in by the start
    assert any("nothing at this path" in sentence for sentence in end.alarms)
    there = await world.receiver.until(tid, "COMPLETE", "PARTIAL")
    assert (there.state, there.why) == ("PARTIAL", "unsent")
