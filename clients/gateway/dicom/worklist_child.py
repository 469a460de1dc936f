"""One search of a modality worklist as a process: `python -m clients.gateway.dicom.worklist_child`, started by
`Worklist`.

The identifier asks for the attributes of PS3.4 table K.6-1 that a person needs to tell two patients apart. Answers are
read by pydicom, which may fail on any bytes: such an answer is told as unreadable, and the next one is read.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue

from clients.gateway.dicom.child import Owner
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.courier import Caller, NoAssociationError
from clients.gateway.dicom.race import PENDING, SoleReader
from clients.gateway.dicom.scu_child import build_entity
from clients.gateway.dicom.structure import IMPLICIT_LITTLE
from clients.gateway.dicom.worklist import MOST, Answer, Ask, End, Query, Said, Unreadable

MODEL = "1.2.840.10008.5.1.4.31"
"""Modality Worklist Information Model - FIND."""
_PAIR: Pair = (MODEL, IMPLICIT_LITTLE)
_SHOWN = 200


def encode_query(query: Query) -> bytes:
    """The identifier, in Implicit VR Little Endian. A name is asked for by its beginning (PS3.4 C.2.2.2.4)."""
    step = Dataset()
    for name in ("Modality", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime",
                 "ScheduledProcedureStepDescription", "ScheduledStationAETitle"):  # fmt: skip
        setattr(step, name, "")
    asked = Dataset()
    for name in ("PatientBirthDate", "PatientSex", "IssuerOfPatientID", "RequestedProcedureDescription"):
        setattr(asked, name, "")
    asked.PatientID, asked.AccessionNumber = query.patient_id, query.accession
    asked.PatientName = f"{query.name}*" if query.name else ""
    if not query.name.isascii():
        asked.SpecificCharacterSet = "ISO_IR 192"
    asked.ScheduledProcedureStepSequence = [step]
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, True
    write_dataset(out, asked)
    return bytes(out.getvalue())


def decode_answer(identifier: bytes) -> Answer | Unreadable:
    """One response. Any bytes are taken; a value that is two is none."""
    try:
        ds = read_dataset(BytesIO(identifier), is_implicit_VR=True, is_little_endian=True)
        steps = ds.get("ScheduledProcedureStepSequence") or [Dataset()]
        step = steps[0]
        what = _text(ds, "RequestedProcedureDescription") or _text(step, "ScheduledProcedureStepDescription")
        date, time = (
            _text(step, "ScheduledProcedureStepStartDate"),
            _text(step, "ScheduledProcedureStepStartTime"),
        )
        when = " ".join(filter(None, (f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 else "",
                                      f"{time[:2]}:{time[2:4]}" if len(time) >= 4 else "")))  # fmt: skip
        return Answer(
            patient_id=_text(ds, "PatientID"), issuer=_text(ds, "IssuerOfPatientID"), name=_text(ds, "PatientName"),
            birth_date=_text(ds, "PatientBirthDate"), sex=_text(ds, "PatientSex"),
            accession=_text(ds, "AccessionNumber"), scheduled=when,
            what=", ".join(filter(None, (_text(step, "Modality"), what))),
        )  # fmt: skip
    except Exception:
        return Unreadable()


def _text(ds: Dataset, name: str) -> str:
    value: Any = ds.get(name, "")
    if isinstance(value, MultiValue):
        raise ValueError
    return str(value if value is not None else "")[:_SHOWN]


def search(caller: Caller, query: Query) -> Iterator[Said]:
    """The answers, and the end."""
    try:
        assoc = caller.open((_PAIR,))
    except NoAssociationError as why:
        yield End(None, why.code)
        return
    # read before they are understood: whoever answers faster than pydicom reads would be cut off (`race`)
    status, said = None, list[bytes]()
    for status, identifier in assoc.find(assoc.contexts()[_PAIR], MODEL, encode_query(query)):
        if status not in PENDING or len(said) == MOST:
            break
        said.append(identifier)
    yield from map(decode_answer, said)
    yield _end(assoc, status, more=status in PENDING and len(said) == MOST)


def _end(assoc: SoleReader, status: int | None, *, more: bool) -> End:
    """The end of the association, and what is said of it."""
    if status is not None and status not in PENDING:
        assoc.part()
        return End(status)
    late = not assoc.is_over()
    assoc.drop()
    return End(status, more=True) if more else End(None, "pacs-late" if late else "pacs-lost")


def main() -> None:
    """The process."""
    owner: Owner[Ask] = Owner(Ask)
    first = next(owner.lines(), None)
    if first is None:
        return
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        for said in search(Caller(build_entity(first.destination), first.destination), first.query):
            owner.tell(said)
    except Exception:
        traceback.print_exc()  # to the owner, who logs where and what kind
        owner.tell(End(None, "dicom-child"))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
