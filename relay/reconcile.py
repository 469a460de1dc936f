"""Makes the database and the packs' folder agree, before the relay takes its first call.

In normal life they cannot part: a pack's bytes are durable before its row, and rows go before bytes. They do
after an operator put an older copy of either back. Then

- a row without its whole file is forgotten, so that nobody is told of a pack that cannot be read, and its
  sender, who repeats what was not confirmed end to end, may put it again;
- a file without a row stays, if its content id is alive: the same pack put again finds it;
- a folder that no row knows is erased *now*: once calls come in, its content id may be used again.

Every row is looked at on each start: about ten seconds for a million packs.
"""

from __future__ import annotations

from collections import defaultdict

from relay.blobstore import BlobName, BlobStore
from relay.metastore import MetaStore
from transfer.ids import Cid

PAGE = 1_000
"""Rows looked at together."""


async def reconcile(meta: MetaStore, blobs: BlobStore) -> int:
    """How many packs were forgotten."""
    after = forgotten = 0
    while page := await meta.every_pack(after, PAGE):
        after = page[-1][1].arrival
        names = {BlobName(cid, pack.n, pack.digest): pack.size for cid, pack in page}
        broken: dict[Cid, list[int]] = defaultdict(list)
        for name in await blobs.broken(names):
            broken[name.cid].append(name.n)
        for cid, numbers in broken.items():
            await meta.forget_packs(cid, numbers)
            forgotten += len(numbers)
    return forgotten
