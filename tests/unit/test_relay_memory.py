"""The stores without a disk are stores: their behaviour is tested with the real ones'
(test_relay_metastore.py, test_relay_blobstore.py). Here: that they satisfy the seams."""

from __future__ import annotations

from relay.blobstore import BlobStore
from relay.config import Quota
from relay.memory import MemoryBlobs, MemoryMeta
from relay.metastore import MetaStore


async def test_they_fit_the_seams() -> None:
    meta: MetaStore = MemoryMeta(Quota(), lambda: 0)
    blobs: BlobStore = MemoryBlobs()
    await meta.open()
    await blobs.open()
    assert await blobs.cids() == []
    assert await meta.doomed(1) == []
    await blobs.close()
    await meta.close()
