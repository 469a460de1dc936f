"""Sealed packs go to the relay, a few at once, oldest offer first; what the relay answered 200 to is marked,
in batches.

How many fly at once and how large they are is `pacing`'s to say. A pack that the relay lost is
found by `recheck` and sent again from the spool.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from functools import partial
from pathlib import Path

import msgspec
import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.errors import DiskFullError, RelayDownError
from clients.gateway.log import about
from clients.gateway.meter import Meter
from clients.gateway.peers.relay import RelayClient, RelayFullError, RelayRefusal
from clients.gateway.sending.pacing import MOST, Pace
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, quoted, rows
from transfer.ids import Cid
from transfer.states import OPEN_SENDER

log = structlog.get_logger()
_FULL_REST = 5.0
"""Seconds before a relay that had no room is asked again."""
_FINAL = {409, 410, 413}
"""The relay's refusals that a repetition does not change."""
_PAGES = 1000
"""Pages of a list that are read: more than a cid may have."""
_DUE = """
SELECT p.cid, p.n, p.kind, p.size FROM packs p JOIN spools s ON s.cid=p.cid
WHERE p.uploaded=0 AND s.dropped=0 ORDER BY s.rowid, p.n LIMIT ?
"""


class _Pack(msgspec.Struct, frozen=True):
    cid: Cid
    n: int
    kind: str
    size: int


class Uploader:
    """Uploads all packs of this gateway."""

    def __init__(
        self, db: Database, relay: RelayClient, clock: Clock, spool: Path, packed: Signal, changed: Signal
    ) -> None:
        self._db, self._relay, self._clock, self._spool = db, relay, clock, spool
        self._packed, self._changed = packed, changed
        self._flying: set[tuple[Cid, int]] = set()
        self._done: list[tuple[int, Cid, int]] = []
        self._landed = asyncio.Event()
        self.full: set[Cid] = set()
        """Studies for which the relay had no room, and has taken nothing since."""
        self.meter, self.pace = Meter(), Pace()
        self.meters: dict[Cid, Meter] = {}

    def bucket(self) -> int:
        """How large the next pack should be."""
        return self.pace.bucket

    async def run(self) -> None:
        """Until cancelled."""
        if self._done:  # an earlier run ended before it had said so
            self._landed.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._mark())
            while True:
                seen = self._packed.seen
                due = await self._db.run(
                    lambda con: rows(con, _DUE, (MOST * 2 + len(self._flying) + len(self._done),))
                )
                packs = [_Pack(Cid(r["cid"]), r["n"], r["kind"], r["size"]) for r in due]
                landed = {(cid, n) for _, cid, n in self._done}
                packs = [p for p in packs if (p.cid, p.n) not in self._flying | landed]
                room = self.pace.flying(time.monotonic()) - len(self._flying)
                for pack in packs[: max(0, room)]:
                    self._flying.add((pack.cid, pack.n))
                    group.create_task(self._upload(pack))
                await self._packed.wait(seen, 2.0)

    async def _upload(self, pack: _Pack) -> None:
        try:
            await self._put(pack)
        finally:
            self._flying.discard((pack.cid, pack.n))
            self._packed.set()

    async def _put(self, pack: _Pack) -> None:
        try:
            ct = await asyncio.to_thread((self._spool / pack.cid.hex() / str(pack.n)).read_bytes)
        except OSError:
            await self._alarm(pack, "spool-lost", "A sealed file is missing here. Send the study again.")
            return self._land(2, pack)
        begun = time.monotonic()
        try:
            await self._relay.put_pack(pack.cid, pack.n, pack.kind, ct)
        except RelayFullError as why:
            self.full.add(pack.cid)
            await self._alarm(pack, why.code, why.sentence)
            await asyncio.sleep(_FULL_REST)
        except RelayDownError:
            await asyncio.sleep(0.5)
        except RelayRefusal as why:
            if why.status in _FINAL:
                await self._alarm(
                    pack, why.code, "The relay refused a part of this study. Send the study again."
                )
                return self._land(2, pack)
            await self._alarm(
                pack, why.code, "The relay refuses this gateway for now. Call the relay's operator."
            )
            await asyncio.sleep(5)
        else:
            self.meter.add(len(ct))
            self.pace.answered(len(ct), begun, time.monotonic())
            self.meters.setdefault(pack.cid, Meter()).add(len(ct))
            self._land(1, pack)

    def _land(self, state: int, pack: _Pack) -> None:
        self._done.append((state, pack.cid, pack.n))
        self._landed.set()

    async def _mark(self) -> None:
        while True:
            await self._landed.wait()
            self._landed.clear()
            batch = list(self._done)
            relieved = self.full & {cid for state, cid, _ in batch if state == 1}
            try:
                await self._db.run(partial(_mark_all, batch=batch, relieved=relieved))
            except DiskFullError:
                self._landed.set()  # the relay has them; it is said once there is room
                await asyncio.sleep(0.5)
                continue
            del self._done[: len(batch)]
            self.full -= relieved
            self._changed.set()
            await asyncio.sleep(0.02)

    async def _alarm(self, pack: _Pack, code: str, sentence: str) -> None:
        """At the transfers that still need the pack: what is on its way at an end is refused, rightly."""
        now = self._clock.now()

        def work(con: Con) -> None:
            sql = f"SELECT tid FROM sends WHERE cid=? AND state IN ({quoted(OPEN_SENDER)})"
            for row in rows(con, sql, (pack.cid,)):
                with about(row["tid"]):
                    log.error("pack not uploaded", code=code)
                audit.alarm(con, row["tid"], code, sentence, now)

        await self._db.run(work)
        self._changed.set()

    async def recheck(self, cid: Cid) -> None:
        """Compares the relay's list with ours and sends again what it lost, or did not take before. Raises
        `RelayDownError`, `RelayRefusal`.
        """
        there = await self._listed(cid)

        def work(con: Con) -> int:
            ours = {r["n"] for r in rows(con, "SELECT n FROM packs WHERE cid=? AND uploaded<>0", (cid,))}
            lost = ours - there
            con.executemany("UPDATE packs SET uploaded=0 WHERE cid=? AND n=?", [(cid, n) for n in lost])
            return len(lost)

        if await self._db.run(work):
            log.warning("the relay lost packs; sending them again")
            self._packed.set()

    async def _listed(self, cid: Cid) -> set[int]:
        there: set[int] = set()
        after = 0
        for _ in range(_PAGES):
            try:
                page = await self._relay.list_packs(cid, after, wait=0)
            except RelayRefusal as why:
                if why.status == 404:  # not even the name is known there any more
                    return set()
                raise
            there.update(p.n for p in page.packs)
            if not page.packs or page.next <= after:
                break
            after = page.next
        return there

    async def drop_spools(self) -> None:
        """Deletes the sealed packs of transfers that have ended, here; the relay is told by the outbox."""
        dropped = await self._db.run(
            lambda con: rows(con, "SELECT cid FROM spools WHERE dropped=1 AND next_n>0 LIMIT 20")
        )
        for row in dropped:
            cid = Cid(row["cid"])
            await asyncio.to_thread(shutil.rmtree, self._spool / cid.hex(), True)
            await self._db.run(partial(_forget_spool, cid=cid))
            self.meters.pop(cid, None)
            self.full.discard(cid)


def _mark_all(con: Con, batch: list[tuple[int, Cid, int]], relieved: set[Cid]) -> None:
    con.executemany("UPDATE packs SET uploaded=? WHERE cid=? AND n=?", batch)
    for cid in relieved:  # the relay has room again: the alarm would mislead
        con.execute(
            "DELETE FROM alarms WHERE code IN ('relay-quota', 'relay-disk')"
            " AND tid IN (SELECT tid FROM sends WHERE cid=?)",
            (cid,),
        )


def _forget_spool(con: Con, cid: Cid) -> None:
    con.execute("UPDATE spools SET dropped=2 WHERE cid=?", (cid,))
