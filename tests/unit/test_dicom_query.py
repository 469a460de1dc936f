"""What is asked of an archive, and what is believed of its answers."""

from __future__ import annotations

import datetime
import random
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from clients.gateway.dicom.query import (
    Match,
    Terms,
    encode_identifier,
    image_identifier,
    name_pattern,
    read_failed,
    read_image,
    read_match,
    read_series,
    read_terms,
    retrieve_identifier,
    series_identifier,
    study_identifier,
)
from clients.gateway.errors import GatewayError
from tests.dicom_kit import encoded

TODAY = datetime.date(2026, 11, 24)
IMPLICIT = "1.2.840.10008.1.2"


def decoded(identifier: bytes) -> Dataset:
    """As pydicom reads it."""
    return dcmread(BytesIO(identifier), force=True)


def answer(**values: object) -> bytes:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return encoded(ds, IMPLICIT)


def a_match(**values: object) -> Match:
    given = {
        "uid": "1.2.3", "patient_name": "", "patient_id": "P1", "birth_date": "", "sex": "", "accession": "A1",
        "date": "2026-11-24", "time": "", "description": "", "modalities": "CT, SR", "series": 1, "instances": 2,
    }  # fmt: skip
    return Match(**{**given, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        ({"accession": " A7701 "}, Terms(accession="A7701")),
        ({"patient_id": "P 1"}, Terms(patient_id="P 1")),
        ({"name": "DOE,  JANE", "date": "2026-11-24"}, Terms(name="DOE, JANE", date="20261124")),
        ({"modality": "ct", "today": "yes"}, Terms(modality="CT", date="20261124")),
        ({"study": "1.2.3"}, Terms(study="1.2.3")),
        ({"accession": "A*?"}, Terms(accession="A*?")),
    ],
)
def test_what_people_type_is_read(given: dict[str, str], terms: Terms) -> None:
    assert read_terms(given, TODAY) == terms


@pytest.mark.parametrize(
    "given",
    [
        {}, {"name": "DOE"}, {"modality": "CT"}, {"date": "2026-11-24"}, {"accession": "A\\B"}, {"accession": "A" * 65},
        {"patient_id": "P\x001"}, {"accession": "A1", "date": "2026-13-01"}, {"accession": "A1", "date": "yesterday"},
        {"modality": "C*", "today": "yes"}, {"study": "1.2.*"}, {"study": "1.2\\1.3"},
        {"accession": "A1", "modality": "C\\T"},
    ],
)  # fmt: skip
def test_what_finds_too_much_or_cannot_be_asked_is_refused_in_words(given: dict[str, str]) -> None:
    with pytest.raises(GatewayError) as why:
        read_terms(given, TODAY)
    assert why.value.code == "search"
    assert why.value.sentence.endswith(".")


def test_a_study_is_asked_for_by_literal_values() -> None:
    ds = decoded(study_identifier(Terms(accession="A*1", patient_id="P?", modality="CT", date="20261124")))
    assert (ds.QueryRetrieveLevel, ds.AccessionNumber, ds.PatientID) == ("STUDY", "A?1", "P?")
    assert (ds.ModalitiesInStudy, ds.StudyDate) == ("CT", "20261124")
    assert "SpecificCharacterSet" not in ds
    assert ds.PatientName == ""
    assert "NumberOfStudyRelatedInstances" in ds, "what is to be told"
    assert [int(e.tag) for e in ds] == sorted(int(e.tag) for e in ds)


@pytest.mark.parametrize(
    ("typed", "pattern"),
    [
        ("DOE, JANE", "DOE*JANE*"), ("doe", "doe*"), ("DOE^JANE^M", "DOE*JANE*M*"), ("D*E", "D?E*"), ("", ""),
        (" ,^= ", ""),
    ],
)  # fmt: skip
def test_a_name_is_asked_by_the_beginnings_of_its_parts(typed: str, pattern: str) -> None:
    assert name_pattern(typed) == pattern


def test_letters_beyond_ascii_are_asked_in_utf_8_and_say_so() -> None:
    ds = decoded(study_identifier(Terms(name="Müller", date="20261124")))
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert ds.PatientName == "Müller*"


def test_the_other_levels_name_every_key_above_them() -> None:
    ds = decoded(series_identifier("1.2.3"))
    assert (ds.QueryRetrieveLevel, ds.StudyInstanceUID, ds.SeriesInstanceUID) == ("SERIES", "1.2.3", "")
    ds = decoded(image_identifier("1.2.3", "1.2.34"))
    assert (ds.QueryRetrieveLevel, ds.StudyInstanceUID, ds.SeriesInstanceUID) == ("IMAGE", "1.2.3", "1.2.34")
    assert ds.SOPInstanceUID == ""
    ds = decoded(retrieve_identifier("1.2.3"))
    assert (len(ds), ds.QueryRetrieveLevel, ds.StudyInstanceUID) == (2, "STUDY", "1.2.3")
    assert encode_identifier({}) == b""


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "GB18030", "\\ISO 2022 IR 87"])
def test_an_answer_is_read_in_its_own_character_set(charset: str) -> None:
    name = {"ISO_IR 100": "Müller^Jörg", "ISO_IR 192": "Müller^Jörg"}.get(charset, "Yamada^Tarou=山田^太郎")
    ds = Dataset()
    ds.SpecificCharacterSet = charset.split("\\") if "\\" in charset else charset
    ds.StudyInstanceUID, ds.PatientName, ds.StudyDate, ds.StudyTime = "1.2.3", name, "20261124", "134000"
    ds.ModalitiesInStudy, ds.NumberOfStudyRelatedInstances = ["CT", "SR"], 688
    found = read_match(encoded(ds, IMPLICIT))
    assert found is not None
    assert found.patient_name in ("Müller, Jörg", "Yamada, Tarou")
    assert (found.date, found.time, found.modalities) == ("2026-11-24", "13:40", "CT, SR")
    assert (found.instances, found.series) == (688, -1)


def test_answers_of_something_else_are_not_taken() -> None:
    assert read_match(answer(PatientID="P1")) is None
    assert read_match(b"\xff" * 64) is None
    assert read_series(answer(StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.34"), "1.2.3") is None
    found = read_series(answer(SeriesInstanceUID="1.2.34", NumberOfSeriesRelatedInstances=-5), "1.2.3")
    assert found is not None
    assert found.instances == -1
    other = answer(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.35", SOPInstanceUID="1.2.5")
    assert read_image(other, "1.2.3", "1.2.34") is None
    image = read_image(
        answer(SOPInstanceUID="1.2.5", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "1.2.3", "1.2.34"
    )
    assert image is not None
    assert (image.series, image.uid) == ("1.2.34", "1.2.5")


def test_only_what_was_asked_for_fits() -> None:
    assert Terms(accession="a1").fit(a_match())
    assert Terms(patient_id="P1", date="20261124", modality="SR").fit(a_match())
    for terms in (
        Terms(accession="A2"), Terms(patient_id="P"), Terms(date="20261123"), Terms(modality="MR", date="20261124"),
        Terms(study="1.2.4"),
    ):  # fmt: skip
        assert not terms.fit(a_match())
    assert not Terms(patient_id="P1").fit(a_match(patient_id=""))
    assert Terms(modality="CT", date="20261124").fit(a_match(modalities="")), "a PACS that does not say"


def test_the_list_of_failed_images_is_bounded_and_clean() -> None:
    assert read_failed(answer(FailedSOPInstanceUIDList=["1.2.3", "1.2.3", "1.2.4"])) == ["1.2.3", "1.2.4"]
    assert read_failed(b"") == []
    many = [f"1.2.840.113619.2.1.{10**43 + n}" for n in range(3000)]
    listed = read_failed(answer(FailedSOPInstanceUIDList=many))
    assert listed == many[: len(listed)]
    assert len(listed) > 500


def test_any_bytes_are_an_answer_or_none() -> None:
    random.seed(7)
    good = bytearray(answer(StudyInstanceUID="1.2.3", PatientName="DOE^JANE", AccessionNumber="A1"))
    for _ in range(2000):
        bad = bytearray(good)
        for _ in range(random.randint(1, 6)):
            bad[random.randrange(len(bad))] = random.randrange(256)
        for read in (read_match, read_failed):
            read(bytes(bad))
        read_image(bytes(bad), "1.2.3", "1.2.4")
