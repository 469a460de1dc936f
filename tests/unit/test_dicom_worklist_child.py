"""`clients.gateway.dicom.worklist_child`: one answer of a worklist, in any letters, and whatever bytes it is."""

from __future__ import annotations

import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from clients.gateway.dicom.worklist import Answer, Unreadable
from clients.gateway.dicom.worklist_child import decode_answer
from tests.image_kit import IMPLICIT, encoded

_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("charset", "name", "what"),
    [
        ("ISO_IR 100", "MÜLLER^ANN", "Schädel"),
        ("ISO_IR 192", "Łoś^Ann", "Głowa"),
        ("GB18030", "王^小东", "头部"),
        (["", "ISO 2022 IR 87"], "YAMADA^TAROU=山田^太郎", "頭部"),
    ],
)
def test_letters_of_the_answer_s_own_character_set(charset: str | list[str], name: str, what: str) -> None:
    step = Dataset()
    step.Modality, step.ScheduledProcedureStepDescription = "CT", what
    ds = Dataset()
    ds.SpecificCharacterSet, ds.PatientID, ds.PatientName = charset, "4711", name
    ds.ScheduledProcedureStepSequence = Sequence([step])
    answer = decode_answer(encoded(ds, IMPLICIT))
    assert isinstance(answer, Answer)
    assert (answer.patient_id, answer.name, answer.what) == ("4711", name, f"CT, {what}")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "data",
    [
        b"SQ" * 5000,
        (struct.pack("<HHL", 0x0040, 0x0100, 0xFFFFFFFF) + _ITEM) * 4000,
        struct.pack("<HHL", 0x0040, 0x0100, 12) + b"no item here",
    ],
    ids=["nested in itself, of defined lengths", "4,000 deep", "no item"],
)
def test_an_answer_that_is_none_costs_nothing(data: bytes) -> None:
    """The first took all of the machine's memory: each level of it doubled the text of an exception."""
    answer = decode_answer(data)
    assert isinstance(answer, Unreadable) or answer.patient_id == ""
