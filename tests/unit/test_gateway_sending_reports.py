"""`clients.gateway.sending.reports`: a report is an instance of its study, once, and travels with it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pydicom
import pytest

from clients.gateway.errors import AbsentError, DiskFullError, GatewayError
from clients.gateway.sending import reports as room
from clients.gateway.sending.reports import Draft, Reports, read_draft
from tests.gateway_kit import NOWHERE, House, StillClock, houses, running
from tests.hl7_kit import a_pdf

TEXT = Draft(title="CT head", text="No bleeding.")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path / "s", StillClock(), NOWHERE).make("Valley ED")
    yield made
    await made.close()


@asynccontextmanager
async def adding(house: House) -> AsyncIterator[Reports]:
    async with running(house.studies.run()):
        yield Reports(house.db, house.clock, house.studies, "Valley ED")


async def refused(code: str, reports: Reports, study: str, draft: Draft) -> None:
    with pytest.raises(GatewayError) as caught:
        await reports.add(study, draft, "maria")
    assert caught.value.code == code
    assert caught.value.sentence.endswith(".")


async def test_a_text_and_a_pdf(house: House) -> None:
    study, pdf = await house.a_study(2, AccessionNumber="A1"), a_pdf()
    async with adding(house) as reports:
        for draft in (TEXT, Draft(title="Outside read", pdf=pdf)):
            added = await reports.add(study, draft, "maria")
            assert (added.study, added.same, added.late) == (study, False, False)
    found = await house.rows("SELECT * FROM instances WHERE study=? ORDER BY id", study)
    assert len(found) == 4
    (series,) = await house.rows("SELECT * FROM series WHERE study=? AND modality='DOC'", study)
    assert [r["series"] for r in found[2:]] == [series["uid"]] * 2
    documents = [pydicom.dcmread(house.studies.incoming / r["file"]) for r in found[2:]]
    assert [d.DocumentTitle for d in documents] == ["CT head", "Outside read"]
    assert documents[1].EncapsulatedDocument[: len(pdf)] == pdf
    for row in found:
        body = (house.studies.incoming / row["file"]).read_bytes()[row["data_offset"] :]
        assert hashlib.sha256(body).digest() == bytes(row["hash"])
    assert (await house.actions(study)).count("study.report") == 2


async def test_the_same_again_is_nothing_new_also_much_later_and_at_the_same_time(house: House) -> None:
    study = await house.a_study(1)
    async with adding(house) as reports:
        results = await asyncio.gather(*(reports.add(study, TEXT, "maria") for _ in range(4)))
        assert [r.same for r in results] == [False, True, True, True]
    house.clock.at += 10_000
    await house.restart()
    async with adding(house) as reports:
        assert (await reports.add(study, TEXT, "jdoe")).same
    assert await house.value("SELECT count(*) FROM instances") == 2
    assert await house.value("SELECT count(*) FROM refusals") == 0


async def test_what_a_crash_left_before_its_row_is_not_doubled(house: House) -> None:
    """The file is in `incoming`, its row is not: the next start finds it first, the report that comes again after."""
    study = await house.a_study(1)
    async with adding(house) as reports:
        await reports.add(study, TEXT, "maria")
    await house.execute("DELETE FROM instances WHERE sop_class LIKE '%.104.1'")
    house.clock.at += 10_000
    await house.restart()
    async with adding(house) as reports:
        assert (await reports.add(study, TEXT, "maria")).same
    assert await house.value("SELECT count(*) FROM instances") == 2
    assert await house.value("SELECT count(*) FROM refusals") == 0


async def test_a_closed_study_stays_closed_and_an_open_one_open(house: House) -> None:
    closed = await house.a_study(1)
    opened = await house.a_study(1, close=False, StudyInstanceUID="2.25.31", SeriesInstanceUID="2.25.32")
    async with adding(house) as reports:
        for study, is_closed in ((closed, 1), (opened, 0)):
            await reports.add(study, TEXT, "maria")
            assert await house.value("SELECT closed FROM studies WHERE id=?", study) == is_closed


async def test_a_transfer_that_was_closed_before_leaves_it_behind_with_an_alarm(tmp_path: Path) -> None:
    async with houses(tmp_path) as (house, peer):
        study = await house.a_study(1)
        tid = await house.offer_to(peer, study)
        async with adding(house) as reports:
            assert not (await reports.add(study, TEXT, "maria")).late, "it is still open"
            await house.execute("UPDATE spools SET frozen=(SELECT max(id) FROM instances)")
            assert (await reports.add(study, Draft(title="Later", text="Bleeding."), "maria")).late
        assert "late-images" in await house.alarms(tid)


async def test_what_can_be_no_report_is_named(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    study = await house.a_study(1)
    monkeypatch.setattr(room, "MAX_PDF", 1000)
    async with adding(house) as reports:
        for code, draft in (
            ("report-title", Draft(title=" ", text="x")),
            ("report-title", Draft(title="x" * 121, text="x")),
            ("report-content", Draft(title="x")),
            ("report-content", Draft(title="x", text=" \n ")),
            ("report-content", Draft(title="x", text="x", pdf=b"%PDF-1.7 %%EOF")),
            ("report-pdf", Draft(title="x", pdf=b"PK\3\4")),
            ("report-cut", Draft(title="x", pdf=b"%PDF-1.7 and then")),
            ("report-size", Draft(title="x", pdf=b"%PDF-1.7" + bytes(1000) + b"%%EOF")),
            ("report-letters", Draft(title="x", text="頭部")),
            ("report-long", Draft(title="x", text="x" * (2**20 + 1))),
        ):
            await refused(code, reports, study, draft)
        for absent in ("0" * 32, "1.2.3"):
            with pytest.raises(AbsentError):
                await reports.add(absent, TEXT, "maria")
    assert await house.value("SELECT count(*) FROM instances") == 1
    assert not list(house.studies.incoming.glob("*.part"))


async def test_a_study_has_so_many_reports_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_MOST", 1)
    study = await house.a_study(1)
    async with adding(house) as reports:
        await reports.add(study, TEXT, "maria")
        await refused("report-many", reports, study, Draft(title="Another", text="x"))


async def test_a_full_disk_leaves_nothing_half(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    study = await house.a_study(1)

    def full(size: int, folder: Path) -> None:
        raise DiskFullError

    async with adding(house) as reports:
        monkeypatch.setattr(room, "check_room", full)
        with pytest.raises(DiskFullError):
            await reports.add(study, TEXT, "maria")
        monkeypatch.undo()
        assert not (await reports.add(study, TEXT, "maria")).same


async def test_images_that_are_gone_from_the_disk(house: House) -> None:
    study = await house.a_study(1)
    for path in house.studies.incoming.iterdir():
        path.unlink()
    async with adding(house) as reports:
        await refused("dicom-unreadable", reports, study, TEXT)


def test_a_file_is_a_pdf_or_a_text_or_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pdf := a_pdf())
    (tmp_path / "b").write_bytes("\ufeffKein Bruch: ß".encode())
    (tmp_path / "c").write_bytes(b"\xd0\xcf\x11\xe0")
    os.mkfifo(tmp_path / "d")
    assert read_draft(tmp_path / "a", "x").pdf == pdf
    assert read_draft(tmp_path / "b", "x").text == "Kein Bruch: ß"
    for name, code in (("c", "report-pdf"), ("d", "report-unreadable"), ("e", "report-unreadable")):
        with pytest.raises(GatewayError) as caught:
            read_draft(tmp_path / name, "x")
        assert caught.value.code == code
