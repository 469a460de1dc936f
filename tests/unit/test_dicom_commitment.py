"""`clients.gateway.dicom.commitment`: the two data sets."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from clients.gateway.dicom.commitment import MAX_REPORT, MOST, Report, encode_request, read_report
from clients.gateway.errors import IntakeError

CT = "1.2.840.10008.5.1.4.1.1.2"


def report(
    transaction: str, safe: list[str], failed: list[tuple[str, int | None]], *, implicit: bool = True
) -> bytes:
    ds = Dataset()
    ds.TransactionUID = transaction
    ds.ReferencedSOPSequence = Sequence([_item(uid, None) for uid in safe])
    if failed:
        ds.FailedSOPSequence = Sequence([_item(uid, reason) for uid, reason in failed])
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, ds)
    return buffer.getvalue()


def _item(uid: str, reason: int | None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
    if reason is not None:
        item.FailureReason = reason
    return item


def test_a_request() -> None:
    references = [(CT, f"1.2.{i}") for i in range(MOST)]
    data = encode_request("2.25.7", references)
    assert len(data) < MAX_REPORT
    ds = read_dataset(io.BytesIO(data), True, True)
    assert ds.TransactionUID == "2.25.7"
    found = [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in ds.ReferencedSOPSequence]
    assert found == references


@pytest.mark.parametrize("implicit", [True, False])
def test_a_report(implicit: bool) -> None:
    data = report("2.25.7", ["1.2.3"], [("1.2.4", 0x0112), ("1.2.5", None)], implicit=implicit)
    found = read_report(2, data, implicit=implicit)
    assert found == Report("2.25.7", ["1.2.3"], [("1.2.4", 0x0112), ("1.2.5", 0x0110)])
    assert read_report(1, report("2.25.7", [], [], implicit=implicit), implicit=implicit) == Report(
        "2.25.7", [], []
    )


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    ("event", "data"),
    [
        (0, report("2.25.7", [], [])), (3, report("2.25.7", [], [])), (1, b""), (1, b"\0" * 40),
        (1, report("2.25.7", [], [])[8:]), (1, report("2.25.7", [], []).replace(b"2.25.7", b"2.25/7")),
        (1, report("2.25.7", ["1.2.345"], []).replace(b"1.2.345", b"../../x")),
        (1, report("2.25.7", ["1.2"] * (2 * MOST + 1), [])), (1, report("2.25.7", ["1.2"] * 5000, [])),
    ],
)  # fmt: skip
def test_what_is_no_report(event: int, data: bytes) -> None:
    with pytest.raises(IntakeError):
        read_report(event, data, implicit=True)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@given(st.binary(max_size=300), st.integers(0, 300), st.booleans())
def test_any_bytes_are_named(noise: bytes, at: int, implicit: bool) -> None:
    good = report("2.25.7", ["1.2.3"], [("1.2.4", 1)], implicit=implicit)
    for data in (noise, good[:at] + noise + good[at:], good[:at]):
        try:
            read_report(2, data, implicit=implicit)
        except IntakeError:
            pass
