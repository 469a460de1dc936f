from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from clients.gateway.dicom.header import read_header
from clients.gateway.errors import DiskFullError, IntakeError
from clients.gateway.intake import Found, stage
from clients.gateway.intake.recognise import HEAD, recognise
from tests.image_kit import BUNDLED, EXPLICIT, IMPLICIT, encoded, instance, part10


def found(content: bytes, claimed: int | None = None) -> Found:
    stream = io.BytesIO(content)
    head = stream.read(HEAD)
    return Found(1, "x", claimed or len(content), recognise(head), head, stream)


def test_the_data_set_is_exact_and_the_meta_is_ours(tmp_path: Path) -> None:
    content = part10(instance())
    staged = stage(found(content), tmp_path)
    raw = staged.path.read_bytes()
    assert raw[staged.data_offset :] == encoded(instance())
    assert staged.size == len(encoded(instance()))
    assert b"SOMEBODY_ELSE" not in raw
    assert b"not ours" not in raw
    header = read_header(staged.path)
    assert (header.sop_uid, header.syntax, header.data_offset) == ("2.25.10001", EXPLICIT, staged.data_offset)


def test_the_name_is_our_own_and_the_file_is_private(tmp_path: Path) -> None:
    staged = stage(found(part10(instance())), tmp_path)
    assert staged.path.parent == tmp_path
    assert staged.path.suffix == ".dcm"
    assert len(bytes.fromhex(staged.path.stem)) == 16
    assert staged.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_bare_data_set_becomes_a_file(tmp_path: Path, syntax: str) -> None:
    data = encoded(instance(), syntax)
    staged = stage(found(data), tmp_path)
    assert staged.path.read_bytes()[staged.data_offset :] == data
    assert read_header(staged.path).syntax == syntax


def test_a_file_larger_than_its_head_and_than_a_chunk(tmp_path: Path) -> None:
    ds = instance()
    ds.add_new(0x7FE1_0010, "LO", "TEST")
    ds.add_new(0x7FE1_1001, "OB", os.urandom(3_000_000))
    content = part10(ds)
    staged = stage(found(content), tmp_path)
    assert staged.path.read_bytes().endswith(content[-2_999_000:])
    assert staged.path.stat().st_size == staged.data_offset + staged.size


def test_bare_fragments_have_no_syntax(tmp_path: Path) -> None:
    jpeg = (BUNDLED / "SC_rgb_jpeg_dcmtk.dcm").read_bytes()
    with pytest.raises(IntakeError) as caught:
        stage(found(jpeg[144 + int.from_bytes(jpeg[140:144], "little") :]), tmp_path)
    assert caught.value.code == "import-syntax"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    content = part10(instance())
    with pytest.raises(IntakeError) as caught:
        stage(found(content, len(content) + 1), tmp_path)
    assert caught.value.code == "import-unreadable"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["writev", "fsync", "rename"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, full: int
) -> None:
    def no(*_: Any) -> int:
        raise OSError(full, "full")

    monkeypatch.setattr(os, call, no)
    with pytest.raises(DiskFullError) as caught:
        stage(found(part10(instance())), tmp_path)
    assert caught.value.code == "disk-full"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_nearly_full_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        f_bavail, f_frsize = 1000, 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    with pytest.raises(DiskFullError):
        stage(found(part10(instance())), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_error_passes_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "fsync", no)
    with pytest.raises(PermissionError):
        stage(found(part10(instance())), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_steps_is_the_durable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for call in ("writev", "fsync", "rename"):
        real = getattr(os, call)

        def noted(*args: Any, _real: Any = real, _call: str = call) -> Any:
            steps.append(_call)
            return _real(*args)

        monkeypatch.setattr(os, call, noted)
    stage(found(part10(instance())), tmp_path)
    assert steps == ["writev", "fsync", "rename", "fsync"]
