"""`clients.gateway.sending.imports`: what a crash leaves, and files that fail while their study is already offered."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.gateway.sending.offers import UNFINISHED
from tests.dicom_kit import save
from tests.gateway_kit import Handset, an_instance, carry
from tests.imports_kit import FILES, Gate, Party, disc, gate, held, party
from tests.spool_kit import Restored
from transfer.ids import Tid

__all__ = ["disc", "gate", "party"]


# Crashes


@pytest.mark.parametrize("after", [1, 2, FILES - 1])
async def test_after_a_crash_it_goes_on(party: Party, gate: Gate, after: int) -> None:
    gate.hold(after)
    async with party.up() as imports:
        tid = await party.offered((await party.early(imports)).studies[0])
        await held(gate)
    gate.crash()
    await party.s.restart()
    await party.s.studies.close_quiet(0)
    assert (await party.study())[1] == 0
    async with party.up():
        await party.done()
    assert await party.study() == (FILES, 1)
    spool = await party.seal(tid)
    assert len((await Restored(spool).read()).items) == FILES
    assert await spool.value("SELECT unsent FROM spools WHERE cid=?") == 0
    assert await party.s.alarms(tid) == []
    assert not list(party.s.studies.refused.iterdir())


async def test_a_crash_before_the_first_image(party: Party, gate: Gate) -> None:
    gate.hold(0)
    async with party.up() as imports:
        asking = asyncio.create_task(party.early(imports))
        await held(gate)
        asking.cancel()
        await asyncio.wait([asking])
    gate.crash()
    await party.s.restart()
    async with party.up():
        await party.done()
    assert await party.study() == (FILES, 1)


def _gone(disc: Path) -> None:
    shutil.rmtree(disc)


def _one_less(disc: Path) -> None:
    (disc / "6.dcm").unlink()


def _one_more(disc: Path) -> None:
    save(an_instance(InstanceNumber=7), disc / "7.dcm")


def _another_study(disc: Path) -> None:
    shutil.rmtree(disc)
    disc.mkdir()
    for n in (1, 2):
        save(an_instance(InstanceNumber=n, StudyInstanceUID="2.25.99"), disc / f"{n}.dcm")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_gone, "import-absent"), (_one_less, "import-changed"), (_one_more, "import-changed"),
        (_another_study, "import-changed"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
async def test_a_path_that_is_another_after_the_crash_stops_the_offer(
    party: Party, gate: Gate, change: Callable[[Path], None], code: str
) -> None:
    gate.hold(2)
    async with party.up() as imports:
        tid = await party.offered((await party.early(imports)).studies[0])
        await held(gate)
    gate.crash()
    change(party.disc)
    await party.s.restart()
    async with party.up():
        await party.done()
    row = await party.s.send(tid)
    assert (row["state"], row["why"]) == ("REVOKED", UNFINISHED)
    assert await party.s.alarms(tid) == [UNFINISHED]
    (kept,) = await party.s.rows("SELECT stopped, path FROM imports")
    assert (kept["stopped"], kept["path"]) == (code, ""), "a path may name a patient"
    assert (await party.study())[1] == 1


async def test_what_was_copied_before_the_crash_does_not_open_a_study_whose_import_is_stopped(
    party: Party, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash came between the copy of a file and its row; at the start the import was looked at first."""
    gate.hold(2)
    async with party.up() as imports:
        await party.early(imports)
        await held(gate)
    gate.crash()
    shutil.copy(party.disc / "6.dcm", party.s.studies.incoming / "copied.dcm")
    _one_less(party.disc)
    await party.s.restart()
    adopt = party.s.studies._adopt_leftovers

    async def late() -> None:
        for _ in range(100):
            await party.s.rows("SELECT 1")
        await adopt()

    monkeypatch.setattr(party.s.studies, "_adopt_leftovers", late)
    async with party.up():
        await party.done()
    images, closed = await party.study()
    assert await party.s.value("SELECT count(*) FROM instances WHERE file='copied.dcm'") == 1
    assert (images > 1, closed) == (True, 1)


# Half-way


async def stopped_half_way(party: Party, gate: Gate, change: Callable[[Path], None]) -> Tid:
    """An offer whose import meets `change` behind its second image."""
    gate.hold(2)
    async with party.up() as imports:
        tid = await party.offered((await party.early(imports)).studies[0])
        await held(gate)
        change(party.disc)
        gate.open()
        await party.done()
    return tid


def _last_is_cut_off(disc: Path) -> None:
    os.truncate(disc / "6.dcm", 1000)


def _last_is_another(disc: Path) -> None:
    """Of the same size: found by what it says of itself."""
    raw = (disc / "6.dcm").read_bytes()
    (disc / "6.dcm").write_bytes(raw.replace(b"2.25.11\0", b"2.25.22\0"))


@pytest.mark.parametrize(
    ("change", "words"),
    [(_last_is_cut_off, "changed"), (_one_less, "cannot be read"), (_last_is_another, "changed")],
    ids=lambda x: getattr(x, "__name__", ""),
)
async def test_a_file_that_fails_half_way_stops_the_offer(
    party: Party, gate: Gate, change: Callable[[Path], None], words: str
) -> None:
    tid = await stopped_half_way(party, gate, change)
    row = await party.s.send(tid)
    assert (row["state"], row["why"]) == ("REVOKED", UNFINISHED)
    (alarm,) = await party.s.rows("SELECT sentence FROM alarms WHERE tid=?", tid)
    assert words in alarm["sentence"]
    assert await party.s.value("SELECT k_sealed FROM spools") is None


async def test_a_disk_that_fills_half_way_stops_the_offer(
    party: Party, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(disc: Path) -> None:
        room = os.statvfs_result((4096, 4096, 0, 0, 2, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda path: room)

    tid = await stopped_half_way(party, gate, fill)
    assert (await party.s.send(tid))["why"] == UNFINISHED
    (alarm,) = await party.s.rows("SELECT sentence FROM alarms WHERE tid=?", tid)
    assert "disk is full" in alarm["sentence"]


async def test_what_was_released_ends_partial(party: Party, gate: Gate) -> None:
    """The yes came before the file that fails: R stores what there is, and neither side calls it complete."""
    gate.hold(2)
    async with party.up() as imports:
        tid = await party.offered((await party.early(imports)).studies[0])
        await held(gate)
        phone = await Handset.scan(party.s, tid)
        await phone.ask()
        await phone.decide("approve")
        _one_less(party.disc)
        gate.open()
        await party.done()
    row = await party.s.send(tid)
    assert (row["state"], await party.s.alarms(tid)) == ("RELEASED", [UNFINISHED])
    spool = await party.seal(tid)
    found = await Restored(spool).read()
    there = await party.s.value("SELECT count(*) FROM instances")
    assert len(found.items) == there < FILES
    assert sum(s.want for s in found.records[-1].series) == FILES
    assert await spool.value("SELECT unsent FROM spools WHERE cid=?") == FILES - there


async def test_what_never_came_is_wanted_until_it_comes(party: Party, gate: Gate) -> None:
    """A later transfer of the same study is no better; one that is made once everything is here is."""
    await stopped_half_way(party, gate, _last_is_cut_off)
    study = await party.s.value("SELECT id FROM studies")
    short = await party.seal(await party.offered(study))
    assert await short.value("SELECT unsent FROM spools WHERE cid=?") > 0
    shutil.rmtree(party.disc)
    party.disc.mkdir()
    uids = {r[0]: r[1] for r in await party.s.rows("SELECT f.sop_uid, f.series FROM import_files f")}
    for n, (uid, series) in enumerate(uids.items(), 1):
        there = await party.s.rows("SELECT 1 FROM instances WHERE sop_uid=?", uid)
        if not there:
            made = an_instance(InstanceNumber=n, SOPInstanceUID=uid, SeriesInstanceUID=series)
            save(made, party.disc / f"{n}.dcm")
    async with party.up() as imports:
        await party.early(imports)
        await party.done()
    whole = await party.seal(await party.offered(study))
    assert await whole.value("SELECT unsent FROM spools WHERE cid=?") == 0
    assert len((await Restored(whole).read()).items) == FILES


async def test_an_earlier_transfer_of_the_study_is_left_alone(party: Party, gate: Gate) -> None:
    """What was closed before the import began promised nothing of it."""
    study = await party.s.a_study(2)
    before = await party.offered(study)
    await party.seal(before)
    tid = await stopped_half_way(party, gate, _one_less)
    assert (await party.s.send(before))["state"] == "OFFERED"
    assert (await party.s.send(tid))["state"] == "REVOKED"
    await carry(party.s, party.r)
    assert UNFINISHED not in await party.s.alarms(before)
