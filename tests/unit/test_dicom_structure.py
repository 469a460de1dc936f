from __future__ import annotations

import struct
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from clients.gateway.dicom import structure
from clients.gateway.dicom.part10 import read_meta
from clients.gateway.dicom.refusals import REFUSALS
from clients.gateway.dicom.structure import read_elements
from clients.gateway.errors import IntakeError
from tests.dicom_kit import encoded, instance, sendable

PATIENT_ID = 0x00100020
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def walk(raw: bytes, syntax: str = ExplicitVRLittleEndian) -> dict[int, bytes]:
    return read_elements(lambda at, n: raw[at : at + n], 0, len(raw), syntax, frozenset({PATIENT_ID}))


def code_of(raw: bytes, syntax: str = ExplicitVRLittleEndian) -> str:
    with pytest.raises(IntakeError) as caught:
        walk(raw, syntax)
    return caught.value.code


def outcome(raw: bytes, syntax: str) -> str:
    try:
        walk(raw, syntax)
    except IntakeError as why:
        return why.code
    return ""


def nested(depth: int) -> Dataset:
    inner = Dataset()
    inner.CodeValue = "1"
    for _ in range(depth):
        outer = Dataset()
        outer.ConceptNameCodeSequence = Sequence([inner, inner])
        inner = outer
    ds = instance(RequestAttributesSequence=Sequence([inner]))
    return ds


def undefined(ds: Dataset) -> Dataset:
    for elem in ds.iterall():
        if elem.VR == "SQ":
            elem.is_undefined_length = True
            for item in elem.value:
                item.is_undefined_length_sequence_item = True
    return ds


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_value_is_found_behind_sequences_of_both_kinds(syntax: str) -> None:
    for ds in (nested(3), undefined(nested(3))):
        assert walk(encoded(ds, syntax), syntax) == {PATIENT_ID: b"T1"}


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_data_set_cut_anywhere_is_truncated(syntax: str) -> None:
    ds = undefined(nested(2))
    raw = encoded(ds, syntax)
    codes = Counter(outcome(raw[:cut], syntax) for cut in range(1, len(raw)))
    assert set(codes) <= {"", "dicom-truncated", "dicom-structure"}
    # Only a cut between two top-level elements, or one zero byte behind it, leaves something whole
    assert codes[""] <= 2 * len(ds)


@pytest.mark.filterwarnings("ignore")
def test_values_of_real_files_are_those_that_pydicom_reads() -> None:
    for path in sendable():
        ds = dcmread(path, specific_tags=["PatientID"])
        raw, meta = path.read_bytes(), ds.file_meta
        start = read_meta(lambda at, n, raw=raw: raw[at : at + n]).data_offset
        found = walk(raw[start:], meta.TransferSyntaxUID)
        assert (
            found.get(PATIENT_ID, b"").strip(b"\0 ").decode("latin-1")
            == str(ds.get("PatientID") or "").strip()
        )


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "dicom-truncated"),
        (b"\x10\0\x20\0LO\x10\0T1", "dicom-truncated"),
        (b"\x10\0\x20\0LO\x02\0T1\x10\0", "dicom-truncated"),
        (b"\xe0\x7f\x10\0OW\0\0\xff\xff\xff\xff" + bytes(64), "dicom-structure"),
        (b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" + END, "dicom-structure"),
        (b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\x08\0\0\0" + bytes(8), "dicom-truncated"),
        (b"\x40\0\x75\2SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" + bytes(4), "dicom-truncated"),
        (b"\xfe\xff\x0d\xe0\0\0\0\0" + bytes(8), "dicom-structure"),
        (b"\x10\0\x20\0LO\x02\0T1" * 2, "dicom-structure"),
    ],
    ids=[
        "empty", "longer than the file", "half a header", "pixels without items", "fragment of undefined length",
        "fragments without an end", "item without an end", "an end of nothing", "the same element twice",
    ],
)  # fmt: skip
def test_what_does_not_fit_has_a_name(raw: bytes, code: str) -> None:
    assert code_of(raw) == code


def test_zeros_behind_the_last_element_are_let_be() -> None:
    assert walk(encoded(instance()) + bytes(5)) == {PATIENT_ID: b"T1"}


def test_sequences_do_not_nest_without_end() -> None:
    sequence, item = b"\x40\0\x75\2SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    assert code_of((sequence + item) * 100_000) == "dicom-structure"


def test_elements_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "_MAX_ELEMENTS", 1000)
    assert code_of(b"\x08\0\x18\0UI\0\0" * 1001) == "dicom-too-many"


@pytest.mark.parametrize("levels", [1, 50])
def test_elements_are_counted_whichever_way_unknown_content_is_read(
    monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    """Each level is tried both ways: a count that began anew let 16 KB, deflated, cost half a minute."""
    monkeypatch.setattr(structure, "_MAX_ELEMENTS", 1000)
    unknown = b"\x09\0\x01\x10UN\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    assert code_of(unknown * levels + b"\x08\0\x18\0\0\0\0\0" * 1500) == "dicom-too-many"


def test_unknown_content_is_read_either_way() -> None:
    unknown = b"\x09\0\x01\x10UN\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    ends = b"\xfe\xff\x0d\xe0\0\0\0\0" + END
    tail = b"\x10\0\x20\0LO\x02\0T1"
    assert walk(unknown + b"\x08\0\0\1\x02\0\0\0AB" + ends + tail) == {PATIENT_ID: b"T1"}
    assert walk(unknown + b"\x08\0\0\1SH\x02\0AB" + ends + tail) == {PATIENT_ID: b"T1"}


def deflated(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(raw) + packer.flush()


def test_a_deflated_data_set_is_inflated_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = deflated(encoded(instance()))
    assert walk(raw + b"\0", DeflatedExplicitVRLittleEndian) == {PATIENT_ID: b"T1"}
    assert code_of(raw[:-9], DeflatedExplicitVRLittleEndian) == "dicom-truncated"
    assert code_of(b"\xff" * 50, DeflatedExplicitVRLittleEndian) == "dicom-structure"
    monkeypatch.setattr(structure, "MAX_INFLATED", 2**20)
    bomb = deflated(struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 2**22) + bytes(2**22))
    assert len(bomb) < 2**13
    assert code_of(bomb, DeflatedExplicitVRLittleEndian) == "dicom-deflate"


@given(st.binary(max_size=300), st.sampled_from([*NATIVE, DeflatedExplicitVRLittleEndian]))
def test_any_bytes_are_walked_or_refused(raw: bytes, syntax: str) -> None:
    assert outcome(raw, syntax) in {"", *REFUSALS}
