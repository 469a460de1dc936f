"""`clients.gateway.dicom.person`: a number is one that every data set can hold, or it is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from clients.gateway.dicom.person import (
    PersonError,
    read_date,
    read_name,
    read_number,
    read_person,
    shown_date,
    shown_name,
)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("", "mrn-missing"), ("   ", "mrn-missing"), ("1" * 65, "mrn-long"), ("47\\11", "mrn-backslash"),
        ("4711^^^LAKE", "mrn-caret"), ("\x0247111", "mrn-control"), ("4711\n", "mrn-control"),
        ("47\x7f", "mrn-control"),
        ("\x1b$B;3\x1b(B", "mrn-control"), ("47*", "mrn-wildcard"), ("4?11", "mrn-wildcard"), ("山田", "mrn-letters"),
        ("王小东", "mrn-letters"), ("Ä4711", "mrn-letters"), ("4711\u200b", "mrn-letters"), ("٤٧١١", "mrn-letters"),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_one_are_named(number: str, code: str) -> None:
    with pytest.raises(PersonError) as caught:
        read_number(number)
    assert caught.value.code == code
    assert not number.strip() or number not in str(caught.value)


@given(st.text(max_size=80))
def test_whatever_is_taken_fits_every_data_set(text: str) -> None:
    try:
        number = read_number(text)
    except PersonError:
        return
    assert 1 <= len(number) <= 64
    assert number.isascii()
    assert number.isprintable()
    assert not set("\\^*?") & set(number)
    assert number == text.strip(" ")


@given(st.text(max_size=300), st.text(max_size=12), st.text(max_size=3))
def test_any_words_are_read_or_named(name: str, born: str, sex: str) -> None:
    code = ""
    try:
        person = read_person(patient_id="1", name=name, birth_date=born, sex=sex)
    except PersonError as why:
        code = why.code
    if code:
        event(code)
        assert code in ("name-character", "name-long", "birth-date", "sex")
        return
    assert "\\" not in person.name
    assert person.sex in ("", "M", "F", "O")
    assert len(person.birth_date) in (0, 8)


@pytest.mark.parametrize(
    ("typed", "written", "shown"),
    [
        ("DOE, JANE MARY", "DOE^JANE^MARY", "DOE, JANE MARY"), ("DOE^JANE", "DOE^JANE", "DOE, JANE"),
        ("DOE", "DOE", "DOE"), ("", "", ""), ("Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
        ("=山田^太郎", "=山田^太郎", "山田, 太郎"), ("van der Berg, Anna", "van der Berg^Anna", "van der Berg, Anna"),
    ],
)  # fmt: skip
def test_names(typed: str, written: str, shown: str) -> None:
    assert read_name(typed) == written
    assert shown_name(written) == shown


def test_dates() -> None:
    assert read_date("1984-03-12") == read_date(" 19840312") == read_date("1984.03.12") == "19840312"
    assert shown_date("19840312") == "1984-03-12"
    assert (read_date(""), shown_date("")) == ("", "")
    for wrong in ("12.03.1984", "1984-13-12", "1984-02-30", "84-03-12", "1984-03-1٢", "0"):
        with pytest.raises(PersonError) as caught:
            read_date(wrong)
        assert caught.value.code == "birth-date"


def test_an_issuer_that_no_data_set_can_hold() -> None:
    for wrong in ("A\\B", "湖畔", "A" * 65, "A\x00"):
        with pytest.raises(PersonError) as caught:
            read_person(patient_id="1", issuer=wrong)
        assert caught.value.code == "issuer"
