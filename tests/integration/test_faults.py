"""What breaks beside the transfer: full disks, a relay restored from its backup. After each the transfer goes on by
itself, nothing is lost, and nothing is booked twice. (PACS: `tests/faults/test_pacs.py`.)
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest

from clients.drill import LinkError, Phone
from clients.gateway.errors import DiskFullError
from clients.gateway.intake import staging
from clients.gateway.peers import outbox
from clients.gateway.peers import relay as relay_client
from clients.gateway.peers.relay import PackLine, PackList, SiteEntry
from clients.gateway.sending import imports, reminder
from clients.gateway.views import TransferView
from tests.faults.disks import SmallDisk, full_database, small_disk
from tests.programs import digests, write_study
from tests.world import Site, World
from transfer.door import WrongPinError
from transfer.ids import Cid


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


async def test_full_in_mid_import(world: World, noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills at one of the images: nothing half stays, and the same import goes through once there is room;
    a third one brings nothing twice.
    """
    monkeypatch.setattr(staging, "_RESERVE", 0)  # else it stops before the disk does
    sent, engine = digests(noise), world.sender.engine
    with small_disk(world.sender.folder / "incoming", "200k") as disk:
        with pytest.raises(DiskFullError) as said:
            await engine.import_path(str(noise), "test")
        assert said.value.sentence
        assert list(disk.folder.iterdir()) == []
        assert await engine.studies() == []
        disk.free()
        done = [await engine.import_path(str(noise), "test") for _ in range(2)]
        assert done[0] == done[1] == {"studies": done[0]["studies"], "accepted": len(sent), "skipped": []}
        assert len(list(disk.folder.iterdir())) == len(sent)
        view = await engine.send(done[0]["studies"][0], "Lakeside Trauma Center", "transfer", "test")
        await world.answer(view)
        await delivered(world, view.tid, sent)


async def test_full_in_mid_import_of_what_is_offered_already(
    world: World, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest will not come: the offer is stopped with a sentence, no part is left, and the same import goes through
    once there is room.
    """
    monkeypatch.setattr(staging, "_RESERVE", 0)
    monkeypatch.setattr(
        imports, "check_room", lambda size, folder: None
    )  # it was there when it was looked for
    sent, engine = digests(noise), world.sender.engine
    with small_disk(world.sender.folder / "incoming", "200k") as disk:
        first = await engine.import_path(str(noise), "test", early=True)

        async def stopped() -> bool | None:
            return None if (await engine.study(first["studies"][0])).open else True

        await world.sender.eventually(stopped)
        assert list(disk.folder.glob("*.part")) == []
        disk.free()
        done = await engine.import_path(str(noise), "test", early=True)
        assert (done["studies"], done["accepted"], done["skipped"]) == (first["studies"], len(sent), [])
        assert len(list(disk.folder.glob("*.dcm"))) <= len(sent)
        view = await engine.send(done["studies"][0], "Lakeside Trauma Center", "transfer", "test")
        await world.answer(view)
        await delivered(world, view.tid, sent)
        assert len(list(disk.folder.glob("*.dcm"))) == len(sent)


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


# The relay, restored from an older backup


class Backup:
    """A copy of the relay's database; the packs are files that no backup holds."""

    def __init__(self, world: World, copy: Path) -> None:
        self._world, self._copy = world, copy

    async def take(self) -> None:
        """With the relay stopped: as it is now."""
        await self._world.relay.stop()
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        for file in self._world.relay_config.data.glob("relay.db*"):
            shutil.copy(file, self._copy)
        assert list(self._copy.iterdir())
        await self._world.start_relay()

    async def restore(self) -> None:
        """All that the relay heard since is forgotten."""
        await self._world.relay.stop()
        for file in self._world.relay_config.data.glob("relay.db*"):
            file.unlink()
        for file in self._copy.iterdir():
            shutil.copy(file, self._world.relay_config.data)
        await self._world.start_relay()


@pytest.fixture
async def backup(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backup:
    """And gateways that need no minute to remind the relay."""
    monkeypatch.setattr(reminder, "_EVERY", 0.5)
    monkeypatch.setattr(outbox, "_RESEND", 1)
    monkeypatch.setattr(relay_client, "POLL", 1)
    for site in (world.sender, world.receiver):
        await site.close()
        await site.open()
    return Backup(world, tmp_path / "backup")


async def test_relay_restored_from_before_the_offer(world: World, noise: Path, backup: Backup) -> None:
    """It knows neither packs, nor readers, nor the mailbox; the tries that were spent are S's to count."""
    sent = digests(noise)
    await backup.take()
    view = await world.offer(noise)
    await world.receiver.until(view.tid, "SEEN")
    async with Phone(view.link, f"{(int(view.pin) + 1) % 10**6:06d}") as wrong:
        with pytest.raises(WrongPinError):
            await wrong.ask()
    await backup.restore()

    async def scannable() -> bool | None:
        try:
            await world.answer(view)
        except LinkError:
            return None
        return True

    await world.sender.eventually(scannable)
    after = await world.sender.engine.transfer(view.tid)
    assert after.tries_left == view.tries_left - 1
    await delivered(world, view.tid, sent)


async def test_relay_restored_from_before_the_yes(world: World, noise: Path, backup: Backup) -> None:
    """It serves old messages again: what was used stays used, and an end stays an end."""
    sent = digests(noise)
    view = await world.offer(noise)
    await world.receiver.until(view.tid, "SEEN")
    await backup.take()
    await world.answer(view)
    await world.receiver.until(view.tid, "OPENED", "COMPLETE")
    await backup.restore()
    await delivered(world, view.tid, sent)
    await backup.restore()
    async with Phone(view.link, view.pin) as late:
        asked = await late.ask()
        assert asked.decided is not None
        status = await late.decide("deny", by="patient", name="", rel="self")
    assert (status.state, status.refused) == ("COMPLETE", "decided")
    await delivered(world, view.tid, sent)


# A relay whose lies outlast it


async def ended(world: World, noise: Path, *states: str) -> tuple[TransferView, TransferView]:
    """A transfer with a yes; both sites' views of its end."""
    view = await world.offer(noise)
    await world.answer(view)
    return await world.sender.until(view.tid, *states), await world.receiver.until(view.tid, *states)


async def test_numbers_of_a_relay_are_not_trusted_for_ever(world: World, noise: Path) -> None:
    """It once named a number of its queue, and a size of a pack, that never come: all is asked for again."""
    queue, packs = world.receiver.rooms.relay.queue, world.receiver.rooms.relay.list_packs
    lies = iter([SiteEntry(seq=2**52, at=1, body="")])
    sizes = iter([PackLine(0, "M", 2**20 + 40), PackLine(1, "D", 2**22 + 40)])

    async def lying_queue(after: int) -> list[SiteEntry]:
        told = [lie] if (lie := next(lies, None)) else []
        return told or (await queue(after) if after < 2**50 else [])

    async def lying_list(cid: Cid, after: int, wait: int = 1) -> PackList:
        told = list(sizes)
        return PackList(told, 2**52) if told else await packs(cid, after, 0)

    world.receiver.rooms.relay.queue = lying_queue  # type: ignore[method-assign]
    world.receiver.rooms.relay.list_packs = lying_list  # type: ignore[method-assign]
    sent = digests(noise)
    view = await world.offer(noise)
    await world.answer(view)
    await delivered(world, view.tid, sent)


async def test_a_pack_that_never_opens_ends_at_both(world: World, noise: Path) -> None:
    """Before any record was seen there is nothing to confirm: R declines, and S does not wait for a week."""

    async def rotten(cid: Cid, n: int) -> bytes:
        return bytes(len(await good(cid, n)))

    good = world.receiver.rooms.relay.get_pack
    world.receiver.rooms.relay.get_pack = rotten  # type: ignore[method-assign]
    end, there = await ended(world, noise, "COMPLETE", "PARTIAL")
    assert (end.state, end.why, there.state) == ("PARTIAL", "pack", "PARTIAL")
    assert world.stored() == {}
