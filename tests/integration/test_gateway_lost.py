"""Images that a hospital's own disk lost or changed, and images that come late: never a complete study, always said."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from tests.world import World, hashes


async def test_a_file_that_changed_before_it_was_sealed(world: World, study: Path) -> None:
    """All others arrive byte for byte, and both sides say that one is missing."""
    sent = hashes(study)
    result = await world.sender.engine.import_path(str(study), "test")
    path = sorted((world.sender.folder / "incoming").glob("*.dcm"))[5]
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    view = await world.sender.engine.send(result["studies"][0], "Lakeside Trauma Center", "transfer", "test")
    await world.sender.until(view.tid, "OFFERED")
    await world.answer(await world.sender.engine.transfer(view.tid))
    here = await world.sender.until(view.tid, "COMPLETE", "PARTIAL")
    there = await world.receiver.until(view.tid, "COMPLETE", "PARTIAL")
    assert (here.state, here.why, here.gaps) == ("PARTIAL", "unsent", 1)
    assert (there.state, there.why, there.stored, there.gaps) == ("PARTIAL", "unsent", len(sent) - 1, 1)
    assert len(here.alarms) == 1
    assert len(world.stored()) == len(sent) - 1
    assert world.stored().items() <= sent.items()


async def test_the_source_sends_it_again_and_the_next_transfer_is_whole(world: World, study: Path) -> None:
    await world.sender.engine.import_path(str(study), "test")
    path = sorted((world.sender.folder / "incoming").glob("*.dcm"))[5]
    await asyncio.to_thread(path.unlink)
    view = await world.offer(study)
    await world.answer(view)
    await world.sender.until(view.tid, "COMPLETE")
    assert world.stored() == hashes(study)


async def test_an_image_that_comes_after_the_study_was_closed(
    world: World, study: Path, tmp_path: Path
) -> None:
    """Where no additions were asked for, it is not in the transfer that was frozen without it; staff are told, and the
    next transfer has it.
    """
    first = tmp_path / "first"
    first.mkdir()
    files = sorted(study.rglob("*.dcm"))
    for number, file in enumerate(files[:-1]):
        shutil.copy(file, first / f"{number}.dcm")
    view = await world.offer(first, add=0)

    async def sealed() -> bool | None:
        return (await world.sender.engine.transfer(view.tid)).total == len(files) - 1 or None

    await world.sender.eventually(sealed)
    result = await world.sender.engine.import_path(str(files[-1]), "test")
    alarms = (await world.sender.engine.transfer(view.tid)).alarms
    assert len(alarms) == 1
    assert "after" in alarms[0]
    await world.answer(view)
    await world.sender.until(view.tid, "COMPLETE")
    assert len(world.stored()) == len(files) - 1
    again = await world.sender.engine.send(result["studies"][0], "Lakeside Trauma Center", "transfer", "test")
    await world.sender.until(again.tid, "OFFERED")
    await world.answer(await world.sender.engine.transfer(again.tid))
    await world.sender.until(again.tid, "COMPLETE")
