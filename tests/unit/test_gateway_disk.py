"""`clients.gateway.disk`: a file is whole, or not there, and a full disk has a name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.gateway.disk import write_durably
from clients.gateway.errors import DiskFullError
from tests.faults import disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with disks.small_disk(tmp_path / "small", "1m") as disk:
        yield disk.folder


def test_a_full_disk_has_a_name_and_makes_no_half_file_of_that_name(small_disk: Path) -> None:
    write_durably(small_disk / "0", bytes(500_000))
    with pytest.raises(DiskFullError):
        write_durably(small_disk / "1", bytes(700_000))
    assert not (small_disk / "1").exists()
    write_durably(small_disk / "1", bytes(300_000))
    assert sorted(p.name for p in small_disk.iterdir()) == ["0", "1"]


def test_a_folder_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "gone" / "0", b"x")
