from __future__ import annotations

import contextlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import split_dataset

from clients.gateway.dicom.part10 import PREAMBLE, encode_meta, is_uid, read_meta, write_part10
from clients.gateway.errors import IntakeError
from tests.dicom_kit import encoded, instance, sendable

CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def code_of(raw: bytes) -> str:
    with pytest.raises(IntakeError) as caught:
        read_meta(lambda at, n: raw[at : at + n])
    return caught.value.code


def test_a_written_file_is_read_by_pydicom_and_by_us(tmp_path: Path) -> None:
    ds = instance()
    body = encoded(ds)
    path = tmp_path / "a.dcm"
    offset = write_part10(path, body, CT, ds.SOPInstanceUID, LITTLE)
    raw = path.read_bytes()
    assert raw[offset:] == body
    back = pydicom.dcmread(path)
    assert back.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert back.file_meta.FileMetaInformationGroupLength == offset - len(PREAMBLE) - 12
    assert back.PatientID == "T1"
    meta = read_meta(lambda at, n: raw[at : at + n])
    assert (meta.sop_class, meta.sop_uid, meta.syntax) == (CT, ds.SOPInstanceUID, LITTLE)
    assert meta.data_offset == offset
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_data_set_of_real_files_begins_where_pynetdicom_says() -> None:
    files = sendable()
    assert len(files) > 80
    for path in files:
        raw = path.read_bytes()
        assert read_meta(lambda at, n, raw=raw: raw[at : at + n]).data_offset == split_dataset(path)[1]


def test_a_uid_from_outside_never_gets_into_a_file_unchecked(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    for uid in ("../../x", "", "1.2\0", "1" * 65, "1..2", "1.2.", ".1", "1.2\n", "１.2"):
        assert not is_uid(uid)
        with pytest.raises(IntakeError) as caught:
            write_part10(path, b"", CT, uid, LITTLE)
        assert caught.value.code == "dicom-uid"
    assert not path.exists()
    assert is_uid("1.2.840.10008.1.1")
    assert is_uid("1.02.3")  # against the rules, and common


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "dicom-not"),
        (b"%PDF-1.7" + bytes(2000), "dicom-not"),
        (bytes(128) + b"DICX", "dicom-not"),
        (PREAMBLE, "dicom-meta"),
        (encode_meta(CT, "1.2.3", LITTLE)[:-20], "dicom-meta"),
        (encode_meta(CT, "1.2.3", LITTLE)[:150], "dicom-meta"),
        (PREAMBLE + b"\2\0\x10\0UI\0\0" + bytes(4), "dicom-meta"),
        (PREAMBLE + b"\2\0\x10\0\1\2\0\0" + bytes(4), "dicom-meta"),
        (encode_meta(CT, "../..", LITTLE), "dicom-uid"),
        (encode_meta("x", "1.2.3", LITTLE), "dicom-uid"),
    ],
)
def test_broken_meta_has_a_name(raw: bytes, code: str) -> None:
    assert code_of(raw) == code


@given(st.binary(max_size=400))
def test_anything_behind_the_preamble_is_read_or_refused(tail: bytes) -> None:
    raw = PREAMBLE + tail
    with contextlib.suppress(IntakeError):
        read_meta(lambda at, n: raw[at : at + n])


def test_a_meta_group_length_that_lies_is_not_believed() -> None:
    raw = bytearray(encode_meta(CT, "1.2.3", LITTLE) + encoded(instance()))
    raw[140:144] = b"\xff\xff\xff\xff"
    assert read_meta(lambda at, n: bytes(raw[at : at + n])).data_offset == len(
        encode_meta(CT, "1.2.3", LITTLE)
    )
    assert pydicom.dcmread(BytesIO(encode_meta(CT, "1.2.3", LITTLE) + encoded(instance()))).Modality == "CT"
