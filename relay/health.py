"""Two questions a machine asks: is this process alive (`/healthz`), and can it do its work (`/readyz`)?

A supervisor restarts what is not alive; a balancer or an operator looks at readiness. The second asks the
database for an empty transaction, which goes through its writer like any other and costs no fsync, and the disk
for its room. Whether a reserve that is touched counts as "not ready" is a choice: letters and phones still go on
then, but a relay that takes no packs has its operator's attention due.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from relay.addresses import Addresses
from relay.answers import error_answer, json_answer
from relay.blobstore import BlobStore
from relay.clock import Clock
from relay.errors import BusyError, DiskError, RelayError
from relay.limits import Buckets
from relay.metastore import MetaStore

PATIENCE = 5
"""Seconds for database and disk to answer."""
MUTE = "The relay's database or disk does not answer. Look at the disk and at the log, then start the relay again."
FULL = (
    "The relay's disk has less room than its reserve and packs are refused. Make room; it goes on by itself."
)


class Health:
    """The handlers."""

    def __init__(
        self, meta: MetaStore, blobs: BlobStore, clock: Clock, by_address: Buckets, addresses: Addresses,
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        self._meta, self._blobs, self._clock, self._patience = meta, blobs, clock, patience
        self._by_address, self._addresses = by_address, addresses

    async def alive(self, _: web.Request) -> web.Response:
        """`GET /healthz`"""
        return json_answer({"ok": True, "now": self._clock()})

    async def ready(self, request: web.Request) -> web.Response:
        """`GET /readyz`: 200, or 503 with the reason. Strangers may ask as often as for a page."""
        self._by_address.take(self._addresses.of(request))
        try:
            async with asyncio.timeout(self._patience):
                await self._check()
        except TimeoutError:
            return self._not_ready(BusyError(MUTE))
        except RelayError as why:
            return self._not_ready(why)
        return json_answer({"ok": True, "now": self._clock()})

    async def _check(self) -> None:
        try:
            await self._meta.ping()
            room = await self._blobs.room()
        except RelayError:
            raise BusyError(MUTE) from None
        if room <= 0:
            raise DiskError(FULL)

    def _not_ready(self, why: RelayError) -> web.Response:
        answer = error_answer(why, self._clock())
        answer.set_status(503)
        return answer
