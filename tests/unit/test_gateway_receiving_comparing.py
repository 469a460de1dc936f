"""`clients.gateway.receiving.comparing`: two identifiers, always; an unknown patient's name and date are none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.dicom.person import Person
from clients.gateway.receiving.claim import Claim
from clients.gateway.receiving.comparing import compare, unknown

CLAIM = Claim(
    patient_name="TEST, ALPHA", patient_id="4711", issuer="VALLEY", birth_date="1984-03-12", sex="F", accession="",
    what="CT", charset="",
)  # fmt: skip
PERSON = Person(patient_id="900", issuer="LAKESIDE", name="TEST^ALPHA", birth_date="19840312", sex="F")


def confirm(claim: Claim = CLAIM, person: Person = PERSON, /, **changes: str) -> list[str]:
    mine = {k: v for k, v in changes.items() if k in ("patient_name", "birth", "sender_sex")}
    claim = msgspec.structs.replace(
        claim,
        patient_name=mine.get("patient_name", claim.patient_name),
        birth_date=mine.get("birth", claim.birth_date),
    )
    theirs = {k: v for k, v in changes.items() if k not in mine}
    return compare(claim, msgspec.structs.replace(person, **theirs)).confirm


def test_what_agrees_is_confirmed_by_looking() -> None:
    assert confirm() == ["name", "birth_date"]
    assert confirm(name="Test^Alpha") == ["name", "birth_date"], "case and marks are no difference"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": ""}, ["birth_date", "number"]),
        ({"birth_date": ""}, ["name", "number"]),
        ({"name": "", "birth_date": ""}, ["number", "arrival"]),
        ({"birth_date": "19840313"}, ["name", "number", "differs-birth_date"]),
        ({"name": "TEST^BRAVO"}, ["birth_date", "number", "differs-name"]),
        ({"name": "A^B", "birth_date": "19500101", "sex": "M"},
         ["number", "arrival", "differs-name", "differs-birth_date", "differs-sex"]),
        ({"sex": "M"}, ["name", "birth_date", "differs-sex"]),
        ({"sex": ""}, ["name", "birth_date"]),
    ],
)  # fmt: skip
def test_what_is_missing_or_differs(changes: dict[str, str], expected: list[str]) -> None:
    assert confirm(**changes) == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("DOE, JANE", "DOE^JANE"), ("DOE, JANE", "TEST^ALPHA"), ("TEST, ALPHA", "UNKNOWN^MALE 7")],
)
def test_doe_is_matched_by_neither_name_nor_birth_date(ours: str, theirs: str) -> None:
    asked = confirm(patient_name=ours, name=theirs)
    assert asked[:2] == ["number", "arrival"]
    assert ("differs-name" in asked) == (ours != "DOE, JANE" or theirs != "DOE^JANE")


def test_a_date_that_stands_for_none_says_nothing() -> None:
    assert confirm(birth="1900-01-01", birth_date="19000101") == ["name", "number"]


@pytest.mark.parametrize(
    "name", ["", "DOE, JANE", "Doe-17, John", "UNKNOWN", "Unbekannt, Weiblich", "TRAUMA, ALPHA 3", "NN", "12345", "XXX"]
)  # fmt: skip
def test_names_of_unknown_patients(name: str) -> None:
    assert unknown(name)


@pytest.mark.parametrize("name", ["TEST, ALPHA", "DOERING, ANNA", "山田, 太郎", "Munroe, Jane"])
def test_names_of_people(name: str) -> None:
    assert not unknown(name)


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["", "19840312", "19000101", "19840313"]))
def test_never_fewer_than_two_and_all_that_differs(ours: str, theirs: str, born: str) -> None:
    made = compare(
        msgspec.structs.replace(CLAIM, patient_name=ours),
        msgspec.structs.replace(PERSON, name=theirs, birth_date=born),
    )
    identifiers = [k for k in made.confirm if not k.startswith("differs-")]
    assert len(identifiers) == len(set(identifiers)) == 2
    differs = {f"differs-{row.key}" for row in made.rows if row.kind == "differs"}
    assert differs == set(made.confirm) - set(identifiers)
    assert not {k.removeprefix("differs-") for k in differs} & set(identifiers)
