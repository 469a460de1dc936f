"""What breaks beside the transfer: full disks, a relay restored from its backup, PACS that refuse, abort and fall
silent. After each the transfer goes on by itself, nothing is lost, and nothing is booked twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from clients.gateway.errors import DiskFullError
from tests.faults.disks import SmallDisk, full_database, small_disk
from tests.programs import digests, write_study
from tests.world import Site, World


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Half a megabyte that no codec makes smaller, so that it takes several packs."""
    write_study(tmp_path / "study", instances=16, side=128)
    return tmp_path / "study"


async def delivered(world: World, tid: str, sent: dict[str, bytes]) -> None:
    """The one good end at both sites, byte for byte."""
    end = await world.sender.until(tid, "COMPLETE", "PARTIAL")
    there = await world.receiver.until(tid, "COMPLETE", "PARTIAL")
    assert (end.state, end.stored, end.gaps) == ("COMPLETE", len(sent), 0)
    assert (there.state, there.stored) == ("COMPLETE", len(sent))
    assert world.stored() == sent


# Disk full, at each writer


async def noticed(site: Site, disk: SmallDisk, sign: str) -> None:
    """Somebody met the full disk: a half-written file of theirs is on it."""

    async def look() -> bool | None:
        return True if list(disk.folder.rglob(sign)) else None

    await site.eventually(look)


async def test_full_at_import(world: World, noise: Path) -> None:
    with small_disk(world.sender.folder / "incoming", "100k") as disk:
        with pytest.raises(DiskFullError):
            await world.sender.engine.import_path(str(noise), "test")
        assert list(disk.folder.iterdir()) == []


async def test_full_at_the_spool(world: World, noise: Path) -> None:
    """The first packs fit. The rest is sealed once there is room, and none of the images is forgotten."""
    sent = digests(noise)
    with small_disk(world.sender.folder / "spool", "300k") as disk:
        view = await world.offer(noise)
        await noticed(world.sender, disk, "*.part")
        await world.answer(view)
        disk.free()
        await delivered(world, view.tid, sent)


async def test_full_at_the_sender_s_database(world: World, noise: Path) -> None:
    """Between two packs, while it uploads, and when the answer comes: no step is lost."""
    sent = digests(noise)
    result = await world.sender.engine.import_path(str(noise), "test")
    view = await world.sender.engine.send(result["studies"][0], "Lakeside Trauma Center", "transfer", "test")
    async with full_database(world.sender.rooms.db):
        await stuck(world.sender)
    await world.answer(view)
    await delivered(world, view.tid, sent)
    moved = await world.sender.engine.transfer(view.tid)
    assert moved.moved == moved.bytes


async def test_full_at_the_receiver_s_packs(world: World, noise: Path) -> None:
    sent = digests(noise)
    with small_disk(world.receiver.folder / "sealed", "200k") as disk:
        view = await world.offer(noise)
        await noticed(world.receiver, disk, "*.part")
        await world.answer(view)
        disk.free()
        await delivered(world, view.tid, sent)


async def test_full_at_the_receiver_s_images(world: World, noise: Path) -> None:
    """Nothing is sent twice because something else could not be written."""
    sent = digests(noise)
    with small_disk(world.receiver.folder / "restored", "100k") as disk:
        disk.fill()
        view = await world.offer(noise)
        await world.answer(view)

        async def alarmed() -> bool | None:
            return True if (await world.receiver.engine.transfer(view.tid)).alarms else None

        await world.receiver.until(view.tid, "OPENED")
        await world.receiver.eventually(alarmed)
        disk.free()
        await delivered(world, view.tid, sent)


async def test_full_at_the_receiver_s_database_while_it_fetches(world: World, noise: Path) -> None:
    """The fetcher of a study that met a full disk begins again by itself."""
    sent = digests(noise)
    view = await world.offer(noise)
    await world.receiver.until(view.tid, "SEEN")
    async with full_database(world.receiver.rooms.db):
        await stuck(world.receiver)
    await world.answer(view)
    await delivered(world, view.tid, sent)


async def test_full_at_the_receiver_s_database_while_it_delivers(world: World, noise: Path) -> None:
    """What the PACS has is booked once there is room, and not sent again."""
    sent = digests(noise)
    view = await world.offer(noise)
    await world.answer(view)
    await world.receiver.until(view.tid, "OPENED")
    async with full_database(world.receiver.rooms.db):
        await stuck(world.receiver)
    await delivered(world, view.tid, sent)


async def stuck(site: Site) -> None:
    """Until a write was refused."""

    async def look() -> bool | None:
        try:
            await site.engine.record("test", "test", "", "x" * 5000)
        except DiskFullError:
            return True
        return None

    await site.eventually(look)
    for _ in range(10):  # and everybody had a turn to meet it
        with contextlib.suppress(DiskFullError):
            await site.engine.record("test", "test", "", "x" * 3000)
        await asyncio.sleep(0.1)
