from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clients.gateway.dicom.header import read_header
from clients.gateway.errors import DiskFullError, IntakeError
from clients.gateway.intake import Found, Limits, Skipped, stage_all, walk
from tests.image_kit import BUNDLED, DEV, encoded, instance, part10, split


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A disc as a hospital makes it: images, an index, a viewer, a note, and one file without meta."""
    root = tmp_path / "disc"
    (root / "DICOM" / "S1").mkdir(parents=True)
    for i in range(1, 4):
        (root / "DICOM" / "S1" / f"IM{i:04}").write_bytes(part10(instance(i)))
    (root / "DICOM" / "S1" / "IM0004").write_bytes(encoded(instance(4)))
    (root / "DICOMDIR").write_bytes((BUNDLED / "dicomdirtests" / "DICOMDIR").read_bytes())
    (root / "VIEWER.EXE").write_bytes(b"MZ" + bytes(5000))
    (root / "README.TXT").write_text("Patient DOE JANE, born 1970")
    (root / "EMPTY").touch()
    (root / "MORE.ZIP").write_bytes(b"PK\3\4" + bytes(60))
    return root


REST = {
    "DICOMDIR": "import-dicomdir",
    "VIEWER.EXE": "import-not-dicom",
    "README.TXT": "import-not-dicom",
    "EMPTY": "import-empty",
    "MORE.ZIP": "import-zip-nested",
}


def zipped(root: Path) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, str(file.relative_to(root)))
    return path


def test_a_disc_as_a_folder_and_as_a_zip(disc: Path, tmp_path: Path) -> None:
    for source in (disc, zipped(disc)):
        items = list(walk(source))
        assert [item.index for item in items] == list(range(1, 10))
        found = [item for item in items if isinstance(item, Found)]
        assert [item.label[-6:] for item in found] == ["IM0001", "IM0002", "IM0003", "IM0004"]
        assert {item.label: item.code for item in items if isinstance(item, Skipped)} == REST
        incoming = tmp_path / f"incoming-{source.suffix}"
        incoming.mkdir()
        staged, skipped = stage_all(source, incoming)
        assert dict(skipped) == REST
        assert sorted(incoming.iterdir()) == sorted(staged)
        assert [read_header(path).sop_uid for path in staged] == [f"2.25.1000{i}" for i in range(1, 5)]
        for i, path in enumerate(staged, 1):
            assert path.read_bytes().endswith(encoded(instance(i)))


def test_one_file_and_a_link_that_staff_gave(disc: Path, tmp_path: Path) -> None:
    file = disc / "DICOM" / "S1" / "IM0001"
    link = tmp_path / "link"
    link.symlink_to(file)
    for path in (file, link):
        (item,) = walk(path)
        assert isinstance(item, Found)
        assert item.meta.sop_uid == "2.25.10001"


@pytest.mark.parametrize(
    ("name", "code"),
    [("nowhere", "import-absent"), ("pipe", "import-not-file"), ("cut.zip", "import-zip-broken")],
)
def test_nothing_to_walk(tmp_path: Path, name: str, code: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(IntakeError) as caught:
        stage_all(tmp_path / name, tmp_path)
    assert caught.value.code == code
    assert str(tmp_path) not in str(caught.value)


def test_an_empty_folder_is_nothing(tmp_path: Path) -> None:
    assert stage_all(tmp_path, tmp_path) == ([], [])


def test_the_import_as_a_whole_is_bounded(disc: Path) -> None:
    size = (disc / "DICOM" / "S1" / "IM0001").stat().st_size
    items = list(walk(disc / "DICOM", Limits(total_bytes=2 * size)))
    assert [type(item) for item in items] == [Found, Found, Skipped]
    assert isinstance(items[-1], Skipped)
    assert items[-1].code == "import-too-much"


def test_a_full_disk_takes_the_whole_import_back(
    disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    real, left = os.writev, [2]

    def full(*args: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "full")
        return real(*args)

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(DiskFullError):
        stage_all(disc, incoming)
    assert list(incoming.iterdir()) == []


def test_damage_in_a_zip_costs_one_file(disc: Path, tmp_path: Path) -> None:
    path = zipped(disc)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"IM0002")
    raw[at + 400] ^= 0xFF
    path.write_bytes(raw)
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    staged, skipped = stage_all(path, incoming)
    assert len(staged) == 3
    assert [name for name, code in skipped if code == "import-zip-damaged"] == ["DICOM/S1/IM0002"]


def test_every_real_file_keeps_its_data_set(tmp_path: Path) -> None:
    for root in (BUNDLED, DEV):
        if not root.is_dir():
            continue
        count = 0
        for item in walk(root):
            if isinstance(item, Skipped):
                assert item.sentence
                continue
            (path,) = [p for p in root.rglob(item.label.rsplit("/", 1)[-1]) if str(p).endswith(item.label)][
                :1
            ]
            parts = split(path.read_bytes())
            assert (
                item.meta.data_offset == 0
                or parts is None
                or item.head[item.meta.data_offset :][:64] == parts[0][:64]
            )
            count += 1
        assert count > 100
