"""`clients.gateway.dicom.document`: an Encapsulated PDF that is filed where the images are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from clients.gateway.dicom.document import Document, Facts, digest_of, encode, read_facts, uid_of
from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.part10 import write_part10
from clients.gateway.errors import IntakeError
from tests.dicom_kit import data_set, encoded, sendable
from tests.gateway_kit import an_instance
from tests.hl7_kit import a_pdf
from tests.peers import need

INHERITED = (
    "SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
)  # fmt: skip


def a_document(pdf: bytes = b"%PDF-1.7 odd", title: str = "CT head") -> Document:
    return Document(pdf=pdf, title=title, number=3, at=1_800_000_000, digest=digest_of(title.encode(), pdf))


def image(path: Path, syntax: str = ExplicitVRLittleEndian, **changes: object) -> Path:
    ds = an_instance(
        **{
            "AccessionNumber": "A1", "IssuerOfPatientID": "VALLEY", "StudyDate": "20261124", "PatientSex": "F",
            "StudyID": "7", "ReferringPhysicianName": "LEE^KIM", **changes,
        }
    )  # fmt: skip
    write_part10(path, encoded(ds, syntax), ds.SOPClassUID, ds.SOPInstanceUID, syntax)
    return path


def made(source: Path, document: Document) -> Path:
    """The document of a study, as a file."""
    _, pieces = encode(read_facts(source), document)
    path = source.with_suffix(".pdf.dcm")
    path.write_bytes(b"".join(pieces))
    return path


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    ("charset", "name"), [("ISO_IR 192", "MÜLLER^ÅSA"), ("ISO_IR 100", "MÜLLER^ÅSA"), ("GB18030", "王^小东")]
)
def test_patient_and_study_are_those_of_the_images(
    tmp_path: Path, syntax: str, charset: str, name: str
) -> None:
    source = image(tmp_path / "a.dcm", syntax, SpecificCharacterSet=charset, PatientName=name)
    before, after = pydicom.dcmread(source), pydicom.dcmread(made(source, a_document()))
    for keyword in INHERITED:
        assert (after.get(keyword) or None) == (before.get(keyword) or None), keyword
    assert after.PatientName == name


def test_what_the_module_wants(tmp_path: Path) -> None:
    """PS3.3 A.45.1: each element of type 1 has its value, each of type 2 is there."""
    path = made(image(tmp_path / "a.dcm"), a_document(pdf := b"%PDF-1.7 odd"[:-1]))
    ds = pydicom.dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1"
    assert (ds.Modality, ds.ConversionType, ds.BurnedInAnnotation) == ("DOC", "WSD", "YES")
    assert (ds.SeriesNumber, ds.InstanceNumber, ds.DocumentTitle) == (9000, 3, "CT head")
    assert ds.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert (ds.EncapsulatedDocumentLength, len(ds.EncapsulatedDocument)) == (len(pdf), len(pdf) + 1)
    assert ds.EncapsulatedDocument == pdf + b"\0"
    for keyword in (
        "ContentDate",
        "ContentTime",
        "AcquisitionDateTime",
        "ConceptNameCodeSequence",
        "Manufacturer",
    ):
        assert keyword in ds
    assert "HL7InstanceIdentifier" not in ds
    tags = [int(tag) for tag in ds.keys()]  # noqa: SIM118
    assert tags == sorted(tags)
    header = read_header(path)
    assert (header.study_uid, header.modality, header.patient_id) == ("2.25.11", "DOC", "P1")


def test_elements_that_the_images_lack_are_there_and_empty(tmp_path: Path) -> None:
    ds = an_instance()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate"):
        if keyword in ds:
            delattr(ds, keyword)
    source = tmp_path / "a.dcm"
    write_part10(source, encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian)
    after = pydicom.dcmread(made(source, a_document()))
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "AccessionNumber",
        "StudyID",
    ):
        assert keyword in after
        assert not after[keyword].value


def test_the_same_report_is_the_same_instance_and_another_is_not(tmp_path: Path) -> None:
    facts = read_facts(image(tmp_path / "a.dcm"))
    first, again = encode(facts, a_document()), encode(facts, a_document())
    assert first == again
    others = [a_document(title="CT neck"), a_document(pdf=b"%PDF-1.7 even")]
    elsewhere = Facts({**facts.values, 0x0020000D: b"2.25.99"})
    uids = {first[0], *(encode(facts, d)[0] for d in others), encode(elsewhere, a_document())[0]}
    assert len(uids) == 4
    assert all(len(uid) <= 64 and uid.startswith("2.25.") for uid in uids)
    assert uid_of("1.2", b"ab", b"c") != uid_of("1.2", b"a", b"bc")


@pytest.mark.parametrize(
    ("charset", "title", "shown"),
    [
        ("ISO_IR 192", "Rapport méd. Кровь", "Rapport méd. Кровь"), ("ISO_IR 100", "Rapport méd.", "Rapport méd."),
        ("ISO_IR 100", "Кровь", "?????"), ("", "méd", "m?d"), ("\\ISO 2022 IR 87", "報告", "報告"),
        ("GB18030", "报告", "报告"), ("ISO_IR 100", "a\nb\x1b", "ab"), ("ISO_IR 100", "x" * 300, "x" * 200),
    ],
)  # fmt: skip
def test_a_title_in_the_character_set_of_the_study(
    tmp_path: Path, charset: str, title: str, shown: str
) -> None:
    source = image(tmp_path / "a.dcm", SpecificCharacterSet=charset)
    assert pydicom.dcmread(made(source, a_document(title=title))).DocumentTitle == shown


def test_a_character_set_that_nobody_knows(tmp_path: Path) -> None:
    facts = read_facts(image(tmp_path / "a.dcm"))
    facts = Facts({**facts.values, 0x00080005: b"NONSENSE"})
    path = tmp_path / "b.dcm"
    path.write_bytes(b"".join(encode(facts, a_document(title="méd"))[1]))
    assert read_header(path).patient_id == "P1"
    assert b"m?d " in data_set(path)


def test_every_real_file_gives_its_facts(tmp_path: Path) -> None:
    """Real headers, odd ones too: the document is one that this gateway takes, of the same study and patient."""
    document = a_document(a_pdf())
    for path in sendable()[::4]:
        target = tmp_path / "made.dcm"
        target.write_bytes(b"".join(encode(read_facts(path), document)[1]))
        before, after = read_header(path), read_header(target)
        for field in (
            "study_uid",
            "patient_id",
            "patient_name",
            "birth_date",
            "accession",
            "issuer",
            "study_date",
        ):
            assert getattr(after, field) == getattr(before, field), (path.name, field)


def test_a_value_that_no_element_may_have_is_refused(tmp_path: Path) -> None:
    source = image(tmp_path / "a.dcm", PatientAge="012Y")
    raw = source.read_bytes()
    assert raw.count(b"AS\x04\x00012Y") == 1
    source.write_bytes(raw.replace(b"AS\x04\x00012Y", b"AS\xd0\x07" + b"1" * 2000))
    with pytest.raises(IntakeError) as caught:
        read_facts(source)
    assert caught.value.code == "dicom-structure"
    with pytest.raises(IntakeError):
        read_facts(tmp_path / "nothing")


@pytest.mark.peer
def test_dicom3tools_finds_no_error(tmp_path: Path) -> None:
    path = made(image(tmp_path / "a.dcm", StudyTime="120000"), a_document(a_pdf()))
    done = subprocess.run(
        [need("dciodvfy")["dciodvfy"], str(path)], capture_output=True, text=True, check=False
    )
    assert "EncapsulatedPDF" in done.stderr.replace(" ", "")
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


@pytest.mark.peer
def test_dcmtk_reads_it(tmp_path: Path) -> None:
    path = made(image(tmp_path / "a.dcm"), a_document(pdf := a_pdf()))
    tools = need("dcm2pdf")
    subprocess.run([tools["dcm2pdf"], str(path), str(tmp_path / "out.pdf")], check=True, capture_output=True)
    assert (tmp_path / "out.pdf").read_bytes()[: len(pdf)] == pdf
