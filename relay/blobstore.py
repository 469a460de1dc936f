"""Where the packs' bytes are: the seam `BlobStore`.

A blob is named by its content id, its number and the SHA-256 of its bytes, so a name never means two things,
and two uploads of the same pack can meet without harm. Which blob *is* pack n, the `MetaStore` says: a blob
without a row was never acknowledged and goes with its content id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from transfer.ids import Cid, Digest


class BlobName(msgspec.Struct, frozen=True):
    """One blob. Its texts are made from typed values only; nothing that a caller wrote becomes a path."""

    cid: Cid
    n: int
    digest: Digest

    @property
    def file(self) -> str:
        """A plain file name."""
        return f"{self.n}-{self.digest.hex()}"


class BlobStore(Protocol):
    """Create once, read any part, delete."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def put(self, name: BlobName, chunks: Sequence[bytes]) -> None:
        """Whole and durable when it returns; the same again is no error. `DiskError`: then nothing is kept."""

    async def read(self, name: BlobName, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`. `AbsentError`."""

    async def drop(self, name: BlobName) -> None:
        """Deletes one blob that lost a race for its number."""

    async def broken(self, names: Mapping[BlobName, int]) -> list[BlobName]:
        """Those of `names` that are not there, or not as large as it says."""

    async def erase(self, cid: Cid) -> None:
        """Deletes all blobs of a content id; none is no error."""

    async def room(self) -> int:
        """Bytes that packs may still take; 0 or less once the reserve is touched. `DiskError`: nobody can say."""

    async def cids(self) -> list[Cid]:
        """All content ids that have, or may have, blobs."""
