"""Storage commitment, its two data sets (PS3.4 J.3): what we ask for, and what a PACS reports.

A request names a transaction and its instances. A report comes later, on this association or on one that the PACS
opens: event type 1 says that all are safe, event type 2 lists those that are not with a reason (PS3.4 J.3.3.1.3).
A report is a stranger's word until its transaction is found to be one of ours.
"""

from __future__ import annotations

import io
import struct

import msgspec
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.part10 import is_uid
from clients.gateway.dicom.refusals import refuse
from clients.gateway.errors import IntakeError

PUSH_MODEL = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class."""
PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Its well-known instance."""
REQUEST, ALL_SAFE, SOME_FAILED = 1, 1, 2
"""Action type 1; event types 1 and 2."""
MOST = 300
"""Instances of one request: a request and a report of so many are below 64 KiB, the cap of a data set in memory."""
MAX_REPORT = 2**16
_TRANSACTION, _REFERENCES, _FAILED = 0x00081195, 0x00081199, 0x00081198
_CLASS, _INSTANCE, _REASON = 0x00081150, 0x00081155, 0x00081197
_NO_REASON = 0x0110
"""Processing failure (PS3.4 J.3.3.1.3): where a PACS says that an instance failed, and not why."""


class Report(msgspec.Struct, frozen=True):
    """What a PACS says of one transaction; of instances that were never asked about, too."""

    transaction: str
    safe: list[str]
    failed: list[tuple[str, int]]


def encode_request(transaction: str, references: list[Pair]) -> bytes:
    """The data set of an N-ACTION, in Implicit VR Little Endian. All are valid UIDs; at most `MOST` references."""
    items = b"".join(
        _element(0xFFFEE000, _uid(_CLASS, sop_class) + _uid(_INSTANCE, sop_uid))
        for sop_class, sop_uid in references
    )
    return _uid(_TRANSACTION, transaction) + _element(_REFERENCES, items)


def read_report(event: int, data: bytes, *, implicit: bool) -> Report:
    """The data set of an N-EVENT-REPORT. Raises `IntakeError` for what is none. Any bytes are taken."""
    if event not in (ALL_SAFE, SOME_FAILED) or len(data) > MAX_REPORT:
        raise refuse("dicom-structure")
    try:
        ds = read_dataset(io.BytesIO(data), implicit, True)
        transaction = str(ds[_TRANSACTION].value)
        safe = [_uid_of(item) for item in _items(ds, _REFERENCES)]
        failed = [(_uid_of(item), _reason(item)) for item in _items(ds, _FAILED)]
    except Exception:  # pydicom has no one error for what is no data set
        raise refuse("dicom-structure") from None
    if not all(map(is_uid, (transaction, *safe, *(uid for uid, _ in failed)))):
        raise refuse("dicom-uid")
    if len(safe) + len(failed) > 2 * MOST:
        raise refuse("dicom-too-many")
    return Report(transaction, safe, failed)


def read_event(event: N_EVENT_REPORT, *, implicit: bool) -> Report | None:
    """What an N-EVENT-REPORT of the push model says; None for one that says nothing that can be read."""
    data = event.EventInformation.getvalue() if event.EventInformation is not None else b""
    try:
        return read_report(int(event.EventTypeID or 0), data, implicit=implicit)
    except IntakeError:
        return None


def _items(ds: Dataset, tag: int) -> list[Dataset]:
    return list(ds[tag].value or []) if tag in ds else []


def _uid_of(item: Dataset) -> str:
    return str(item[_INSTANCE].value)


def _reason(item: Dataset) -> int:
    return int(item[_REASON].value) & 0xFFFF if _REASON in item else _NO_REASON


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _uid(tag: int, text: str) -> bytes:
    value = text.encode("ascii")
    return _element(tag, value + b"\0" * (len(value) % 2))
