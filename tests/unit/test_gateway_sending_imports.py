"""`clients.gateway.sending.imports`: a study that is offered while it still comes, and what is not offered so."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.gateway.errors import DiskFullError, GatewayError, ImportingError
from clients.gateway.sending import imports as module
from clients.gateway.sending.imports import Imports
from tests.dicom_kit import save
from tests.gateway_kit import PATIENCE, an_instance, running
from tests.imports_kit import FILES, Gate, Party, disc, gate, held, party
from tests.spool_kit import Restored

__all__ = ["disc", "gate", "party"]


# The good way


async def test_the_offer_does_not_wait_for_the_rest(party: Party, gate: Gate) -> None:
    gate.hold(1)
    async with party.up() as imports:
        done = await party.early(imports)
        assert (len(done.studies), done.accepted, done.skipped) == (
            1, FILES, [("readme.txt", "import-not-dicom")],
        )  # fmt: skip
        tid = await party.offered(done.studies[0])
        assert (await party.s.send(tid))["state"] == "OFFERED"
        assert await party.study() == (1, 0)
        party.s.clock.at += 10**6
        await party.s.studies.close_quiet(60)
        with pytest.raises(ImportingError):
            await party.s.studies.close(done.studies[0], "clerk")
        assert await party.study() == (1, 0), "neither quiet nor staff close what still comes"
        gate.open()
        await party.done()
    assert await party.study() == (FILES, 1)
    assert not await party.s.rows("SELECT 1 FROM imports UNION SELECT 1 FROM import_files")
    spool = await party.seal(tid)
    assert len((await Restored(spool).read()).items) == FILES
    assert await spool.value("SELECT unsent FROM spools WHERE cid=?") == 0
    assert (await party.s.actions(done.studies[0]))[-1] == "study.import"


async def test_the_question_is_about_the_whole_study(party: Party, gate: Gate) -> None:
    """Its words name what the survey saw, not the one series that is here, and no count."""
    for n, path in enumerate(sorted(party.disc.glob("*.dcm")), 1):
        words = "Head 5 mm" if n % 2 else "Chest"
        save(
            an_instance(InstanceNumber=n, SeriesInstanceUID=f"2.25.12{n % 2}", SeriesDescription=words), path
        )
    gate.hold(1)
    async with party.up() as imports:
        tid = await party.offered((await party.early(imports)).studies[0])
        summary = (await party.s.send(tid))["summary"]
        assert "head" in summary
        assert "chest" in summary
        assert str(FILES) not in summary.replace("2026", "")
        gate.open()
        await party.done()


async def test_the_same_path_again_is_the_same_study(party: Party) -> None:
    async with party.up() as imports:
        one = await party.early(imports)
        await party.done()
        two = await party.early(imports)
    assert (two.studies, two.accepted) == (one.studies, FILES)
    assert await party.study() == (FILES, 1)
    assert len(list(party.s.studies.incoming.glob("*.dcm"))) == FILES


async def test_the_same_path_while_it_still_comes(party: Party, gate: Gate) -> None:
    gate.hold(1)
    async with party.up() as imports:
        one = await party.early(imports)
        tid = await party.offered(one.studies[0])
        two = await party.early(imports)
        assert two.studies == one.studies
        assert await party.study() == (FILES, 0), "only the import that is open closes it"
        gate.open()
        await party.done()
    assert await party.study() == (FILES, 1)
    assert len((await Restored(await party.seal(tid)).read()).items) == FILES


# What is not offered


def _two_studies(disc: Path) -> None:
    save(an_instance(StudyInstanceUID="2.25.99"), disc / "other.dcm")


def _cut_off(disc: Path) -> None:
    path = disc / "4.dcm"
    path.write_bytes(path.read_bytes()[:-50])


def _two_patients(disc: Path) -> None:
    save(an_instance(PatientID="P2"), disc / "other.dcm")


@pytest.mark.parametrize(
    ("change", "codes", "studies"),
    [
        (_two_studies, [], 2), (_cut_off, ["dicom-truncated"], 1), (_two_patients, ["dicom-two-patients"], 1),
        (shutil.rmtree, ["import-absent"], 0),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
async def test_what_cannot_be_sent_as_it_is_is_taken_in_first(
    party: Party, change: Callable[[Path], None], codes: list[str], studies: int
) -> None:
    """As without a survey: the same codes, and the rest is here to be sent by itself."""
    change(party.disc)
    async with party.up() as imports:
        if not studies:
            with pytest.raises(GatewayError) as caught:
                await party.early(imports)
            assert [caught.value.code] == codes
            return
        done = await party.early(imports)
        assert sorted(code for _, code in done.skipped) == sorted([*codes, "import-not-dicom"])
        assert len(done.studies) == studies
        assert not await party.s.rows("SELECT 1 FROM imports")
        assert not await party.s.rows("SELECT 1 FROM studies WHERE closed=0")


async def test_what_an_earlier_start_left_comes_first(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied before, the files of an import were adopted as leftovers, in no order: any patient was the first."""
    _two_patients(party.disc)
    s, begun, release = party.s, threading.Event(), threading.Event()
    staged: list[bool] = []
    stage = module.stage_all

    def look(*args: object) -> object:
        staged.append(release.is_set())
        return stage(*args)  # type: ignore[arg-type]

    def hold(con: object) -> None:
        begun.set()
        assert release.wait(PATIENCE)

    monkeypatch.setattr(module, "stage_all", look)
    holding = asyncio.create_task(s.db.run(hold))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    imports = Imports(s.db, s.clock, s.studies, s.offers, s.outgoing)
    async with running(s.studies.run()):
        asking = asyncio.create_task(imports.whole(party.disc, "clerk"))
        for _ in range(10):
            await asyncio.sleep(0)
        release.set()
        await holding
        done = await asking
    assert staged == [True]
    assert [code for _, code in done.skipped].count("dicom-two-patients") == 1


async def test_another_patient_s_study_is_not_offered(party: Party) -> None:
    await party.s.adopt(party.s.file(PatientID="P2"))
    async with party.up() as imports:
        done = await party.early(imports)
    assert {code for _, code in done.skipped} == {"dicom-two-patients", "import-not-dicom"}


async def test_a_study_for_which_there_is_no_room_is_not_begun(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = os.statvfs_result((4096, 4096, 0, 0, 2, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: room)
    async with party.up() as imports:
        with pytest.raises(DiskFullError):
            await party.early(imports)
    assert not await party.s.rows("SELECT 1 FROM studies")


async def test_a_first_image_that_cannot_be_read_makes_no_offer(party: Party, gate: Gate) -> None:
    gate.hold(0)
    async with party.up() as imports:
        asking = asyncio.create_task(party.early(imports))
        await held(gate)
        shutil.rmtree(party.disc)
        gate.open()
        with pytest.raises(GatewayError) as caught:
            await asking
    assert caught.value.code == "import-unreadable"
    assert not await party.s.rows("SELECT 1 FROM studies UNION SELECT 1 FROM imports")
