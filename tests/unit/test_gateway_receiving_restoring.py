"""`clients.gateway.receiving.restoring`: the original or nothing, and under another identity in one write."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
import pytest

from clients.gateway.dicom.coercion import Change, Local, rest_hash
from clients.gateway.errors import IntakeError
from clients.gateway.receiving import restoring
from clients.gateway.receiving.restoring import file_under, restore
from tests.dicom_kit import data_set, encoded, instance
from transfer.errors import HashError
from transfer.ids import Digest
from transfer.messages import ItemEntry

SYNTAX = "1.2.840.10008.1.2.1"
DS = instance(PatientID="4711", IssuerOfPatientID="VALLEY", PixelData=bytes(1000))
DATA = encoded(DS)
CHANGE = Change(
    local=Local(patient_id="900", issuer="HERE"), system="US", source="V", at="20261124140000+0000"
)


def entry(data: bytes = DATA) -> ItemEntry:
    digest = Digest(hashlib.sha256(data).digest())
    return ItemEntry(0, 0, DS.SOPClassUID, DS.SOPInstanceUID, SYNTAX, "raw", 0, len(data), len(data), digest)


def test_the_original_is_written_as_it_was(tmp_path: Path) -> None:
    header = restore(entry(), DATA, tmp_path / "0.dcm")
    assert header is not None
    assert (header.patient_id, header.issuer, data_set(tmp_path / "0.dcm")) == ("4711", "VALLEY", DATA)


def test_with_a_change_it_is_written_once_and_the_header_is_the_originals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file as by way of the original, which is never written: what the header says is held to the patient."""
    plain = restore(entry(), DATA, tmp_path / "plain.dcm")
    assert plain is not None
    assert file_under(entry(), tmp_path / "plain.dcm", plain.data_offset, CHANGE)
    written = list[bytes]()
    write = restoring.write_part10
    monkeypatch.setattr(
        restoring, "write_part10", lambda path, data, *uids: written.append(data) or write(path, data, *uids)
    )
    assert restore(entry(), DATA, tmp_path / "0.dcm", CHANGE) == plain
    assert len(written) == 1
    assert (tmp_path / "0.dcm").read_bytes() == (tmp_path / "plain.dcm").read_bytes()
    assert pydicom.dcmread(tmp_path / "0.dcm").PatientID == "900"
    assert rest_hash(written[0], SYNTAX) == rest_hash(DATA, SYNTAX)


@pytest.mark.parametrize("change", [None, CHANGE])
def test_other_bytes_than_the_signed_ones_and_no_image_are_no_file(
    tmp_path: Path, change: Change | None
) -> None:
    with pytest.raises(HashError):
        restore(entry(), DATA[:-1] + b"x", tmp_path / "0.dcm", change)
    broken = DATA[:-3]
    with pytest.raises(IntakeError):
        restore(entry(broken), broken, tmp_path / "0.dcm", change)
    assert not list(tmp_path.iterdir())


def test_a_change_that_touches_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "coerce", lambda data, *_: [data[:-1], b"x"])
    with pytest.raises(HashError):
        restore(entry(), DATA, tmp_path / "0.dcm", CHANGE)
    assert not list(tmp_path.iterdir())
