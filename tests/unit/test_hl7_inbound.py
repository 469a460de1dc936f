"""`clients.gateway.hl7.inbound`: a report ends in its patient's study, or nowhere, and the sender is told which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pydicom
import pytest

from clients.gateway.errors import DiskFullError
from clients.gateway.hl7 import inbound
from clients.gateway.hl7.inbound import Inbound
from clients.gateway.hl7.message import control_of
from clients.gateway.sending.reports import Reports
from clients.gateway.sending.studies import Arrival
from tests.gateway_kit import NOWHERE, House, StillClock, eventually, running
from tests.hl7_kit import a_pdf, as_document, oru

WAIT = 3600


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path / "s", StillClock(), NOWHERE).make("Valley ED")
    yield made
    await made.close()


@asynccontextmanager
async def taking(house: House) -> AsyncIterator[Inbound]:
    """The room open, with its loop and that of the studies."""
    reports = Reports(house.db, house.clock, house.studies, "Valley ED")
    made = Inbound(house.db, house.clock, reports, house.folder, house.arrived, WAIT)
    async with running(house.studies.run(), made.run()):
        yield made


async def say(made: Inbound, block: bytes) -> str:
    """The code of its acknowledgement, and that of the error, if any."""
    answer = (await made.handle(block)).decode()
    code, of = control_of(answer.encode())
    assert of == "M1"
    error = [line for line in answer.split("\r") if line.startswith("ERR")]
    return code + (":" + error[0].split("|")[3].split("^")[0] if error else "")


async def documents(house: House) -> list[pydicom.Dataset]:
    found = await house.rows("SELECT file FROM instances WHERE sop_class LIKE '%.104.1' ORDER BY id")
    return [pydicom.dcmread(house.studies.incoming / r["file"]) for r in found]


async def test_a_text_becomes_a_document_of_its_study(house: House) -> None:
    study = await house.a_study(2, AccessionNumber="A4711", StudyDescription="CT head")
    async with taking(house) as made:
        assert await say(made, oru()) == "AA"
    (document,) = await documents(house)
    assert (document.PatientID, document.AccessionNumber, document.StudyInstanceUID) == (
        "P1",
        "A4711",
        "2.25.11",
    )
    assert document.DocumentTitle == "CT head"
    assert document.EncapsulatedDocument.startswith(b"%PDF-")
    assert await house.value("SELECT closed FROM studies WHERE id=?", study) == 1, (
        "it says nothing of more images"
    )
    assert "study.report" in await house.actions(study)


async def test_a_pdf_goes_as_it_is(house: House) -> None:
    await house.a_study(1, AccessionNumber="A4711")
    pdf = a_pdf()
    async with taking(house) as made:
        assert await say(made, oru(as_document(pdf))) == "AA"
    (document,) = await documents(house)
    assert document.EncapsulatedDocument[: document.EncapsulatedDocumentLength] == pdf


async def test_the_same_again_is_acknowledged_and_not_doubled(house: House) -> None:
    """The same message; the same report under another control id and time; and after a restart."""
    await house.a_study(1, AccessionNumber="A4711")
    async with taking(house) as made:
        for block in (oru(), oru(), oru(at="20261125080000")):
            assert await say(made, block) == "AA"
        assert (await made.handle(oru(control="M2"))).count(b"|AA|M2|") == 1
    await house.restart()
    async with taking(house) as made:
        assert await say(made, oru()) == "AA"
    assert len(await documents(house)) == 1


async def test_a_control_id_that_is_used_again_loses_nothing(house: House) -> None:
    await house.a_study(1, AccessionNumber="A4711")
    async with taking(house) as made:
        for text in ("No bleeding.", "Bleeding."):
            assert await say(made, oru(f"OBX|1|TX|||{text}")) == "AA"
    assert len(await documents(house)) == 2


async def test_a_corrected_report_is_another_document_and_says_so(house: House) -> None:
    await house.a_study(1, AccessionNumber="A4711")
    async with taking(house) as made:
        for status in "PFC":
            assert await say(made, oru(status=status)) == "AA"
    titles = [d.DocumentTitle for d in await documents(house)]
    assert titles == [
        "CT head (preliminary report)", "CT head", "CT head (corrected report, replaces an earlier one)"
    ]  # fmt: skip
    assert [d.InstanceNumber for d in await documents(house)] == [1, 2, 3]
    assert len({d.SeriesInstanceUID for d in await documents(house)}) == 1


@pytest.mark.parametrize("changes", [{"number": "P2"}, {"born": "19700103"}, {"number": ""}])
async def test_another_patient_is_kept_out(house: House, changes: dict[str, str]) -> None:
    await house.a_study(1, AccessionNumber="A4711")
    async with taking(house) as made:
        assert await say(made, oru(**changes)) == "AE:204"
        assert await say(made, oru(uid="2.25.11", accession="other", **changes)) == "AE:204"
    assert await documents(house) == []
    assert await house.alarms(None) == ["hl7-patient"]


async def test_images_without_a_number_need_the_birth_date(house: House) -> None:
    await house.a_study(1, AccessionNumber="A4711", PatientID="")
    async with taking(house) as made:
        assert await say(made, oru(born="")) == "AE:204"
        assert await say(made, oru(number="unknown to the images")) == "AA"


async def test_the_study_uid_decides_before_the_number_of_the_order(house: House) -> None:
    one = await house.a_study(1, AccessionNumber="A4711")
    two = await house.a_study(
        1, AccessionNumber="A4711", StudyInstanceUID="2.25.21", SeriesInstanceUID="2.25.22"
    )
    async with taking(house) as made:
        assert await say(made, oru()) == "AE:204"
        assert await house.alarms(None) == ["hl7-ambiguous"]
        assert await say(made, oru(uid="2.25.21")) == "AA"
    (document,) = await documents(house)
    assert document.StudyInstanceUID == "2.25.21"
    assert one != two


async def test_a_report_before_its_images_waits_for_them(house: House) -> None:
    async with taking(house) as made:
        assert await say(made, oru()) == "AA"
        assert await say(made, oru()) == "AA", "and is kept once"
        assert await house.value("SELECT count(*) FROM hl7_waiting") == 1
    await house.restart()
    async with taking(house):
        await house.studies.adopt(_arrival(house))
        await eventually(lambda: documents(house))
        await eventually(lambda: _none_waits(house))
    assert list((house.folder / "hl7").iterdir()) == []


async def test_one_that_waited_and_names_another_patient_is_put_away_with_an_alarm(house: House) -> None:
    async with taking(house) as made:
        assert await say(made, oru(number="P2")) == "AA"
        await house.studies.adopt(_arrival(house))
        await eventually(lambda: house.alarms(None))
        await eventually(lambda: _none_waits(house))
    assert await documents(house) == []
    row = await house.one("SELECT * FROM refusals")
    assert (row["code"], row["source"]) == ("hl7-patient", "hl7")
    assert (house.studies.refused / row["file"]).exists()


async def test_one_whose_images_never_come_is_forgotten_quietly(house: House) -> None:
    async with taking(house) as made:
        assert await say(made, oru()) == "AA"
        house.clock.at += WAIT + 1
        house.arrived.set()
        await eventually(lambda: _none_waits(house))
    assert await house.alarms(None) == []
    assert "report.expired" in await house.actions()
    assert list((house.folder / "hl7").iterdir()) == []


async def test_what_a_crash_left_without_a_row_is_swept(house: House) -> None:
    async with taking(house) as made:
        assert await say(made, oru()) == "AA"
        (kept,) = (house.folder / "hl7").iterdir()
    (house.folder / "hl7" / "orphan.hl7").write_bytes(oru())
    async with taking(house):
        await eventually(lambda: _only(house, kept))


async def test_a_row_whose_file_a_backup_did_not_hold_holds_nothing_up(house: House) -> None:
    async with taking(house) as made:
        assert await say(made, oru()) == "AA"
        assert await say(made, oru("OBX|1|TX|||Another.")) == "AA"
    lost = await house.value("SELECT file FROM hl7_waiting ORDER BY id LIMIT 1")
    (house.folder / "hl7" / lost).unlink()
    async with taking(house):
        await house.studies.adopt(_arrival(house))
        await eventually(lambda: _none_waits(house))
    assert len(await documents(house)) == 1


@pytest.mark.parametrize(
    ("block", "answer"),
    [
        (oru().replace(b"ORU^R01", b"ADT^A08"), "AR:200"),
        (oru(processing="T"), "AR:202"),
        (oru(status="X"), "AE:103"),
        (oru("OBX|1|TX|||"), "AE:101"),
        (oru(accession="").replace(b"|PL1|", b"||"), "AE:101"),
        (oru("OBX|1|ED|||RIS^AP^PDF^Base64^JVBERi0xLjQ="), "AE:207"),
        (oru("OBX|1|TX|||Кровь " + "שלום"), "AE:207"),
        (oru("OBX|1|ED|||RIS^AP^PDF^Base64^!!"), "AE:207"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_named(house: House, block: bytes, answer: str) -> None:
    await house.a_study(1, AccessionNumber="A4711")
    async with taking(house) as made:
        assert await say(made, block) == answer
    assert await documents(house) == []
    assert await house.value("SELECT count(*) FROM hl7_waiting") == 0


async def test_what_is_no_message_is_answered_too(house: House) -> None:
    async with taking(house) as made:
        for rubbish in (b"\0\1\2", b"MSH", b"MSH|^~\\&|" + b"~" * 300_000):
            assert control_of(await made.handle(rubbish)) == ("AE", "")


async def test_nothing_is_acknowledged_that_is_not_on_disk(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AR: "not now". The same message is taken once there is room."""

    def full(path: Path, data: bytes) -> None:
        raise DiskFullError

    async with taking(house) as made:
        with monkeypatch.context() as patch:
            patch.setattr(inbound, "write_durably", full)
            assert await say(made, oru()) == "AR:207"
        assert await say(made, oru()) == "AA"


async def test_no_more_wait_than_there_is_room_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "_MOST", 1)
    async with taking(house) as made:
        assert await say(made, oru()) == "AA"
        assert await say(made, oru("OBX|1|TX|||Another.")) == "AR:207"


def _arrival(house: House) -> Arrival:
    return Arrival(house.land(house.file(AccessionNumber="A4711")), "CT1")


async def _none_waits(house: House) -> bool:
    return await house.value("SELECT count(*) FROM hl7_waiting") == 0


async def _only(house: House, kept: Path) -> bool:
    return list((house.folder / "hl7").iterdir()) == [kept]
