"""`clients.gateway.rooms`: put together once, kept running, and taken apart whole."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from clients.gateway import folder as folders
from clients.gateway import rooms as rooms_module
from clients.gateway.clock import Signal
from clients.gateway.engine import GatewayEngine
from clients.gateway.errors import BusyError, ConfigError, DiskFullError
from clients.gateway.lock import FolderLock
from clients.gateway.rooms import Rooms
from clients.gateway.store.database import rows
from tests.gateway_kit import NOWHERE, PATIENCE, an_instance, eventually
from tests.image_kit import part10
from tests.rooms_kit import Desk, a_desk


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A gateway whose relay is down."""
    await folders.init(tmp_path / "g", name="Valley ED", relay=NOWHERE, dicom="127.0.0.1:0")
    return tmp_path / "g"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as made:
        yield made


def test_a_ladder_that_is_not_understood_is_said_by_its_line_before_anything_starts(folder: Path) -> None:
    ladder = folder / "ladder.toml"
    ladder.write_text(ladder.read_text().replace('name = "voice"', 'name = "nurse"'))
    line = ladder.read_text().splitlines().index('name = "nurse"         # someone answers by telephone') + 1
    with pytest.raises(ConfigError, match=rf"ladder.toml, line {line}: there is no rung 'nurse'"):
        Rooms(folder)


def children() -> set[str]:
    """Processes of ours that run now."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended meanwhile
            found.update((task / "children").read_text().split())
    return found


async def test_it_opens_and_closes_without_a_relay(folder: Path) -> None:
    for _ in range(2):
        rooms = Rooms(folder)
        await rooms.open()
        assert rooms.scp_address is not None
        assert rooms.scp_address[1] > 0
        async with asyncio.timeout(PATIENCE):
            await rooms.close()
        FolderLock(folder).release()


async def test_one_engine_for_a_folder(folder: Path) -> None:
    rooms = Rooms(folder, dicom=False)
    await rooms.open()
    with pytest.raises(BusyError):
        await Rooms(folder, dicom=False).open()
    assert await GatewayEngine(rooms).studies() == []
    await rooms.close()


async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """Another program has the port: no lock, no child, no open database; and with another port, a start."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    folder = tmp_path / "g"
    await folders.init(folder, name="X", relay=NOWHERE, dicom=f"127.0.0.1:{port}", pacs="PACS@127.0.0.1:9")
    before = children()
    with pytest.raises(ConfigError, match="listens"):
        await Rooms(folder).open()
    assert children() <= before
    FolderLock(folder).release()
    taken.close()
    text = (folder / "gateway.toml").read_text("utf-8")
    (folder / "gateway.toml").write_text(text.replace(f"127.0.0.1:{port}", "127.0.0.1:0"), "utf-8")
    rooms = Rooms(folder)
    await rooms.open()
    await rooms.close()
    assert children() <= before


@pytest.mark.parametrize("part", ["site.key", "gateway.db"])
async def test_a_folder_with_a_part_missing_is_said_in_words(folder: Path, part: str) -> None:
    (folder / part).unlink()
    with pytest.raises(ConfigError):
        await Rooms(folder, dicom=False).open()
    FolderLock(folder).release()


async def test_what_a_crash_left_in_the_clear_is_deleted_at_the_start(folder: Path) -> None:
    left = folder / "restored" / ("0" * 32)
    left.mkdir(parents=True)
    (left / "1.dcm").write_bytes(b"somebody's images")
    rooms = Rooms(folder, dicom=False)
    await rooms.open()
    assert list((folder / "restored").iterdir()) == []
    await rooms.close()


async def test_what_a_crash_left_without_a_row_is_adopted_at_the_start(folder: Path) -> None:
    (folder / "incoming").mkdir()
    (folder / "incoming" / ("a" * 32 + ".dcm")).write_bytes(part10(an_instance()))
    rooms = Rooms(folder, dicom=False)
    await rooms.open()
    engine = GatewayEngine(rooms)
    (study,) = await eventually(engine.studies)
    assert study.instances == 1
    await rooms.close()


async def test_a_loop_that_fails_begins_again_and_its_words_are_ours(folder: Path) -> None:
    rooms = Rooms(folder, dicom=False)
    runs = 0

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("DOE, JANE")
        if runs == 2:
            raise DiskFullError
        if runs == 3:
            raise ExceptionGroup("", [ExceptionGroup("", [KeyError("DOE, JANE")])])

    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(PATIENCE):
            await rooms._keep("test", loop)
    assert runs == 4
    assert [(entry["event"], entry.get("kind", entry.get("code"))) for entry in logs] == [
        ("a loop failed", "ValueError"), ("a loop rests", "disk-full"), ("a loop failed", "KeyError"),
    ]  # fmt: skip
    assert "DOE" not in str(logs)


async def test_a_loop_is_cancelled_while_it_rests(folder: Path) -> None:
    rooms = Rooms(folder, dicom=False)

    async def loop() -> None:
        raise ValueError

    task = asyncio.create_task(rooms._keep("test", loop))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_every_loop_runs(desk: Desk) -> None:
    assert all(not task.done() for task in desk.rooms._tasks)
    assert len(desk.rooms._tasks) == len(desk.rooms._loops())


async def test_a_stopped_transfer_is_no_reason_to_hold_others_up(desk: Desk) -> None:
    """Staff stop it just as its offer is being made."""
    study = await desk.study()
    await desk.house.pins.renew()
    tid = await desk.rooms.offers.create(study, desk.house.site, "transfer", "clerk")
    await desk.rooms.offers.stop(tid, "clerk")
    await desk.rooms._make_offer(tid, desk.house.site)
    assert (await desk.engine.transfer(tid.hex())).state == "REVOKED"


async def test_a_packer_ends_with_its_transfer(desk: Desk) -> None:
    tid = await desk.offered()

    async def packing_is_over() -> bool:
        found = await desk.rooms.db.run(lambda con: rows(con, "SELECT 1 FROM spools WHERE ended=1"))
        return bool(found) and not any(not t.done() for t in desk.rooms._packers.values())

    await eventually(packing_is_over)
    cid = (await desk.rooms.db.run(lambda con: rows(con, "SELECT cid FROM spools")))[0]["cid"]
    spool = desk.folder / "spool" / bytes(cid).hex()
    assert spool.exists()
    await desk.engine.cancel(tid, "clerk")

    async def gone() -> bool:
        return not spool.exists()

    await eventually(gone)


async def test_a_gateway_that_only_sends_has_no_pacs(desk: Desk) -> None:
    assert desk.rooms.scu is None
    assert desk.rooms.scp is None


async def test_late_images_are_looked_for_now_and_then_where_much_changes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scanner's study is a change for each image; after the last of them there is a look all the same."""
    offers, looks, passed = desk.rooms.offers, list[int](), Signal()
    follow_up, waiting_for_prekey = offers.follow_up, offers.waiting_for_prekey

    async def look() -> bool:
        looks.append(desk.rooms.changed.seen)
        return await follow_up()

    async def rest() -> object:
        found = await waiting_for_prekey()
        passed.set()
        return found

    async def change(times: int) -> None:
        for _ in range(times):
            seen = passed.seen
            desk.rooms.changed.set()
            assert await passed.wait(seen, PATIENCE)

    monkeypatch.setattr(offers, "follow_up", look)
    monkeypatch.setattr(offers, "waiting_for_prekey", rest)
    monkeypatch.setattr(rooms_module, "_FOLLOW", PATIENCE * 10)

    async def looked() -> bool:
        await change(1)
        return bool(looks)

    await eventually(looked)
    before = len(looks)
    await change(20)
    assert len(looks) == before

    monkeypatch.setattr(rooms_module, "_FOLLOW", 0.02)
    desk.rooms._tasks.append(asyncio.create_task(desk.rooms._make_offers()))  # which knows of no look yet
    await change(20)
    last = desk.rooms.changed.seen

    async def seen() -> bool:
        return looks[-1] >= last

    await eventually(seen)
