"""The outbox: what another party must learn stays here until that party says that it has it (protocol s. 10).

Four kinds of entries, written in the same transaction as the state that they tell of:

    queue    a signed message to a site; leaves with that site's `ack` (end to end), not with the relay's 200
    ack      such an `ack`; leaves with the relay's 200 (lost, the message comes again and is acknowledged again)
    mailbox  a body for a phone's mailbox; leaves with the relay's 200
    relay    a call that makes the relay forget or know something (delete packs, readers); leaves with its 200

`run` sends what is due, oldest first, each with its own backoff, so that one dead mailbox holds nothing up.
Bodies for one slot of a mailbox leave one after another, since a phone counts them. The same bytes may be
sent any number of times. What nobody acknowledged for 30 days is given up: the relay keeps it no longer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial

import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.errors import RelayDownError
from clients.gateway.log import about
from clients.gateway.peers.relay import RelayClient, RelayRefusal
from clients.gateway.store.database import Con, Database, rows
from transfer.encoding import sha256
from transfer.ids import Cid, SiteId, Tid

log = structlog.get_logger()
_BATCH = 32
_FIRST, _MOST = 2, 300
"""Seconds of backoff."""
_RESEND = 60
"""Seconds after which a message that the relay took is sent again while its ack is missing."""
_LIFE = 30 * 86400
_FINAL = {400, 403, 404, 409, 410, 413}
"""The relay's refusals that a repetition does not change. Others pass: a site that is not enrolled yet, a clock."""
_DUE = f"""
SELECT * FROM outbox o WHERE (next_at<=?1 OR next_at>?1+{_MOST}) AND (kind<>'mailbox' OR NOT EXISTS
    (SELECT 1 FROM outbox b WHERE b.kind='mailbox' AND b.target=o.target AND b.id<o.id))
ORDER BY id LIMIT ?2
"""
"""Also what is due later than it can be: the clock was set back, and nothing waits for it to come round again."""


def post(con: Con, kind: str, target: str, body: str | bytes, tid: Tid | None, now: int) -> None:
    """Adds an entry; the same one again is the same one. `target`: a site in hex, or a path at the relay."""
    data = body.encode() if isinstance(body, str) else body
    con.execute(
        "INSERT INTO outbox (kind, target, body, hash, tid, created_at, next_at) VALUES (?,?,?,?,?,?,?)"
        " ON CONFLICT (kind, target, hash) DO NOTHING",
        (kind, target, data, sha256(data), tid, now, now),
    )


def acknowledged(con: Con, digest: bytes, site: SiteId) -> None:
    """`site` has this message. Nobody else's word ends what waits for it."""
    con.execute("DELETE FROM outbox WHERE kind='queue' AND target=? AND hash=?", (site.hex(), digest))


def forget(con: Con, kind: str, target: str) -> None:
    """Takes back what waits for one target: something newer replaces it."""
    con.execute("DELETE FROM outbox WHERE kind=? AND target=?", (kind, target))


class Outbox:
    """Sends what `post` left."""

    def __init__(
        self,
        db: Database,
        relay: RelayClient,
        clock: Clock,
        signal: Signal,
        changed: Signal,
        refused: Callable[[Con, str], None] = lambda con, path: None,
    ) -> None:
        """`changed`: an m0 left, so a page may show the number that it could not show before. `refused`: the relay
        refused for good what was for this path; in the transaction that ends the entry.
        """
        self._db, self._relay, self._clock = db, relay, clock
        self._signal, self._changed, self._refused = signal, changed, refused

    async def run(self) -> None:
        """Until cancelled. What comes while others are on their way does not wait for them: a phone waits for it."""
        flying: set[int] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                seen = self._signal.seen
                due = await self._db.run(partial(self._due, most=_BATCH + len(flying)))
                for row in [r for r in due if r["id"] not in flying][: _BATCH - len(flying)]:
                    flying.add(row["id"])
                    group.create_task(self._send_one(row, flying))
                await self._signal.wait(seen, 1.0)

    def _due(self, con: Con, most: int = _BATCH) -> list[sqlite3.Row]:
        return rows(con, _DUE, (self._clock.now(), most))

    async def _send_one(self, entry: sqlite3.Row, flying: set[int]) -> None:
        try:
            with about(entry["tid"]):
                await self._send(entry)
        finally:
            flying.discard(entry["id"])
            self._signal.set()

    async def _send(self, entry: sqlite3.Row) -> None:
        kind, wait, gone, refused = entry["kind"], _RESEND, entry["kind"] != "queue", False
        try:
            await self._deliver(kind, entry["target"], entry["body"])
        except RelayRefusal as why:  # a message waits for better days all the same
            log.warning("outbox entry refused", kind=kind, code=why.code)
            wait, gone = _MOST, gone and why.status in _FINAL
            refused = gone and kind == "mailbox"
        except RelayDownError:
            wait, gone = min(_FIRST * 2 ** entry["attempts"], _MOST), False
        now = self._clock.now()
        gone = gone or entry["created_at"] < now - _LIFE

        def work(con: Con) -> None:
            if gone:
                con.execute("DELETE FROM outbox WHERE id=?", (entry["id"],))
                if refused:
                    self._refused(con, entry["target"])
            else:
                con.execute(
                    "UPDATE outbox SET next_at=?, attempts=min(attempts+1, 20) WHERE id=?",
                    (now + wait, entry["id"]),
                )

        await self._db.run(work)
        if gone and kind == "mailbox" and entry["target"].endswith("/0"):
            self._changed.set()

    async def _deliver(self, kind: str, target: str, body: bytes) -> None:
        if kind in ("queue", "ack"):
            await self._relay.post_message(SiteId.from_hex(target), body.decode())
        elif kind == "mailbox":
            await self._relay.call("PUT", target, body)
        elif target.startswith("delete:"):
            await self._relay.delete_packs(Cid.from_hex(target.removeprefix("delete:")))
        else:
            await self._relay.call("POST", target, body)
