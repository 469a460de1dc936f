"""`clients.gateway.dicom.coercion`: another identity, and not one other byte."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import msgspec
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from clients.gateway.dicom.coercion import TOUCHED, Change, Local, coerce, rest_hash
from clients.gateway.dicom.header import read_header
from clients.gateway.errors import GatewayError, IntakeError

DEV = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
PIXELS = 0x7FE00010
LOCAL = Local(patient_id="VAL-4711", issuer="LAKESIDE")


def change(**local: str | None) -> Change:
    return Change(
        local=msgspec.structs.replace(LOCAL, **local),
        system="TRAUMATX",
        source="Clínica Valley",
        at="20261124120000",
    )


def encoded(ds: Dataset, syntax: str) -> bytes:
    """The data set's bytes in `syntax`."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(
        buffer, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian
    )
    return buffer.getvalue()


def study(**extra: object) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Müller^Ann", "4711", "VALLEY"
    ds.PatientBirthDate, ds.PatientSex = "19700101", "F"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.1"
    for name, value in extra.items():
        setattr(ds, name, value)
    return ds


def read(data: bytes, syntax: str) -> Dataset:
    return pydicom.filereader.read_dataset(
        io.BytesIO(data), syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    )


def files() -> list[Path]:
    found = [Path(f) for f in get_testdata_files()] + [p for p in DEV.rglob("*") if p.is_file()]
    good = []
    for file in found:
        try:
            read_header(file)
        except GatewayError:
            continue
        good.append(file)
    return good


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_real_file() -> None:
    """pydicom's and those at hand: read by pydicom, with the new identity, the old one kept, the rest as it was."""
    syntaxes, behind = Counter[str](), 0
    for file in files():
        header, raw = read_header(file), file.read_bytes()
        data = raw[header.data_offset :]
        new = b"".join(coerce(data, header.syntax, change()))
        assert rest_hash(new, header.syntax) == rest_hash(data, header.syntax), file.name
        before = pydicom.dcmread(io.BytesIO(raw), force=True)
        after = pydicom.dcmread(io.BytesIO(raw[: header.data_offset] + new), force=True)
        assert (after.PatientID, after.IssuerOfPatientID) == ("VAL-4711", "LAKESIDE"), file.name
        assert after.get("PatientName") == before.get("PatientName")
        original = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
        assert original.get("PatientID") == before.get("PatientID")
        if before.get("PatientID"):
            assert after.OtherPatientIDsSequence[-1].PatientID == before.PatientID
        kept, was = untouched(raw[: header.data_offset] + new), untouched(raw)
        assert kept == was, file.name
        syntaxes[header.syntax] += 1
        behind += any(tag > PIXELS for tag in was)
    assert sum(syntaxes.values()) > 90
    assert set(SYNTAXES) <= set(syntaxes), "each plain encoding, the deflated one and big endian"
    assert sum(n for syntax, n in syntaxes.items() if UID(syntax).is_encapsulated) > 20
    assert behind, "elements behind the pixels (Data Set Trailing Padding, private ones)"


def untouched(raw: bytes) -> dict[int, object]:
    """All else in a file, as pydicom reads it: another reader than the one that `rest_hash` and `coerce` share. Raw
    values as they stand; sequences as what they hold.
    """
    ds = pydicom.dcmread(io.BytesIO(raw), force=True)
    held = ((int(tag), ds.get_item(tag)) for tag in ds.keys() if int(tag) not in TOUCHED)  # noqa: SIM118
    return {tag: (e.VR, e.value) for tag, e in held if e is not None}


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_what_is_written(syntax: str) -> None:
    data = encoded(study(), syntax)
    local = change(patient_name="DOE^JANE", birth_date="", sex="M")
    ds = read(b"".join(coerce(data, syntax, local)), syntax)
    assert (ds.PatientName, ds.PatientID, ds.IssuerOfPatientID) == ("DOE^JANE", "VAL-4711", "LAKESIDE")
    assert (ds.PatientBirthDate, ds.PatientSex) == ("", "M")
    (record,) = ds.OriginalAttributesSequence
    assert (record.ModifyingSystem, record.SourceOfPreviousValues) == ("TRAUMATX", "Clínica Valley")
    assert (record.AttributeModificationDateTime, record.ReasonForTheAttributeModification) == (
        "20261124120000", "COERCE",
    )  # fmt: skip
    (old,) = record.ModifiedAttributesSequence
    assert (old.PatientName, old.PatientID, old.IssuerOfPatientID) == ("Müller^Ann", "4711", "VALLEY")
    assert (old.PatientBirthDate, old.PatientSex) == ("19700101", "F")
    (other,) = ds.OtherPatientIDsSequence
    assert (other.PatientID, other.IssuerOfPatientID, other.TypeOfPatientID) == ("4711", "VALLEY", "TEXT")


def test_only_what_differs_is_an_original() -> None:
    data = encoded(study(), ExplicitVRLittleEndian)
    ds = read(b"".join(coerce(data, ExplicitVRLittleEndian, change(issuer=None))), ExplicitVRLittleEndian)
    (old,) = ds.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert list(old.keys()) == [0x00100020]
    assert ds.IssuerOfPatientID == "VALLEY"


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_number_without_an_issuer_has_none(syntax: str) -> None:
    """The sender's would say that our number is another hospital's."""
    new = b"".join(coerce(encoded(study(), syntax), syntax, change(issuer="")))
    ds = read(new, syntax)
    assert "IssuerOfPatientID" not in ds
    assert ds.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].IssuerOfPatientID == "VALLEY"
    assert ds.OtherPatientIDsSequence[0].IssuerOfPatientID == "VALLEY"
    bare = study()
    del bare.IssuerOfPatientID
    plain = read(b"".join(coerce(encoded(bare, syntax), syntax, change(issuer=""))), syntax)
    assert "IssuerOfPatientID" not in plain
    assert list(plain.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].keys()) == [0x00100020]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_same_identity_changes_nothing(syntax: str) -> None:
    data = encoded(study(), syntax) if syntax != DeflatedExplicitVRLittleEndian else deflated(study())
    assert b"".join(coerce(data, syntax, change(patient_id="4711", issuer="VALLEY"))) == data


def deflated(ds: Dataset) -> bytes:
    import zlib

    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(encoded(ds, ExplicitVRLittleEndian)) + deflater.flush()


def test_deflated() -> None:
    import zlib

    data = deflated(study())
    new = b"".join(coerce(data, DeflatedExplicitVRLittleEndian, change()))
    plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(new)
    assert read(plain, ExplicitVRLittleEndian).PatientID == "VAL-4711"
    assert rest_hash(new, DeflatedExplicitVRLittleEndian) == rest_hash(data, DeflatedExplicitVRLittleEndian)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_what_others_have_written_stays(syntax: str, undefined: bool) -> None:
    """A second coercion: both records, both other numbers, in their order."""
    ds = study()
    first = Dataset()
    first.PatientID, first.TypeOfPatientID = "1", "TEXT"
    ds.OtherPatientIDsSequence = Sequence([first])
    ds["OtherPatientIDsSequence"].is_undefined_length = undefined
    once = b"".join(coerce(encoded(ds, syntax), syntax, change()))
    twice = read(b"".join(coerce(once, syntax, change(patient_id="HILL-9"))), syntax)
    assert [i.PatientID for i in twice.OtherPatientIDsSequence] == ["1", "4711", "VAL-4711"]
    records = [r.ModifiedAttributesSequence[0] for r in twice.OriginalAttributesSequence]
    assert [r.PatientID for r in records] == ["4711", "VAL-4711"]


def test_a_sequence_written_as_unknown_is_kept_as_an_original() -> None:
    body = bytes.fromhex("feff00e0ffffffff") + bytes.fromhex("feff0de000000000")
    unknown = bytes.fromhex("10000210") + b"UN" + bytes(2) + len(body).to_bytes(4, "little") + body
    data = encoded(study(), ExplicitVRLittleEndian)
    at = data.index(bytes.fromhex("20000d00"))
    ds = read(
        b"".join(coerce(data[:at] + unknown + data[at:], ExplicitVRLittleEndian, change())),
        ExplicitVRLittleEndian,
    )
    assert [i.PatientID for i in ds.OtherPatientIDsSequence] == ["4711"]
    assert 0x00101002 in ds.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]


@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")
@pytest.mark.parametrize(
    ("charset", "name", "fits"),
    [
        ("", "DOE^JANE", True), ("", "MÜLLER^ANN", False), ("ISO_IR 100", "MÜLLER^ANN", True),
        ("ISO_IR 100", "Łoś^Ann", False), ("ISO_IR 192", "山田^太郎", True), ("GB18030", "王^小东", True),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎", True), ("\\ISO 2022 IR 87", "Łoś", False),
        ("\\ISO 2022 IR 100", "MÜLLER^ANN", False),
        ("nonsense", "DOE^JANE", True), ("nonsense", "山田", False),
    ],
)  # fmt: skip
def test_names_in_the_study_s_own_letters(charset: str, name: str, fits: bool) -> None:
    data = encoded(study(PatientName="X"), ExplicitVRLittleEndian)
    value = charset.encode() + b" " * (len(charset) % 2)
    element = bytes.fromhex("08000500") + b"CS" + len(value).to_bytes(2, "little") + value
    data = element + data[data.index(bytes.fromhex("08001600")) :]
    if not fits:
        with pytest.raises(IntakeError) as caught:
            coerce(data, ExplicitVRLittleEndian, change(patient_name=name))
        assert caught.value.code == "dicom-charset"
        return
    ds = read(
        b"".join(coerce(data, ExplicitVRLittleEndian, change(patient_name=name))), ExplicitVRLittleEndian
    )
    if charset != "nonsense":
        ds.decode()
    assert str(ds.PatientName) == name


def test_two_identities_in_one_data_set_are_refused() -> None:
    data = encoded(study(), ExplicitVRLittleEndian)
    at = data.index(bytes.fromhex("10002000"))
    twice = data[:at] + data[at : at + 12] + data[at:]
    with pytest.raises(IntakeError) as caught:
        coerce(twice, ExplicitVRLittleEndian, change())
    assert caught.value.code == "dicom-structure"


@given(st.binary(max_size=400), st.sampled_from(SYNTAXES))
def test_any_bytes_are_coerced_or_named(data: bytes, syntax: str) -> None:
    try:
        new = b"".join(coerce(data, syntax, change()))
    except IntakeError:
        return
    assert rest_hash(new, syntax) == rest_hash(data, syntax)


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_a_damaged_data_set_is_coerced_or_named(at: int, damage: bytes) -> None:
    data = bytearray(encoded(study(), ExplicitVRLittleEndian))
    data[at % len(data) : at % len(data) + len(damage)] = damage
    try:
        new = b"".join(coerce(bytes(data), ExplicitVRLittleEndian, change()))
        assert rest_hash(new, ExplicitVRLittleEndian) == rest_hash(bytes(data), ExplicitVRLittleEndian)
    except IntakeError:
        pass
