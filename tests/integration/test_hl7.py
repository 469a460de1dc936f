"""Reports through whole programs, with a foreign HL7 peer: the `hl7` library's own MLLP on the other side.

A sender's gateway hears one report before its study is imported, is killed, and hears another one after; the receiver's
PACS gets both as documents of the study, byte for byte as they were made.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import hl7
import msgspec
import pydicom
import pytest

from clients.gateway import folder as folders
from clients.gateway.hl7 import mllp
from clients.gateway.hl7.adt import IdentityFeed
from clients.gateway.hl7.message import Ends, control_of
from clients.gateway.store.database import Database
from tests.gateway_kit import NOWHERE, eventually, running
from tests.hl7_kit import a_hospital, a_pdf, as_document, deliver, oru
from tests.office_kit import BOTH, HEADER, PEER, SAME, TID, Office
from tests.programs import RECEIVER, Gateway, Programs, digests, write_study


def listen(gateway: Gateway) -> None:
    """It takes reports from its next start on."""
    file = gateway.folder / "gateway.toml"
    file.write_text(file.read_text().replace("[hl7]", '[hl7]\nlisten = "127.0.0.1:0"', 1))


def port_of(ready: dict[str, str]) -> int:
    """Where it takes them."""
    return int(ready["hl7"].rpartition(":")[2])


@pytest.mark.slow
async def test_reports_travel_with_the_images(tmp_path: Path) -> None:
    sent = write_study(tmp_path / "disc", instances=4)
    image = pydicom.dcmread(next((tmp_path / "disc").iterdir()))
    whose = {
        "accession": image.AccessionNumber, "number": image.PatientID, "born": image.PatientBirthDate,
        "uid": image.StudyInstanceUID,
    }  # fmt: skip
    early, pdf = oru("OBX|1|TX|||No bleeding.", **whose), a_pdf()
    world = Programs(tmp_path)
    try:
        await world.open(quiet_seconds=3600)
        await world.sender.kill()
        listen(world.sender)
        port = port_of(await world.sender.start())
        assert await deliver("127.0.0.1", port, early) == [("AA", "M1")], "it waits for its images"
        await world.sender.kill()  # and was not lost by that
        port = port_of(await world.sender.start())
        (study,) = (await world.sender.engine.import_path(str(tmp_path / "disc"), "test"))["studies"]
        await eventually(lambda: _has(world, study, 5))
        assert await deliver("127.0.0.1", port, early) == [("AA", "M1")], "and is not doubled"
        other = await deliver("127.0.0.1", port, oru(control="M2", **{**whose, "number": "P2"}))
        assert other == [("AE", "M2")]
        late = oru(as_document(pdf), control="M3", **whose)
        assert await deliver("127.0.0.1", port, late) == [("AA", "M3")]
        assert (await world.sender.engine.study(study)).instances == 6
        view = await world.sender.engine.send(study, RECEIVER, "drill", "test")
        view = await world.sender.when(view.tid, lambda v: v.link != "")
        await world.answer(view)
        view = await world.receiver.until(view.tid, "COMPLETE")
        assert (view.stored, view.gaps) == (6, 0)
        here = digests(world.sender.folder / "incoming")
        assert sent.items() <= here.items()
        assert {uid: [digest] for uid, digest in here.items()} == world.at_pacs(here)
        found = [pydicom.dcmread(p) for p in (tmp_path / "pacs").rglob("*.dcm")]
        documents = [d for d in found if d.Modality == "DOC"]
        assert {d.StudyInstanceUID for d in documents} == {image.StudyInstanceUID}
        assert {d.PatientID for d in documents} == {image.PatientID}
        assert pdf in [d.EncapsulatedDocument[: d.EncapsulatedDocumentLength] for d in documents]
    finally:
        await world.close()


async def _has(world: Programs, study: str, instances: int) -> bool:
    return (await world.sender.engine.study(study)).instances == instances


async def test_what_staff_say_later_is_told_to_the_hospitals_systems(tmp_path: Path) -> None:
    """From a study filed under a number of our own, by a comparison that a person confirmed, to a merge over there;
    then the name behind the number, as an update.
    """
    db = Database(tmp_path / "gateway.db")
    await db.open()
    try:
        office = Office(db, "prefix")
        await office.opened()
        frozen = await office.identities.of(TID, PEER, HEADER)
        assert frozen.change is not None
        await office.ended()
        await office.reconciling.correct(TID, SAME, BOTH, "dr-lee")
        ends = Ends(sender_site="LAKESIDE", receiver="HIS")
        async with a_hospital() as hospital:
            feed = IdentityFeed(db, office.clock, "127.0.0.1", hospital.port, ends, office.changed)
            async with running(feed.run()):
                await eventually(lambda: _told(office))
                known = msgspec.structs.replace(SAME, name="TEST, BRAVO")
                keys = ["birth_date", "number", "differs-name", "all"]
                await office.reconciling.correct(TID, known, keys, "dr-lee")
                await eventually(lambda: _told(office))
            message, update = (hl7.parse(text) for text in hospital.heard)
        assert str(message["PID"][0][3]) == "900^^^LAKESIDE"
        assert str(message["PID"][0][5]) == "TEST^ALPHA"
        assert str(message["MRG"][0][1]) == f"{frozen.change.local.patient_id}^^^VALLEY"
        assert (str(update["MSH"][0][9]), str(update["PID"][0][3])) == ("ADT^A08^ADT_A01", "900^^^LAKESIDE")
        assert str(update["PID"][0][5]) == "TEST^BRAVO"
        assert {("gateway", f"incoming.{kind}-sent", "") for kind in ("merge", "update")} <= set(
            await office.audit()
        )
    finally:
        await db.close()


async def _told(office: Office) -> bool:
    view = await office.reconciling.view(TID)
    return bool(view.changes) and all(c.state == "sent" for c in view.changes)


async def test_hostile_peers_leave_the_gateway_as_it_was(tmp_path: Path) -> None:
    """Rubbish, halves, floods of separators and peers that hang up: everybody else is answered all the while, and
    SIGTERM ends it in time.
    """
    gateway = Gateway(tmp_path / "g")
    await folders.init(
        gateway.folder, name="Valley ED", relay=NOWHERE, dicom="127.0.0.1:0", http="127.0.0.1:0"
    )
    listen(gateway)
    port = port_of(await gateway.start())
    held = []
    try:
        for raw in (
            b"GET / HTTP/1.1\r\n\r\n", mllp.START + b"MSH|half", mllp.START, os.urandom(4096),
            mllp.START + b"x" * 5_000_000, mllp.END * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ):  # fmt: skip
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with suppress(ConnectionError):
                writer.write(raw)
            held.append((reader, writer))
        for block, code in (
            (b"MSH|^~\\&|" + b"~" * 1_000_000, "AE"), (os.urandom(10_000).replace(b"\x1c", b""), "AE"),
            (oru(), "AA"), (oru(processing="D"), "AR"),
        ):  # fmt: skip
            answer = await mllp.call("127.0.0.1", port, block)
            assert control_of(answer)[0] == code
        assert "hl7" in {check.name for check in await gateway.engine.checks()}
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await gateway.process.wait() == 0
    finally:
        for _, writer in held:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await gateway.stop()
    log = gateway.log.read_text()
    assert "Traceback" not in log
    assert "NOBODY" not in log
