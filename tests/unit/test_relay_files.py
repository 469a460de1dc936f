"""`FileBlobs` where it is about files: what a crash leaves, what lies there of others, who may read."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from relay import files
from relay.blobstore import BlobName
from relay.errors import GoneError
from relay.files import FileBlobs
from transfer.encoding import sha256
from transfer.ids import Cid, Digest

C = Cid(bytes(16))


def name(body: bytes, n: int = 0) -> BlobName:
    return BlobName(C, n, Digest(sha256(body)))


async def test_what_a_crash_left_half_is_cleared_and_the_whole_stays(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    await blobs.open()
    await blobs.put(name(b"whole"), [b"whole"])
    await blobs.close()
    (tmp_path / "new" / "half").write_bytes(b"ha")
    (tmp_path / "lost+found").mkdir()
    again = FileBlobs(tmp_path)
    await again.open()
    assert list((tmp_path / "new").iterdir()) == []
    assert await again.cids() == [C]
    assert await again.read(name(b"whole"), 0, 9) == b"whole"
    await again.close()


async def test_nothing_half_lies_about_and_nobody_else_may_read(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "packs")
    await blobs.open()
    await asyncio.gather(*(blobs.put(name(b"same"), [b"sa", b"me"]) for _ in range(8)))
    assert list((tmp_path / "packs" / "new").iterdir()) == []
    (kept,) = (tmp_path / "packs" / C.hex()).iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_nlink == 1
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    await blobs.close()


async def test_a_put_into_what_was_just_erased_says_so(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    await blobs.open()
    await blobs.put(name(b"x"), [b"x"])
    (tmp_path / C.hex() / name(b"x").file).unlink()
    (tmp_path / C.hex()).rmdir()
    with pytest.raises(GoneError):
        await blobs.put(name(b"y", 1), [b"y"])
    assert list((tmp_path / "new").iterdir()) == []
    await blobs.close()


async def test_an_error_of_the_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FileBlobs(tmp_path)
    await blobs.open()

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        await blobs.put(name(b"x"), [b"x"])
    assert list((tmp_path / "new").iterdir()) == []
    assert await blobs.cids() == []
    await blobs.close()


def test_parts_that_the_disk_takes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def few(fd: int, chunks: list[bytes | memoryview]) -> int:
        return real(fd, b"".join(chunks)[:3])

    monkeypatch.setattr(os, "writev", few)
    files._write_file(tmp_path / "f", [b"ab", b"", b"cdefgh", b"i"])
    assert (tmp_path / "f").read_bytes() == b"abcdefghi"


def test_more_chunks_than_one_call_takes(tmp_path: Path) -> None:
    chunks = [bytes([i % 256]) for i in range(3000)]
    files._write_file(tmp_path / "f", chunks)
    assert (tmp_path / "f").read_bytes() == b"".join(chunks)
