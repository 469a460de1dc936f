from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from clients.gateway.dicom.header import InstanceHeader, parse_header, read_header
from clients.gateway.dicom.part10 import encode_meta
from clients.gateway.dicom.refusals import REFUSALS
from clients.gateway.errors import IntakeError
from tests.dicom_kit import BUNDLED, corpus, encoded, instance, save

CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def refused(path: Path) -> str:
    with pytest.raises(IntakeError) as caught:
        read_header(path)
    assert caught.value.sentence == REFUSALS[caught.value.code].sentence
    return caught.value.code


def outcome(path: Path) -> str:
    try:
        read_header(path)
    except IntakeError as why:
        return why.code
    return ""


def header(path: Path, **changes: object) -> InstanceHeader:
    return read_header(save(instance(**changes), path / "a.dcm"))


@pytest.mark.parametrize("syntax", [LITTLE, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_header_says_who_and_what(tmp_path: Path, syntax: str) -> None:
    ds = instance(
        PatientName="Doe^Jane^M", IssuerOfPatientID="HOSP", PatientBirthDate="19790228", PatientSex="F",
        AccessionNumber="A77", StudyDate="20261124", StudyTime="130507.123", StudyDescription="Trauma",
        SeriesNumber="3", SeriesDescription="Head 5 mm", InstanceNumber="42", NumberOfFrames="7",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
    )  # fmt: skip
    path = save(ds, tmp_path / "a.dcm", syntax)
    h = read_header(path)
    assert (h.sop_class, h.sop_uid, h.syntax) == (ds.SOPClassUID, ds.SOPInstanceUID, syntax)
    assert (h.study_uid, h.series_uid) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
    assert (h.patient_name, h.patient_id, h.issuer) == ("Doe, Jane M", "T1", "HOSP")
    assert (h.birth_date, h.sex, h.accession) == ("1979-02-28", "F", "A77")
    assert (h.study_date, h.study_time, h.study_description) == ("2026-11-24", "13:05", "Trauma")
    assert (h.series_number, h.series_description, h.modality) == ("3", "Head 5 mm", "CT")
    assert (h.instance_number, h.number_of_frames, h.scout) == (42, 7, False)
    assert path.read_bytes()[h.data_offset :] == encoded(ds, syntax)
    assert h.size == len(encoded(ds, syntax))


def test_a_name_is_read_in_its_character_set(tmp_path: Path) -> None:
    japanese = read_header(BUNDLED / "charset_files" / "chrH31.dcm")
    assert japanese.patient_name == "Yamada, Tarou"
    assert read_header(BUNDLED / "charset_files" / "chrRuss.dcm").patient_name == "Люкceмбypг"
    assert read_header(BUNDLED / "charset_files" / "chrGerm.dcm").patient_name == "Äneas, Rüdiger"
    assert (
        header(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName="=山田^太郎").patient_name
        == "山田, 太郎"
    )
    for name in (b"NO SUCH SET ", b"ISO-IR 192", b"\xff\xfe\xff\xfe", b"ISO 2022 IR 87\\ISO_IR 192 "):
        ds = instance()
        charset = b"\x08\0\x05\0CS" + len(name).to_bytes(2, "little") + name
        path = tmp_path / "a.dcm"
        path.write_bytes(encode_meta(CT, ds.SOPInstanceUID, LITTLE) + charset + encoded(ds))
        assert read_header(path).patient_name == "Test, Phantom"


@pytest.mark.parametrize(
    ("keyword", "value", "field", "shown"),
    [
        ("StudyDate", b"2026.11.24", "study_date", "2026-11-24"),
        ("StudyDate", b"20261399", "study_date", ""),
        ("StudyDate", b"yesterday ", "study_date", ""),
        ("StudyTime", b"09:41:00", "study_time", "09:41"),
        ("StudyTime", b"09", "study_time", ""),
        ("StudyTime", b"2599", "study_time", ""),
        ("InstanceNumber", b"-3", "instance_number", -3),
        ("InstanceNumber", b"99999999999 ", "instance_number", 0),
        ("InstanceNumber", b"1.5 ", "instance_number", 0),
        ("NumberOfFrames", b"-4", "number_of_frames", 1),
        ("StudyDescription", b"a\x1b[31m\r\nb ", "study_description", "a[31mb"),
        ("PatientID", b"x" * 5000, "patient_id", "x" * 200),
        ("SeriesDescription", b"TOPOGRAM 0.6", "scout", True),
        ("ImageType", b"DERIVED\\PRIMARY\\LOCALIZER ", "scout", True),
    ],
)
def test_odd_values_are_shown_as_far_as_they_go(
    tmp_path: Path, keyword: str, value: bytes, field: str, shown: object
) -> None:
    ds = instance()
    body = encoded(ds)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    vr = pydicom.datadict.dictionary_VR(tag).encode()
    element = tag.to_bytes(4, "big")
    element = element[1::-1] + element[:1:-1] + vr + len(value).to_bytes(2, "little") + value
    if keyword in ds:
        at = body.index(element[:6])
        body = body[:at] + element + body[at + 8 + body[at + 6] :]
    else:
        body = element + body
    path = tmp_path / "a.dcm"
    path.write_bytes(encode_meta(CT, ds.SOPInstanceUID, LITTLE) + body)
    assert getattr(read_header(path), field) == shown


def test_each_bad_file_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    ds = instance()
    meta, body = encode_meta(CT, ds.SOPInstanceUID, LITTLE), encoded(ds)

    def code(raw: bytes) -> str:
        path.write_bytes(raw)
        return refused(path)

    assert code(b"") == "dicom-not"
    assert code(b"GIF89a" + bytes(500)) == "dicom-not"
    assert code(meta[:160]) == "dicom-meta"
    assert code(meta) == "dicom-truncated"
    assert code(meta + body[:-1]) == "dicom-truncated"
    assert code(meta + b"\xfe\xff\x0d\xe0\0\0\0\0" + body) == "dicom-structure"
    assert code(encode_meta(CT, "1.2.3", LITTLE) + body) == "dicom-uid-mismatch"
    assert (
        code(encode_meta("1.2.840.10008.5.1.4.1.1.4", ds.SOPInstanceUID, LITTLE) + body)
        == "dicom-uid-mismatch"
    )
    assert code(encode_meta(CT, ds.SOPInstanceUID, "1.2.840.113619.5.2") + body) == "dicom-syntax"
    assert code(encode_meta("1.2.840.10008.1.3.10", ds.SOPInstanceUID, LITTLE) + body) == "dicom-class"
    for keyword, name in (("StudyInstanceUID", "dicom-no-study"), ("SeriesInstanceUID", "dicom-no-series")):
        assert code(meta + encoded(instance(SOPInstanceUID=ds.SOPInstanceUID, **{keyword: ""}))) == name
        hostile = body.replace(ds[keyword].value.encode()[:6], b"../../", 1)
        assert code(meta + hostile) == "dicom-uid"
    assert code(meta + encoded(instance(SOPInstanceUID=""))) == "dicom-uid"
    assert refused(tmp_path / "none") == "dicom-unreadable"
    assert refused(tmp_path) == "dicom-unreadable"


def test_no_error_tells_who_the_patient_is(tmp_path: Path) -> None:
    ds = instance(PatientName="Secret^Person", PatientID="S3CRET")
    path = tmp_path / "Secret.dcm"
    path.write_bytes(encode_meta(CT, "1.2.3.4.5", LITTLE) + encoded(ds))
    with pytest.raises(IntakeError) as caught:
        read_header(path)
    text = str(caught.value).lower()
    assert "secret" not in text
    assert ds.SOPInstanceUID not in text
    assert "1.2.3.4.5" not in text


def test_every_file_of_the_corpus_is_taken_or_refused_by_name() -> None:
    outcomes = Counter(outcome(path) for path in corpus())
    assert outcomes[""] > 80
    assert set(outcomes) <= {"", *REFUSALS}


WHOLE = encode_meta(CT, "1.2.3", LITTLE) + encoded(
    instance(SOPInstanceUID="1.2.3", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")
)


@given(st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(128, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IntakeError):
        parse_header(lambda at, n: bytes(raw[at : at + n]), len(raw))
