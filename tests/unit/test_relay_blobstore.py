"""What every `BlobStore` must do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.blobstore import BlobName, BlobStore
from relay.errors import AbsentError, DiskError
from relay.files import FileBlobs
from relay.memory import MemoryBlobs
from transfer.encoding import sha256
from transfer.ids import Cid, Digest

C = Cid(bytes(16))


def name(n: int, body: bytes, cid: Cid = C) -> BlobName:
    return BlobName(cid, n, Digest(sha256(body)))


@pytest.fixture(params=["files", "memory"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    made: BlobStore = FileBlobs(tmp_path / "packs") if request.param == "files" else MemoryBlobs(2**20)
    await made.open()
    yield made
    await made.close()


async def test_what_was_put_is_read_in_any_part(blobs: BlobStore) -> None:
    chunks = [os.urandom(i) for i in (1, 1000, 0, 65536)]
    body = b"".join(chunks)
    await blobs.put(name(0, body), chunks)
    assert await blobs.read(name(0, body), 0, len(body)) == body
    assert await blobs.read(name(0, body), 900, 200) == body[900:1100]
    assert await blobs.read(name(0, body), len(body) - 5, 100) == body[-5:]


async def test_the_same_again_is_no_error_and_other_bytes_are_another_blob(blobs: BlobStore) -> None:
    for body in (b"a", b"a", b"b"):
        await blobs.put(name(0, body), [body])
    assert await blobs.read(name(0, b"a"), 0, 9) == b"a"
    assert await blobs.read(name(0, b"b"), 0, 9) == b"b"
    await blobs.drop(name(0, b"b"))
    await blobs.drop(name(0, b"b"))
    with pytest.raises(AbsentError):
        await blobs.read(name(0, b"b"), 0, 9)
    assert await blobs.read(name(0, b"a"), 0, 9) == b"a"


async def test_a_content_id_is_erased_whole(blobs: BlobStore) -> None:
    other = Cid(b"\1" * 16)
    for n in range(3):
        await blobs.put(name(n, b"x"), [b"x"])
    await blobs.put(name(0, b"x", other), [b"x"])
    assert set(await blobs.cids()) == {C, other}
    await blobs.erase(C)
    await blobs.erase(C)
    assert set(await blobs.cids()) == {other}
    with pytest.raises(AbsentError):
        await blobs.read(name(0, b"x"), 0, 9)
    await blobs.put(name(0, b"x"), [b"x"])
    assert await blobs.read(name(0, b"x"), 0, 9) == b"x"


async def test_no_room_keeps_nothing(tmp_path: Path) -> None:
    for blobs in (MemoryBlobs(10), FileBlobs(tmp_path, reserve=2**60)):
        await blobs.open()
        with pytest.raises(DiskError):
            await blobs.put(name(0, bytes(11)), [bytes(11)])
        with pytest.raises(AbsentError):
            await blobs.read(name(0, bytes(11)), 0, 11)
        await blobs.close()


def test_a_blobs_file_name_is_made_of_typed_values_only() -> None:
    assert name(7, b"x").file == "7-" + sha256(b"x").hex()
