"""Forgets what has run out, and deletes the bytes of what is gone.

A content id that is deleted is *gone* at once, by its row; its files follow here. A crash in between leaves
it `doomed`, and the next round goes on. Folders that no row knows (a crash in the middle of the first pack)
are found at start and once an hour.
"""

from __future__ import annotations

import asyncio
from typing import Any

from relay.blobstore import BlobStore
from relay.clock import Clock
from relay.errors import RelayError
from relay.log import place_of
from relay.metastore import MetaStore

EVERY = 60
"""Seconds from round to round."""
STRAYS_EVERY = 60
"""Rounds from look to look for folders that no row knows."""
MOST = 500
"""Rows of each kind in one transaction, so that nobody waits long for their own."""


class Sweeper:
    """`run` it as a task; set `doomed` to have it look at once."""

    def __init__(
        self, meta: MetaStore, blobs: BlobStore, clock: Clock, log: Any, doomed: asyncio.Event
    ) -> None:
        self._meta, self._blobs, self._clock, self._log, self._doomed = meta, blobs, clock, log, doomed
        self.rounds = 0

    async def run(self) -> None:
        """Until cancelled. A round that fails is logged, and the next one tries again."""
        while True:
            self._doomed.clear()
            try:
                await self.sweep()
                if self.rounds % STRAYS_EVERY == 0:
                    await self.erase_strays()
            except (RelayError, OSError) as why:
                self._log.error("sweep", error=type(why).__name__, place=place_of(why))
            self.rounds += 1
            try:
                async with asyncio.timeout(EVERY):
                    await self._doomed.wait()
            except TimeoutError:
                pass

    async def sweep(self) -> None:
        """One round: all that has run out by now, and all bytes of what is gone."""
        more = True
        while more:
            more = await self._meta.expire(self._clock(), MOST)
        while doomed := await self._meta.doomed(MOST):
            for cid in doomed:
                await self._blobs.erase(cid)
                await self._meta.erased(cid)

    async def erase_strays(self) -> None:
        """Bytes whose content id nobody knows. Never those of an upload under way: its row is made first."""
        found = await self._blobs.cids()
        for cid in set(found) - await self._meta.alive(found):
            await self._blobs.erase(cid)
