"""What a hospital's PACS says of commitments and queries, and data sets that are given another identity. A PACS is
inside, and may be broken or taken over; the data sets are a sender's.
"""

from __future__ import annotations

from functools import cache

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from clients.gateway.dicom.coercion import Change, Local, coerce, rest_hash
from clients.gateway.dicom.commitment import (
    ALL_SAFE,
    MAX_REPORT,
    MOST,
    SOME_FAILED,
    encode_request,
    read_report,
)
from clients.gateway.dicom.finder import encode_identifier, names
from clients.gateway.dicom.part10 import is_uid
from clients.gateway.dicom.query import read_failed, read_image, read_match, read_series
from clients.gateway.dicom.structure import DEFLATED, read_elements
from clients.gateway.dicom.worklist import Query, Unreadable, sift
from clients.gateway.dicom.worklist_child import decode_answer
from clients.gateway.errors import IntakeError
from tests.fuzz.files import SYNTAXES, by_name, data_sets
from tests.fuzz.harness import Harness
from tests.image_kit import EXPLICIT, IMPLICIT, encoded

_CLASS = "1.2.840.10008.5.1.4.1.1.2"
_ID = 0x00100020
CHANGE = Change(
    local=Local(patient_id="VALLEY-4711", issuer="LAKESIDE", patient_name="DOE^JANE", birth_date="", sex="F"),
    system="TRAUMATX", source="Clínica Valley", at="20261124120000+0000",
)  # fmt: skip


# Storage commitment


@cache
def _reports() -> list[bytes]:
    """First byte: the event type (its low bits) and whether it is in Implicit VR (its highest one)."""
    found = []
    for failed in (0, 2):
        ds = Dataset()
        ds.TransactionUID = "2.25.4711"
        ds.ReferencedSOPSequence = Sequence([_reference(f"2.25.{n}") for n in range(3)])
        if failed:
            ds.FailedSOPSequence = Sequence([_reference(f"2.25.9{n}", 0x0112) for n in range(failed)])
        event = SOME_FAILED if failed else ALL_SAFE
        found += [bytes([event]) + encoded(ds, EXPLICIT), bytes([0x80 | event]) + encoded(ds, IMPLICIT)]
    asked = encode_request("2.25.1", [(_CLASS, f"2.25.{n}") for n in range(4)])
    return [*found, bytes([0x80 | ALL_SAFE]) + asked]


def _reference(uid: str, reason: int = 0) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = _CLASS, uid
    if reason:
        item.FailureReason = reason
    return item


def _report(data: bytes) -> None:
    """The data set of an N-EVENT-REPORT: UIDs and reasons, in bounds."""
    if not data:
        raise IntakeError
    with by_name():
        report = read_report(data[0] & 0x7F, data[1:], implicit=data[0] >= 0x80)
    assert all(map(is_uid, (report.transaction, *report.safe, *(uid for uid, _ in report.failed))))
    assert len(report.safe) + len(report.failed) <= 2 * MOST
    assert all(0 <= reason <= 0xFFFF for _, reason in report.failed)
    assert len(data) - 1 <= MAX_REPORT


# C-FIND


@cache
def _answers() -> list[bytes]:
    """Identifiers of a query for one instance."""
    there = encode_identifier("2.25.1", "2.25.2", "2.25.3")
    ds = Dataset()
    ds.SpecificCharacterSet, ds.SOPInstanceUID, ds.InstanceAvailability = "ISO_IR 192", "2.25.3", "ONLINE"
    ds.StudyInstanceUID, ds.RetrieveAETitle = "2.25.1", "PACS"
    return [there, encoded(ds, IMPLICIT)]


def _answer(data: bytes) -> None:
    """One answer, which says that the instance is there or does not; never of an instance that it does not name."""
    if not names(data, "2.25.3"):
        raise IntakeError
    assert b"2.25.3" in data


@cache
def _matches() -> list[bytes]:
    """Answers to what staff search, at each level, and the last response of a retrieve. First byte: which."""
    ds = Dataset()
    ds.SpecificCharacterSet, ds.StudyInstanceUID, ds.SeriesInstanceUID = "ISO_IR 192", "2.25.1", "2.25.2"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20261124", "1155", "A77"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "MÜLLER^ANN", "4711", "19700101", "F"
    ds.ModalitiesInStudy, ds.StudyDescription = ["CT", "SR"], "CT HEAD"
    ds.NumberOfStudyRelatedSeries, ds.NumberOfStudyRelatedInstances, ds.NumberOfSeriesRelatedInstances = (
        2,
        300,
        30,
    )
    ds.SOPInstanceUID, ds.SOPClassUID, ds.FailedSOPInstanceUIDList = "2.25.3", _CLASS, ["2.25.4", "2.25.5"]
    return [bytes([level]) + encoded(ds, IMPLICIT) for level in range(4)]


def _match(data: bytes) -> None:
    """An answer of the archive: of what was asked for, its UIDs valid, its texts fit to be shown; or none."""
    level, body = (data[0] % 4, data[1:]) if data else (0, b"")
    uids: list[str] = []
    if level == 0 and (match := read_match(body)) is not None:
        uids = [match.uid]
        texts = (match.patient_name, match.patient_id, match.accession, match.description, match.modalities)
        assert all(text.isprintable() and len(text) <= 2000 for text in texts)
        assert min(match.series, match.instances) >= -1
    elif level == 1 and (series := read_series(body, "2.25.1")) is not None:
        uids = [series.uid]
    elif level == 2 and (image := read_image(body, "2.25.1", "2.25.2")) is not None:
        uids = [image.uid, image.sop_class or "1"]
    elif level == 3:
        uids = read_failed(body)
    if not uids:
        raise IntakeError
    assert all(map(is_uid, uids))


@cache
def _expected() -> list[bytes]:
    """Answers of a worklist: as it should be, and with nothing in it."""
    step = Dataset()
    step.Modality, step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = (
        "CT",
        "20261124",
        "1155",
    )
    step.ScheduledProcedureStepDescription = "CT HEAD"
    ds = Dataset()
    ds.SpecificCharacterSet, ds.PatientID, ds.IssuerOfPatientID = "ISO_IR 192", "4711", "LAKESIDE"
    ds.PatientName, ds.PatientBirthDate, ds.PatientSex, ds.AccessionNumber = (
        "MÜLLER^ANN",
        "19700101",
        "F",
        "A77",
    )
    ds.ScheduledProcedureStepSequence = Sequence([step])
    return [encoded(ds, IMPLICIT), b""]


def _worklist(data: bytes) -> None:
    """One answer of a worklist, sifted: never another patient's than the one that was asked for."""
    answer = decode_answer(data)
    if isinstance(answer, Unreadable):
        raise IntakeError
    view = sift(Query(patient_id="4711"), [answer], more=False)
    assert len(view.items) + view.dropped == 1
    for item in view.items:
        assert item.patient_id == "4711"
        texts = (item.name, item.shown_name, item.issuer, item.accession, item.what, item.scheduled)
        assert all(text.isprintable() and len(text) <= 1000 for text in texts)


# Coercion


def _coerce(data: bytes) -> None:
    """A data set under another identity: the rest byte for byte, and the new number where a PACS looks for it."""
    syntax, body = SYNTAXES[data[0] % len(SYNTAXES)] if data else EXPLICIT, data[1:]
    with by_name():
        new = b"".join(coerce(body, syntax, CHANGE))
    assert rest_hash(new, syntax) == rest_hash(body, syntax)
    found = read_elements(lambda at, n: new[at : at + n], 0, len(new), syntax, frozenset({_ID}))
    assert found[_ID].rstrip(b" ") == CHANGE.local.patient_id.encode()
    assert syntax in DEFLATED or len(new) - len(body) < len(body) + 2000


HARNESSES = [
    Harness(name="commitment", run=_report, samples=_reports, family=(IntakeError,), share=0.5),
    Harness(name="find-answer", run=_answer, samples=_answers, family=(IntakeError,), share=0.3),
    Harness(name="archive-answer", run=_match, samples=_matches, family=(IntakeError,), share=0.4),
    Harness(name="worklist-answer", run=_worklist, samples=_expected, family=(IntakeError,), share=0.3),
    Harness(name="coercion", run=_coerce, samples=data_sets, family=(IntakeError,), share=0.4, seconds=5.0),
]
