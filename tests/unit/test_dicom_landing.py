from __future__ import annotations

import errno
import io
import os
import zlib
from pathlib import Path

import pydicom
import pytest

from clients.gateway.dicom import landing
from clients.gateway.dicom.berths import SEAL, seal
from clients.gateway.dicom.landing import Announced, Folder, Landing
from clients.gateway.dicom.upper_layer import TooLongError
from clients.gateway.errors import IntakeError
from tests.dicom_kit import data_set, encoded, instance

CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
DS = instance(PixelData=os.urandom(128))
BODY = encoded(DS)


def folder(path: Path, *, min_free: int = 0, most: int = 2**20) -> Folder:
    return Folder(path / "incoming", min_free, most)


def landed(where: Folder, body: bytes = BODY, uid: str = DS.SOPInstanceUID, step: int = 100) -> Landing:
    sink = Landing(where, lambda: Announced(CT, uid, LITTLE))
    for at in range(0, len(body), step):
        assert sink.write(memoryview(body)[at : at + step]) == len(body[at : at + step])
    return sink


def held(where: Folder) -> list[Path]:
    """Every file that holds something; names that wait are empty."""
    return [p for p in where.path.rglob("*") if p.is_file() and p.stat().st_size]


def refused(sink: Landing) -> str:
    try:
        sink.check()
        sink.settle()
    except IntakeError as why:
        return why.code
    return ""


def test_fragments_become_one_file_with_the_same_bytes(tmp_path: Path) -> None:
    where = folder(tmp_path)
    sink = landed(where)
    assert [p.suffix for p in held(where)] == [""]
    sink.check()
    name = sink.settle()
    (path,) = held(where)
    assert path == where.path / name
    assert path.suffix == ".dcm"
    assert data_set(path) == BODY
    assert path.read_bytes()[sink.meta.data_offset :] == BODY
    assert pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID == DS.SOPInstanceUID
    sink.discard()
    assert path.exists()
    assert DS.SOPInstanceUID not in name


def test_the_disks_margin_is_looked_at_while_an_instance_grows(tmp_path: Path) -> None:
    """Twenty large ones that began when there was room must not leave the gateway's database without any."""
    free = os.statvfs(tmp_path)
    where = folder(tmp_path, most=2**30)
    piece = bytes(2**20)
    sink = Landing(where, lambda: Announced(CT, DS.SOPInstanceUID, LITTLE))
    for _ in range(6):
        sink.write(piece)
    assert len(held(where)) == 1
    where.min_free = (
        free.f_blocks * free.f_frsize + 1
    )  # more than the disk has: what others write counts as well
    for _ in range(4):
        sink.write(piece)
    assert held(where) == []
    assert refused(sink) == "disk-full"


def test_a_data_set_of_another_instance_or_half_of_one_is_refused(tmp_path: Path) -> None:
    where = folder(tmp_path)
    for sink, code in (
        (landed(where, uid="1.2.3"), "dicom-uid-mismatch"),
        (landed(where, BODY[:-1]), "dicom-truncated"),
        (Landing(where, lambda: Announced(CT, "1.2.3", LITTLE)), "dicom-truncated"),
    ):
        assert refused(sink) == code
        sink.discard()
    assert held(where) == []


def test_an_endless_data_set_is_given_up_and_then_ended(tmp_path: Path) -> None:
    where = folder(tmp_path, most=1000)
    sink = Landing(where, lambda: Announced(CT, "1.2.3", LITTLE))
    sink.write(bytes(1000))
    assert len(held(where)) == 1
    sink.write(bytes(1))
    assert held(where) == []
    with pytest.raises(TooLongError):
        sink.write(bytes(1000))
    assert refused(sink) == "dicom-too-large"


def test_a_disk_below_its_margin_takes_nothing(tmp_path: Path) -> None:
    where = folder(tmp_path, min_free=2**60)
    assert refused(landed(where)) == "disk-full"
    assert held(where) == []


@pytest.mark.parametrize("step", ["write_all", "take", "pwrite", "force", "rename"])
@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk-full"), (errno.EDQUOT, "disk-full"), (errno.EIO, "dicom-unreadable")],
)
def test_a_disk_that_fails_at_any_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, code: str
) -> None:
    where = folder(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "")

    if step == "take":
        monkeypatch.setattr(where.berths, step, fail)
    else:
        monkeypatch.setattr(os if step in ("pwrite", "rename") else landing, step, fail)
    sink = landed(where)
    assert refused(sink) == code
    assert held(where) == []


def test_what_an_earlier_life_left_is_kept_where_it_was_sealed(tmp_path: Path) -> None:
    """And the half of an import that somebody else is writing is none of its business: once it was deleted under it."""
    (tmp_path / "incoming" / ".landing-0").mkdir(parents=True)
    (tmp_path / "incoming" / ".landing-0" / "half").write_bytes(BODY)
    (tmp_path / "incoming" / "import.part").write_bytes(b"half")
    where = folder(tmp_path)
    sink = landed(where)
    assert where.sweep() == (0, 1)
    sink.check()
    name = sink.settle()
    assert {p.name for p in held(where)} == {name, "import.part"}
    where.close()
    assert {p.name for p in where.path.iterdir()} == {name, "import.part"}


def test_the_seal_is_of_the_whole_file(tmp_path: Path) -> None:
    """In any fragments, and with the disk at work from the first 128 KiB."""
    body = encoded(instance(PixelData=os.urandom(700_000)))
    uid = pydicom.dcmread(io.BytesIO(body), force=True).SOPInstanceUID
    for step in (5000, 131_066, len(body)):
        where = folder(tmp_path / str(step))
        sink = landed(where, body, uid, step)
        sink.check()
        path = where.path / sink.settle()
        raw = path.read_bytes()
        assert raw[:SEAL] == seal(len(raw), zlib.crc32(raw[SEAL:]))
