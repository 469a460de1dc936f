"""`clients.gateway.dicom.worklist` and its child's reading and writing; the searches themselves are in
tests/integration/test_dicom_worklist.py.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from clients.gateway.dicom.worklist import Answer, Query, Unreadable, sift
from clients.gateway.dicom.worklist_child import decode_answer, encode_query
from tests.worklist_kit import identifier, step


def implicit(ds: Dataset) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, True
    write_dataset(out, ds)
    return bytes(out.getvalue())


def answer(**values: Any) -> Answer:
    facts = {
        "patient_id": "4711", "issuer": "", "name": "TEST^ALPHA", "birth_date": "19840312", "sex": "F",
        "accession": "A1", "what": "CT", "scheduled": "",
    }  # fmt: skip
    return Answer(**{**facts, **values})


def test_the_query_asks_for_what_tells_patients_apart() -> None:
    asked = identifier(encode_query(Query(patient_id="4711", accession="A1", name="TEST")))
    assert (asked.PatientID, asked.AccessionNumber, str(asked.PatientName)) == ("4711", "A1", "TEST*")
    assert {"PatientBirthDate", "PatientSex", "IssuerOfPatientID"} <= {e.keyword for e in asked}
    assert "ScheduledProcedureStepStartDate" in asked.ScheduledProcedureStepSequence[0]
    assert "SpecificCharacterSet" not in asked
    assert identifier(encode_query(Query(name="山田"))).SpecificCharacterSet == "ISO_IR 192"
    assert str(identifier(encode_query(Query(accession="A1"))).PatientName) == ""


def test_answers_in_the_character_sets_of_hospitals() -> None:
    for charset, name in (
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Ünlü^Äsa"),
    ):  # fmt: skip
        said = decode_answer(implicit(step("4711", name, SpecificCharacterSet=charset)))
        assert isinstance(said, Answer)
        assert said.name == name


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_named(data: bytes) -> None:
    assert isinstance(decode_answer(data), Answer | Unreadable)


def test_a_number_that_is_two_is_none() -> None:
    ds = step("1", "TEST^ALPHA")
    ds.PatientID = ["4711", "4712"]
    assert isinstance(decode_answer(implicit(ds)), Unreadable)


def test_only_the_patient_that_was_asked_for() -> None:
    said = [
        answer(),
        answer(patient_id="4712"),
        Unreadable(),
        answer(patient_id="4\\7"),
        answer(patient_id=" 4711 "),
    ]
    found = sift(Query(patient_id="4711"), [*said], more=True)
    assert [i.patient_id for i in found.items] == ["4711", "4711"]
    assert (found.dropped, found.more) == (3, True)
    assert sift(Query(accession="A2"), [answer(), answer(accession="A2 ")], more=False).dropped == 1


def test_what_cannot_be_read_of_a_patient_is_not_known() -> None:
    (item,) = sift(
        Query(patient_id="4711"),
        [answer(name="\x1b$B;3", birth_date="1984", sex="?", what="a\x00b")],
        more=False,
    ).items
    assert (item.shown_name, item.birth_date, item.sex, item.what) == ("", "", "", "ab")


def test_names_fit_in_any_group_and_case() -> None:
    def fits(name: str, asked: str) -> bool:
        return sift(Query(name=asked), [answer(name=name)], more=False).items[0].fits

    assert fits("TEST^ALPHA", "test")
    assert fits("Yamada^Tarou=山田^太郎", "山田")
    assert not fits("MAYR^ANNA", "MEIER")
