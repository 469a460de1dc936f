"""Rows and files are brought together over every pair of stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay import reconcile as module
from relay.blobstore import BlobName, BlobStore
from relay.config import Quota
from relay.errors import QuotaError
from relay.files import FileBlobs
from relay.memory import MemoryBlobs, MemoryMeta
from relay.metastore import MetaStore, Pack, Site
from relay.reconcile import reconcile
from relay.sqlite import SqliteMeta
from transfer.encoding import sha256
from transfer.ids import Cid, Digest, SiteId

NOW = 1_795_000_000
S = SiteId(b"\1" * 32)
A, B = Cid(b"\1" * 16), Cid(b"\2" * 16)
BODY = b"x" * 100
DIGEST = Digest(sha256(BODY))
Stores = tuple[MetaStore, BlobStore]


@pytest.fixture(params=["disk", "memory"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Seven packs in each of two content ids, in turn; the quota holds exactly these."""
    quota = Quota(site_bytes=14 * len(BODY))
    meta: MetaStore = MemoryMeta(quota, lambda: NOW)
    blobs: BlobStore = MemoryBlobs()
    if request.param == "disk":
        meta, blobs = SqliteMeta(tmp_path / "relay.db", quota, lambda: NOW), FileBlobs(tmp_path / "packs")
    await meta.open()
    await blobs.open()
    await meta.enroll(Site(S, "", "", NOW))
    for cid in (A, B):
        await meta.own(cid, S, NOW)
    for n in range(7):
        for cid in (A, B):
            await put(meta, blobs, cid, n)
    yield meta, blobs
    await blobs.close()
    await meta.close()


async def put(meta: MetaStore, blobs: BlobStore, cid: Cid, n: int) -> None:
    await blobs.put(BlobName(cid, n, DIGEST), [BODY])
    await meta.add_pack(cid, S, Pack(n, "D", len(BODY), DIGEST, 0))


async def numbers(meta: MetaStore, cid: Cid) -> list[int]:
    return [pack.n for pack in await meta.packs(cid, S, 0, 100)]


async def test_what_agrees_stays(stores: Stores) -> None:
    meta, blobs = stores
    before = await meta.every_pack(0, 100)
    assert await reconcile(meta, blobs) == 0
    assert await meta.every_pack(0, 100) == before


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_rows_without_a_file_go_and_their_room_comes_back(
    stores: Stores, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", page)
    meta, blobs = stores
    for cid, n in ((A, 0), (A, 6), (B, 3)):
        await blobs.drop(BlobName(cid, n, DIGEST))
    assert await reconcile(meta, blobs) == 3
    assert await numbers(meta, A) == [1, 2, 3, 4, 5]
    assert await numbers(meta, B) == [0, 1, 2, 4, 5, 6]
    assert (await meta.counts()).bytes == 11 * len(BODY)
    for cid, n in ((A, 0), (A, 6), (B, 3)):
        await put(meta, blobs, cid, n)
    with pytest.raises(QuotaError):
        await put(meta, blobs, A, 99)
    assert await reconcile(meta, blobs) == 0
    assert (await meta.counts()).packs == 14


async def test_a_whole_folder_that_is_lost(stores: Stores) -> None:
    meta, blobs = stores
    await blobs.erase(A)
    assert await reconcile(meta, blobs) == 7
    assert await numbers(meta, A) == []
    assert len(await numbers(meta, B)) == 7
    await meta.forget_packs(A, [0, 1])
    assert (await meta.counts()).bytes == 7 * len(BODY)


async def test_a_file_of_another_size_is_no_pack(tmp_path: Path) -> None:
    """And the same pack put again replaces it."""
    meta, blobs = SqliteMeta(tmp_path / "relay.db", Quota(), lambda: NOW), FileBlobs(tmp_path / "packs")
    await meta.open()
    await blobs.open()
    await meta.enroll(Site(S, "", "", NOW))
    await meta.own(A, S, NOW)
    await put(meta, blobs, A, 0)
    (file,) = (tmp_path / "packs" / A.hex()).iterdir()
    file.write_bytes(BODY[:50])
    assert await reconcile(meta, blobs) == 1
    await put(meta, blobs, A, 0)
    assert await blobs.read(BlobName(A, 0, DIGEST), 0, 1000) == BODY
    assert await reconcile(meta, blobs) == 0
    await blobs.close()
    await meta.close()
