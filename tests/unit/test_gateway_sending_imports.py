"""`clients.gateway.sending.imports`: a study that is offered while it still comes, and what stops it.

A crash is the end of every task and a restart on the same folder. Where an import stands then is decided by `Gate`,
which holds it in front of its n-th file.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clients.gateway.errors import DiskFullError, GatewayError, ImportingError
from clients.gateway.sending import imports as module
from clients.gateway.sending.imports import Imported, Imports
from clients.gateway.sending.offers import UNFINISHED
from tests.dicom_kit import save
from tests.gateway_kit import PATIENCE, Handset, House, an_instance, carry, eventually, houses, running
from tests.spool_kit import Restored, Spool
from transfer.ids import Cid, Tid

FILES = 6


class Gate:
    """Lets `after` files of imports through, and holds the others until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stage, self._open, self._left = module.stage_again, threading.Event(), 0
        self._lock, self._inside, self._dead = threading.Condition(), 0, False
        self.reached = threading.Event()
        monkeypatch.setattr(module, "stage_again", self._pass)
        self.open()

    def hold(self, after: int) -> None:
        self._left = after
        self._open.clear()
        self.reached.clear()

    def open(self) -> None:
        self._open.set()

    def crash(self) -> None:
        """Whoever is at work ends, and who is held copies nothing any more: a dead process has no threads."""
        self._dead = True
        self.open()
        with self._lock:
            assert self._lock.wait_for(lambda: not self._inside, PATIENCE)
        self._dead = False

    def _pass(self, *args: object) -> object:
        with self._lock:
            self._left -= 1
            through = self._left >= 0
            self._inside += 1
        try:
            if not through:
                self.reached.set()
                assert self._open.wait(PATIENCE)
            if self._dead:
                raise RuntimeError
            return self._stage(*args)  # type: ignore[arg-type]
        finally:
            with self._lock:
                self._inside -= 1
                self._lock.notify_all()


class Party:
    """A sender that imports, and a receiver."""

    def __init__(self, s: House, r: House, disc: Path, workers: ThreadPoolExecutor) -> None:
        self.s, self.r, self.disc, self._workers = s, r, disc, workers

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Imports]:
        """The rooms that import, from a start to a crash."""
        s = self.s
        imports = Imports(s.db, s.clock, s.studies, s.offers, s.outgoing)
        async with running(s.studies.run()), running(imports.run()):
            yield imports

    async def early(self, imports: Imports) -> Imported:
        async with asyncio.timeout(PATIENCE):
            return await imports.early(self.disc, "clerk")

    async def offered(self, study: str) -> Tid:
        """A transfer that waits for its answer."""
        return await self.s.offer_to(self.r, study)

    async def done(self) -> None:
        """No import is open any more."""

        async def look() -> bool:
            return not await self.s.rows("SELECT 1 FROM imports WHERE stopped=''")

        await eventually(look)

    async def study(self) -> tuple[int, int]:
        """(images, closed) of the study."""
        row = await self.s.one("SELECT id, closed FROM studies")
        return await self.s.value("SELECT count(*) FROM instances WHERE study=?", row["id"]), row["closed"]

    async def seal(self, tid: Tid) -> Spool:
        """Everything of the study that there is, in packs."""
        row = await self.s.send(tid)
        spool = Spool(self.s, row["study"], tid, Cid(row["cid"]), self._workers)
        await spool.pack()
        return spool


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A folder of one study."""
    folder = tmp_path / "disc"
    folder.mkdir()
    for n in range(1, FILES + 1):
        save(an_instance(InstanceNumber=n, SeriesInstanceUID=f"2.25.12{n % 2}"), folder / f"{n}.dcm")
    (folder / "readme.txt").write_text("viewer")
    return folder


@pytest.fixture
async def party(tmp_path: Path, disc: Path) -> AsyncIterator[Party]:
    with ThreadPoolExecutor(2) as workers:
        async with houses(tmp_path) as (s, r):
            yield Party(s, r, disc, workers)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


async def held(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, PATIENCE)


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
