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
from clients.gateway.dicom.structure import DEFLATED, read_elements
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
    Harness(name="coercion", run=_coerce, samples=data_sets, family=(IntakeError,), share=0.4, seconds=5.0),
]
