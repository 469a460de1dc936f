"""What the relay has forgotten comes again: it may have been restored from a backup that is older than an offer.

Packs come from the spool. Who may read them, and the hello of an offer that waits for its answer, are said
again once a minute: each costs the relay one small write, and nothing tells us that it lost them. Messages
need none of this: they stay in the outbox until their reader has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

from clients.gateway.errors import RelayDownError
from clients.gateway.log import about
from clients.gateway.peers.relay import RelayClient, RelayRefusal
from clients.gateway.sending.ends import hello_of
from clients.gateway.sending.uploader import Uploader
from clients.gateway.store.database import Database, rows
from transfer.ids import Cid, stored_mailbox
from transfer.sites import Identity

_EVERY = 60.0


class Reminder:
    """For all open transfers that this site sends."""

    def __init__(self, db: Database, relay: RelayClient, identity: Identity, uploader: Uploader) -> None:
        self._db, self._relay, self._identity, self._uploader = db, relay, identity, uploader

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.remind()

    async def remind(self) -> None:
        """One round."""
        found = await self._db.run(
            lambda con: rows(con, "SELECT * FROM sends WHERE state IN ('OFFERED', 'RELEASED')")
        )
        for row in found:
            with about(row["tid"]):
                await self._remind(row)

    async def _remind(self, row: sqlite3.Row) -> None:
        with contextlib.suppress(RelayDownError, RelayRefusal):  # the next round tries again
            await self._relay.add_readers(Cid(row["cid"]), row["offer"])
        if row["state"] == "OFFERED" and row["q_sealed"] is not None:
            with contextlib.suppress(RelayDownError, RelayRefusal):
                await self._relay.put_hello(
                    stored_mailbox(row["mailbox"]), hello_of(row, self._identity.site)
                )
        with contextlib.suppress(RelayDownError, RelayRefusal):
            await self._uploader.recheck(Cid(row["cid"]))
