"""`clients.gateway.sending.studies`: an instance that was answered 0x0000 is not lost, nor taken for another."""

from __future__ import annotations

import asyncio
import shutil
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from clients.gateway.dicom import berths
from clients.gateway.errors import AbsentError
from clients.gateway.sending import studies as module
from clients.gateway.sending.studies import Adopted, Arrival, Studies
from tests.gateway_kit import DAY, HOUR, NOW, PATIENCE, House, StillClock, an_instance, eventually, running
from tests.image_kit import EXPLICIT, IMPLICIT
from transfer.ids import SiteId

KEEP = DAY


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path / "s", StillClock()).make("Valley ED")
    yield made
    await made.close()


async def study_of(house: House) -> Any:
    return await house.one("SELECT * FROM studies")


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


async def counts(house: House) -> tuple[int, int]:
    """(instances with a row, refused)."""
    return await house.value("SELECT count(*) FROM instances"), await house.value(
        "SELECT count(*) FROM refusals"
    )


def the_same(ds: Dataset, **changes: object) -> Dataset:
    """A copy of an instance, with changes."""
    copy = Dataset()
    copy.update(ds)
    for keyword, value in changes.items():
        setattr(copy, keyword, value)
    return copy


async def test_what_arrives_gets_its_row(house: House) -> None:
    one = house.file(
        InstanceNumber=1, SeriesDescription="head 5 mm", AccessionNumber="A1", StudyDate="20261124"
    )
    two = house.file(
        InstanceNumber=2, SeriesInstanceUID="2.25.13", SeriesDescription="Scout", SeriesNumber="0"
    )
    results = await house.adopt(one, two)
    study = await study_of(house)
    assert results == [Adopted(study["id"])] * 2
    assert (study["patient_name"], study["birth_date"], study["accession"], study["date"]) == (
        "NOBODY, ATALL", "1970-01-02", "A1", "2026-11-24",
    )  # fmt: skip
    assert (study["source"], study["first_at"], study["last_at"], study["closed"]) == ("CT1", NOW, NOW, 0)
    series = await house.rows("SELECT * FROM series ORDER BY no")
    assert [(r["uid"], r["description"], r["scout"]) for r in series] == [
        ("2.25.12", "head 5 mm", 0), ("2.25.13", "Scout", 1),
    ]  # fmt: skip
    for row in await house.rows("SELECT * FROM instances ORDER BY id"):
        raw = (house.studies.incoming / row["file"]).read_bytes()
        assert len(raw) - row["data_offset"] == row["size"]
        assert module.hashlib.sha256(raw[row["data_offset"] :]).digest() == row["hash"]


async def test_our_ids_are_not_made_of_uids(house: House) -> None:
    await house.adopt(house.file())
    study = await study_of(house)
    assert len(study["id"]) == 32
    assert study["uid"] not in study["id"]


async def test_the_same_bytes_again_are_one_instance(house: House) -> None:
    ds = an_instance()
    first, second = house.file(ds), house.file(ds)
    results = await house.adopt(first, second)
    again = await house.adopt(house.file(ds))
    assert [r.code for r in results + again] == ["", "same", "same"]
    assert len({r.study for r in results + again}) == 1
    assert await counts(house) == (1, 0)
    assert names(house.studies.incoming) == {first.name}
    assert names(house.studies.refused) == set()


@pytest.mark.parametrize("damage", ["lost", "changed"])
async def test_the_same_bytes_again_take_the_place_of_a_damaged_file(house: House, damage: str) -> None:
    ds = an_instance()
    first, again = house.file(ds), house.file(ds)
    (adopted,) = await house.adopt(first)
    stored = house.studies.incoming / first.name
    whole = stored.read_bytes()
    if damage == "lost":
        stored.unlink()
    else:
        stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert await house.adopt(again) == [Adopted(adopted.study)]
    assert await house.value("SELECT file FROM instances") == again.name
    assert await counts(house) == (1, 0)
    assert (house.studies.incoming / again.name).read_bytes() == whole


async def test_other_bytes_under_one_uid_are_refused_and_kept(house: House) -> None:
    ds = an_instance()
    first, other = house.file(ds), house.file(the_same(ds, ImageComments="changed"))
    await house.adopt(first)
    (result,) = await house.adopt(other)
    assert result.code == "dicom-conflict"
    assert await counts(house) == (1, 1)
    assert (await study_of(house))["refused"] == 1
    assert names(house.studies.incoming) == {first.name}
    assert names(house.studies.refused) == {other.name}


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "P2"},
        {"PatientBirthDate": "19710102"},
        {"PatientID": "", "PatientBirthDate": "19710102"},
        {"PatientID": "P2", "PatientBirthDate": ""},
        {"PatientID": "", "PatientBirthDate": "", "PatientName": "Somebody^Else"},
    ],
    ids=lambda c: "+".join(f"{k}={v}" for k, v in c.items()),
)
async def test_two_patients_in_one_study(house: House, change: dict[str, str]) -> None:
    await house.adopt(house.file())
    other = house.file(**change)
    (result,) = await house.adopt(other)
    assert result.code == "dicom-two-patients"
    assert await counts(house) == (1, 1)
    assert (await study_of(house))["refused"] == 1
    assert names(house.studies.refused) == {other.name}


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": ""},
        {"PatientID": "", "PatientBirthDate": ""},
        {"PatientName": "Married^Name"},
        {"PatientID": "", "PatientBirthDate": "", "PatientName": "nobody^AtAll"},
        {"PatientID": "", "PatientBirthDate": "", "PatientName": ""},
        {"PatientID": " P1 "},
    ],
    ids=lambda c: "+".join(f"{k}={v}" for k, v in c.items()),
)
async def test_one_patient_said_in_two_ways(house: House, change: dict[str, str]) -> None:
    results = await house.adopt(house.file(), house.file(**change))
    assert [r.code for r in results] == ["", ""]


async def test_who_the_patient_is_may_come_with_a_later_image(house: House) -> None:
    """A first image without an id does not open the study to everybody."""
    (first,) = await house.adopt(house.file(PatientID="", PatientBirthDate="", PatientName=""))
    await house.adopt(house.file(PatientID="P1", StudyDescription="Trauma"))
    study = await study_of(house)
    assert (study["patient_id"], study["patient_name"], study["description"]) == (
        "P1",
        "NOBODY, ATALL",
        "Trauma",
    )
    (third,) = await house.adopt(house.file(PatientID="P2"))
    assert third == Adopted(first.study, "dicom-two-patients")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda raw: b"", "dicom-not"),
        (lambda raw: b"no DICOM at all" * 100, "dicom-not"),
        (lambda raw: raw[: len(raw) // 2], "dicom-truncated"),
        (lambda raw: raw.replace(b"2.25.11\0", b"../../1\0"), "dicom-uid"),
    ],
    ids=["empty", "other", "cut", "hostile uid"],
)
async def test_what_is_no_instance_is_refused_by_name(house: House, make: Any, code: str) -> None:
    path = house.file()
    path.write_bytes(make(path.read_bytes()))
    (result,) = await house.adopt(path)
    assert result == Adopted("", code)
    assert await counts(house) == (0, 1)
    assert (await house.one("SELECT * FROM refusals"))["code"] == code
    assert names(house.studies.refused) == {path.name}
    assert names(house.studies.incoming) == set()


async def test_a_refused_file_is_no_end_of_the_room(house: House) -> None:
    bad = house.file()
    bad.write_bytes(b"x")
    results = await house.adopt(bad, house.file(), house.file(InstanceNumber=2))
    assert [r.code for r in results] == ["dicom-not", "", ""]


async def test_files_without_a_row_are_adopted_at_the_start(house: House) -> None:
    """`kill -9` between the answer to the scanner and the row: the file is there, nobody told of it."""
    kept = [house.land(house.file(InstanceNumber=i)) for i in range(1, 41)]
    bad = house.land(house.file())
    bad.write_bytes(b"x")
    (house.studies.incoming / "half.part").write_bytes(b"not whole")
    async with running(house.studies.run()):
        await eventually(lambda: _all_there(house, 40))
    assert await counts(house) == (40, 1)
    assert names(house.studies.incoming) == {p.name for p in kept} | {"half.part"}


async def test_a_file_that_goes_away_before_it_is_looked_at_stops_nobody(house: House) -> None:
    """Listed and then gone, as a link to nothing is: the start goes on to what is there."""
    (house.studies.incoming / "gone.dcm").symlink_to("nowhere")
    shutil.copy(house.file(), house.studies.incoming / "here.dcm")
    async with running(house.studies.run()), asyncio.timeout(PATIENCE):
        await house.studies.settled()
    assert await house.value("SELECT file FROM instances") == "here.dcm"


async def test_what_an_earlier_life_left_in_incoming_is_tidied_before_anybody_looks(house: House) -> None:
    """A row may know a file by a name that a power cut took back; half an import is of no use."""
    incoming = house.studies.incoming
    whole = house.file()
    raw = whole.read_bytes()
    own = incoming / ".landing-0"
    own.mkdir()
    (own / "aa").write_bytes(berths.seal(len(raw), zlib.crc32(raw[berths.SEAL :])) + raw[berths.SEAL :])
    (own / "bb").write_bytes(raw)
    (incoming / "half.part").write_bytes(b"not whole")
    Studies(house.db, house.clock, incoming.parent, house.studies._arrived, house.studies._changed)
    assert names(incoming) == {"aa.dcm"}
    assert (incoming / "aa.dcm").read_bytes()[berths.SEAL :] == raw[berths.SEAL :]


async def _all_there(house: House, n: int) -> bool:
    return await counts(house) == (n, 1)


async def test_the_scanner_s_event_after_a_start_that_found_its_file_first(house: House) -> None:
    """The receiver listens before the room has swept: it may tell of a file that was found already, and put away."""
    ds = an_instance()
    files = [house.file(ds), house.file(ds), house.file(the_same(ds, ImageComments="x")), house.file()]
    files[3].write_bytes(b"x")
    codes = [r.code for r in await house.adopt(*map(house.land, files))]
    assert codes[3] == "dicom-not"
    # which of the first three was found first, the folder's order says; the others are measured by it
    assert sorted(codes[:3]) in (["", "dicom-conflict", "same"], ["", "dicom-conflict", "dicom-conflict"])
    assert (await counts(house))[0] == 1
    assert (await house.adopt(house.file(InstanceNumber=9)))[0].code == ""


async def test_a_file_that_is_not_there_holds_nothing_up(house: House) -> None:
    (result,) = await house.adopt(house.studies.incoming / "never.dcm")
    assert result.code == "dicom-unreadable"
    assert await counts(house) == (0, 0)
    assert (await house.adopt(house.file()))[0].code == ""


async def test_a_crash_between_row_and_refused_folder_counts_once(house: House) -> None:
    ds = an_instance()
    await house.adopt(house.file(ds))
    other = house.file(the_same(ds, ImageComments="x"))
    await house.adopt(other)
    shutil.move(
        house.studies.refused / other.name, house.studies.incoming / other.name
    )  # as if it had not been moved yet
    await house.restart()
    async with running(house.studies.run()):

        async def away() -> bool:
            return names(house.studies.refused) == {other.name}

        await eventually(away)
    assert await counts(house) == (1, 1)
    assert (await study_of(house))["refused"] == 1


async def test_a_full_disk_loses_nothing_and_goes_on_by_itself(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY", 0.02)
    await house.adopt()
    files = [house.file(InstanceNumber=i) for i in range(1, 31)]
    async with running(house.studies.run()):
        await house.studies.adopt(Arrival(house.folder / "nothing", ""))
        async with house.full_disk():
            files = [house.land(f) for f in files]
            results = await asyncio.gather(*(house.studies.adopt(Arrival(f, "CT1")) for f in files))
            assert {r.code for r in results} == {"disk-full"}
            assert names(house.studies.incoming) == {f.name for f in files}

        async def all_there() -> bool:
            return (await counts(house))[0] == 30

        await eventually(all_there)


async def test_a_failure_of_ours_leaves_nobody_waiting(house: House) -> None:
    """Whatever goes wrong in a batch, its callers are told, and the files are adopted when the room begins again."""
    path = house.file()
    async with running(house.studies.run()) as (task,):
        await house.studies.adopt(Arrival(house.folder / "nothing", ""))
        path = house.land(path)
        await house.execute("ALTER TABLE instances RENAME TO elsewhere")
        async with asyncio.timeout(PATIENCE):
            result = await house.studies.adopt(Arrival(path, "CT1"))
        assert result == Adopted("", "gateway")
        await asyncio.wait([task])
        assert task.exception() is not None
    await house.execute("ALTER TABLE elsewhere RENAME TO instances")
    assert path.exists()
    assert (await house.adopt(house.file(InstanceNumber=2)))[0].code == ""
    assert (await counts(house))[0] == 2


async def test_rows_and_restart(house: House) -> None:
    await house.a_study(3)
    await house.restart()
    assert (await house.adopt(house.file(InstanceNumber=4)))[0].code == ""
    assert await counts(house) == (4, 0)


async def test_transfer_syntaxes_are_kept(house: House) -> None:
    await house.adopt(house.file(syntax=IMPLICIT), house.file(InstanceNumber=2, syntax=EXPLICIT))
    assert [r[0] for r in await house.rows("SELECT syntax FROM instances ORDER BY id")] == [
        IMPLICIT,
        EXPLICIT,
    ]


# Closing


async def test_quiet_closes(house: House) -> None:
    await house.adopt(house.file())
    house.clock.at += 59
    await house.studies.close_quiet(60)
    assert not (await study_of(house))["closed"]
    house.clock.at += 1
    seen = house.arrived.seen
    await house.studies.close_quiet(60)
    assert ((await study_of(house))["closed"], (await study_of(house))["closed_by"]) == (1, "quiet")
    assert house.arrived.seen > seen


async def test_staff_close(house: House) -> None:
    study = await house.a_study(close=False)
    await house.studies.close(study, "jdoe")
    assert (await study_of(house))["closed_by"] == "jdoe"
    assert await house.actions(study) == ["study.close"]
    with pytest.raises(AbsentError):
        await house.studies.close("0" * 32, "jdoe")


async def test_a_late_image_opens_the_study_again(house: House) -> None:
    await house.a_study()
    house.clock.at += HOUR
    await house.adopt(house.file(InstanceNumber=9))
    study = await study_of(house)
    assert (study["closed"], study["last_at"]) == (0, house.clock.at)
    await house.studies.close_quiet(60)
    assert not (await study_of(house))["closed"]


@pytest.mark.parametrize(
    ("state", "frozen", "alarms"),
    [
        ("OFFERED", 3, ["late-images"]),
        ("RELEASED", 3, ["late-images"]),
        ("OFFERED", None, []),
        ("COMPLETE", 3, []),
        ("DENIED", 3, []),
    ],
)
async def test_a_late_image_is_said_where_a_transfer_goes_without_it(
    house: House, state: str, frozen: int | None, alarms: list[str]
) -> None:
    study = await house.a_study()
    tid = await house.offers.create(study, SiteId(b"r" * 32), "transfer", "clerk")
    await house.execute("UPDATE sends SET state=?", state)
    await house.execute("UPDATE spools SET frozen=?", frozen)
    await house.adopt(house.file(InstanceNumber=9), house.file(InstanceNumber=10))
    assert await house.alarms(tid) == alarms


async def test_a_duplicate_is_no_late_image(house: House) -> None:
    ds = an_instance()
    (first,) = await house.adopt(house.file(ds))
    await house.studies.close(first.study, "jdoe")
    await house.adopt(house.file(ds))
    assert (await study_of(house))["closed"] == 1


# Forgetting


async def test_a_study_goes_with_its_files_when_its_time_is_over(house: House) -> None:
    await house.a_study(3)
    house.clock.at += KEEP
    await house.studies.forget_old(KEEP)
    assert await counts(house) == (3, 0)
    house.clock.at += 1
    await house.studies.forget_old(KEEP)
    assert await house.rows("SELECT * FROM studies") == []
    assert await house.rows("SELECT * FROM series") == []
    assert await counts(house) == (0, 0)
    assert names(house.studies.incoming) == set()
    assert (await house.actions())[-1] == "study.forget"


async def test_an_open_study_is_never_forgotten(house: House) -> None:
    await house.a_study(close=False)
    house.clock.at += 100 * DAY
    await house.studies.forget_old(KEEP)
    assert await counts(house) == (3, 0)


@pytest.mark.parametrize(
    ("state", "ended", "kept"),
    [
        ("PREPARING", 0, True),
        ("OFFERED", 0, True),
        ("RELEASED", 0, True),
        ("COMPLETE", NOW + 9 * DAY, True),
        ("COMPLETE", NOW + 9 * DAY - 1, False),
        ("EXPIRED", NOW + HOUR, False),
    ],
)
async def test_a_study_stays_as_long_as_a_transfer_may_need_it(
    house: House, state: str, ended: int, kept: bool
) -> None:
    study = await house.a_study()
    await house.offers.create(study, SiteId(b"r" * 32), "transfer", "clerk")
    await house.execute("UPDATE sends SET state=?, ended_at=?", state, ended)
    house.clock.at = NOW + 10 * DAY
    await house.studies.forget_old(KEEP)
    assert bool(await house.rows("SELECT * FROM studies")) is kept
    assert bool(names(house.studies.incoming)) is kept


async def test_a_crash_while_forgetting_does_not_bring_a_study_back(house: House) -> None:
    """The files are deleted, the rows are not yet: the next start has nothing to adopt, and it ends the same."""
    await house.a_study(3)
    house.clock.at += KEEP + 1
    (next(iter(house.studies.incoming.iterdir()))).unlink()
    await house.restart()
    async with running(house.studies.run()):
        await house.studies.forget_old(KEEP)
    assert await counts(house) == (0, 0)
    assert names(house.studies.incoming) == set()


async def test_a_forgotten_patient_is_nowhere(house: House) -> None:
    await house.a_study(2, PatientName="Zerubbabel^Forgettable")
    assert house.on_disk(b"Zerubbabel, Forgettable")
    house.clock.at += KEEP + 1
    await house.studies.forget_old(KEEP)
    assert house.on_disk(b"Zerubbabel, Forgettable") == []
