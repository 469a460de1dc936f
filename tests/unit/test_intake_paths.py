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


@pytest.mark.parametrize("nested", [False, True])
def test_the_image_of_a_disc_is_to_be_mounted_however_large_it_is(tmp_path: Path, nested: bool) -> None:
    image = tmp_path / "disc.iso"
    with image.open("wb") as file:
        file.seek(32768)
        file.write(b"\1CD001\1")
        file.truncate(2**16 if nested else 2**31 + 1)
    if nested:
        (skipped,) = [item for item in walk(tmp_path) if isinstance(item, Skipped)]
        assert skipped.code == "import-iso"
        return
    with pytest.raises(IntakeError) as why:
        list(walk(image))
    assert why.value.code == "import-iso"
    assert "mount it" in why.value.sentence


def test_a_hostile_index_leads_nowhere(disc: Path, tmp_path: Path) -> None:
    """Nothing is read where an index says: not outside of the disc, not in a circle, and not what is missing. Its own
    name and state do not matter.
    """
    index = (disc / "DICOMDIR").read_bytes()
    secret = tmp_path / "secret.dcm"
    secret.write_bytes(part10(instance(9)))
    outside = index.replace(b"77654033", b"..\\..\\..").replace(b"CR1", b"../")
    assert outside != index
    for name, content in {
        "DICOMDIR": outside, "dicomdir.1": outside[:5000], "INDEX": index[:132] + bytes(len(index)),
        "DICOMDIR.BAK": b"DICOMDIR" * 1000, "S2": index[:400] + b"\xff" * 4000,
    }.items():  # fmt: skip
        (disc / name).write_bytes(content)
    os.symlink(secret, disc / "LINK")
    items = list(walk(disc))
    assert [item.label[-6:] for item in items if isinstance(item, Found)] == [
        f"IM000{i}" for i in range(1, 5)
    ]
    skipped = {item.label: item.code for item in items if isinstance(item, Skipped)}
    assert skipped["DICOMDIR"] == "import-dicomdir"
    assert skipped["LINK"] == "import-link"
    assert skipped.keys() >= {"dicomdir.1", "INDEX", "DICOMDIR.BAK", "S2"}, "every one of them is listed"
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    assert len(stage_all(disc, incoming)[0]) == 4
