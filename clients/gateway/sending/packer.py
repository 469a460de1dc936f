"""From instances to sealed packs, while the study still arrives (protocol s. 6, 10).

One `Packer` for each cid. Instances are coded in worker threads, a few ahead; their coded bytes are laid
into the stream in clinical order (scouts, then series as they began) and cut into packs. A pack is sealed
once, fsynced, and then committed together with the items that it completes: that commit is the only
progress there is. After a crash the stream goes on behind the last committed pack; an instance that was cut
in half has no item, is coded again and gets a new place, and the bytes that nobody names are passed over by
R. The same holds for a packer that failed (a full disk) and is run again.

An instance whose file was changed or lost on this disk is not sent: staff see an alarm, the last record says
that its series wants more than it has, and neither side ever calls such a transfer complete.

The first instance goes alone, then packs grow with the measured speed. A manifest record follows the first
item, every 16 packs and 5 seconds at the latest; the last one closes every series and says `end`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import msgspec
import structlog

from clients.gateway import codec
from clients.gateway.clock import Clock, Random, Signal
from clients.gateway.disk import write_durably
from clients.gateway.sending import records
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, rows, value
from clients.gateway.store.vault import Vault
from transfer import jws
from transfer.ids import Cid, ContentKey, Digest
from transfer.manifest import RECORD_PACKS, RECORD_SECONDS, ChainWriter
from transfer.packs import BUCKETS, Kind, seal_pack
from transfer.sites import Identity
from transfer.stream import Cutter

log = structlog.get_logger()
_AHEAD = 6
"""Instances being coded at once."""
_PAUSE = 0.3
"""Seconds without a new image after which what is left is sent padded."""
_CANDIDATES = 64

_NEXT = """
SELECT i.*, s.no AS series_order FROM instances i JOIN series s ON s.study=i.study AND s.uid=i.series
WHERE i.study=? AND i.id<=? AND i.id>? AND NOT EXISTS (SELECT 1 FROM items x WHERE x.cid=? AND x.instance=i.id)
ORDER BY s.scout DESC, s.no, i.number, i.id LIMIT ?
"""


class _Source(msgspec.Struct, frozen=True):
    """One instance that waits to be packed."""

    id: int
    series: str
    file: str
    data_offset: int
    hash: bytes
    syntax: str


class _Placed(msgspec.Struct, frozen=True):
    """One coded instance in the stream, not yet complete in packs."""

    source: _Source
    codec: str
    offset: int
    length: int


class Packer:
    """Packs one study for one cid. `bucket()` is the next pack's size; `packed` is set after each commit."""

    def __init__(
        self,
        *,
        cid: Cid,
        study: str,
        db: Database,
        vault: Vault,
        identity: Identity,
        random: Random,
        incoming: Path,
        spool: Path,
        workers: Executor,
        arrived: Signal,
        packed: Signal,
        bucket: Callable[[], int],
        clock: Clock,
    ) -> None:
        self.cid, self._study, self._clock = cid, study, clock
        self._db, self._vault, self._identity, self._random = db, vault, identity, random
        self._incoming, self._spool, self._workers = incoming, spool / cid.hex(), workers
        self._arrived, self._packed, self._bucket = arrived, packed, bucket
        self._coding: deque[tuple[_Source, asyncio.Future[tuple[str, bytes]]]] = deque()
        self._placed: deque[_Placed] = deque()
        self._taken: set[int] = set()
        self._broken: set[int] = set()

    async def run(self) -> None:
        """Until the last record is written. Raises `DiskFullError`; begin again then, nothing is lost."""
        try:
            if await self._load():
                await self._pack_study()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """What memory holds is worth nothing after a failure: the database says where to go on."""
        for _, coding in self._coding:
            coding.cancel()
        self._coding.clear()
        self._placed.clear()
        self._taken.clear()
        self._broken.clear()

    async def _pack_study(self) -> None:
        while True:
            seen = self._arrived.seen
            frozen = await self._refill()
            if self._coding:
                await self._place()
            elif frozen:
                await self._pack_all(flush=True)
                await self._finish()
                return
            elif not await self._arrived.wait(seen, _PAUSE):
                await self._pack_all(flush=True)
                if self._due():
                    await self._record()
                await self._arrived.wait(seen, RECORD_SECONDS)

    async def _load(self) -> bool:
        def work(con: Con) -> tuple[object, int, int] | None:
            row = one(con, "SELECT * FROM spools WHERE cid=?", (self.cid,))
            if row is None or row["ended"] or row["k_sealed"] is None:
                return None
            loose = value(
                con, "SELECT count(*) FROM packs WHERE cid=? AND kind='D' AND record IS NULL", (self.cid,)
            )
            items = value(con, "SELECT count(*) FROM items WHERE cid=? AND record IS NULL", (self.cid,))
            return row, loose, items

        found = await self._db.run(work)
        if found is None:
            return False
        row, self._loose, self._loose_items = found
        spool: dict[str, object] = dict(row)  # type: ignore[call-overload]
        self._key = ContentKey(self._vault.open("content-key", bytes(spool["k_sealed"])))  # type: ignore[call-overload]
        self._n, self._after = int(str(spool["next_n"])), int(str(spool["after"]))
        last = spool["last_record"]
        self._chain = ChainWriter(
            self.cid, self._identity.key, int(str(spool["next_i"])), Digest(bytes(last)) if last else None  # type: ignore[call-overload]
        )  # fmt: skip
        self._cutter = Cutter(BUCKETS[0], int(str(spool["position"])))
        self._recorded_at = time.monotonic()
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        return True

    # Coding, a few ahead

    async def _refill(self) -> bool:
        """Starts coding the next instances; True once the study is frozen and everything is on its way."""
        if len(self._coding) > _AHEAD // 2:
            return False

        def work(con: Con) -> tuple[bool, list[_Source]]:
            con.execute(
                "UPDATE spools SET frozen=(SELECT max(id) FROM instances WHERE study=spools.study) WHERE cid=?"
                " AND frozen IS NULL AND (SELECT closed FROM studies WHERE id=spools.study)=1",
                (self.cid,),
            )
            frozen = value(con, "SELECT frozen FROM spools WHERE cid=?", (self.cid,))
            limit = frozen if frozen is not None else 2**62
            passed = len(self._taken) + len(self._broken)
            found = rows(con, _NEXT, (self._study, limit, self._after, self.cid, _CANDIDATES + passed))
            return frozen is not None, [
                _Source(r["id"], r["series"], r["file"], r["data_offset"], r["hash"], r["syntax"])
                for r in found
            ]

        frozen, sources = await self._db.run(work)
        waiting = [s for s in sources if s.id not in self._taken and s.id not in self._broken]
        loop = asyncio.get_running_loop()
        for source in waiting[: _AHEAD - len(self._coding)]:
            self._taken.add(source.id)
            self._coding.append((source, loop.run_in_executor(self._workers, _code, self._incoming, source)))
        return frozen and not waiting

    async def _place(self) -> None:
        """Lays the oldest coded instance into the stream and cuts what is full."""
        source, coding = self._coding.popleft()
        try:
            name, body = await coding
        except (OSError, ValueError) as why:
            log.error("instance cannot be read", kind=type(why).__name__)
            self._broken.add(source.id)
            self._taken.discard(source.id)
            await self._db.run(self._say_broken)
            return
        self._placed.append(_Placed(source, name, self._cutter.end, len(body)))
        self._cutter.add(body)
        first = self._n == 0
        await self._pack_all(flush=first)
        if self._due():
            await self._record()

    def _say_broken(self, con: Con) -> None:
        now = self._clock.now()
        for row in rows(con, "SELECT tid FROM sends WHERE cid=?", (self.cid,)):
            audit.alarm(
                con, row["tid"], "unsent",
                "An image of this study was changed or lost on this gateway's disk and cannot be sent. Send the study"
                " again from its source.", now,
            )  # fmt: skip

    # Packs

    async def _pack_all(self, *, flush: bool) -> None:
        while True:
            self._cutter.bucket = self._bucket()
            start = self._cutter.position
            body = self._cutter.next(flush=flush)
            if body is None:
                return
            await self._pack(body, start + len(body))
            if self._loose >= RECORD_PACKS:
                await self._record()

    async def _pack(self, body: bytes, end: int) -> None:
        size, digest = await self._seal("D", body)
        done: list[_Placed] = []
        while self._placed and self._placed[0].offset + self._placed[0].length <= end:
            done.append(self._placed.popleft())

        def work(con: Con) -> None:
            self._insert_pack(con, "D", size, digest)
            con.execute("UPDATE spools SET position=? WHERE cid=?", (end, self.cid))
            for item in done:
                self._insert_item(con, item)

        await self._db.run(work)
        self._n += 1
        self._loose += 1
        self._loose_items += len(done)
        self._taken.difference_update(item.source.id for item in done)
        self._packed.set()

    async def _seal(self, kind: Kind, body: bytes) -> tuple[int, bytes]:
        def work() -> tuple[int, bytes]:
            ct = seal_pack(self._key, self.cid, kind, self._n, body, self._random)
            write_durably(self._spool / str(self._n), ct)
            return len(ct), hashlib.sha256(ct).digest()

        return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    def _insert_pack(self, con: Con, kind: Kind, size: int, digest: bytes) -> None:
        con.execute(
            "INSERT INTO packs (cid, n, kind, size, hash) VALUES (?,?,?,?,?)",
            (self.cid, self._n, kind, size, digest),
        )
        con.execute("UPDATE spools SET next_n=? WHERE cid=?", (self._n + 1, self.cid))

    def _insert_item(self, con: Con, item: _Placed) -> None:
        uid = item.source.series
        con.execute(
            "INSERT INTO spool_series (cid, no, uid) SELECT ?, count(*), ? FROM spool_series WHERE cid=?"
            " ON CONFLICT (cid, uid) DO NOTHING",
            (self.cid, uid, self.cid),
        )
        con.execute(
            "INSERT INTO items (cid, no, instance, series, codec, offset, length) SELECT ?,"
            " (SELECT count(*) FROM items WHERE cid=?), ?, no, ?, ?, ? FROM spool_series WHERE cid=? AND uid=?",
            (self.cid, self.cid, item.source.id, item.codec, item.offset, item.length, self.cid, uid),
        )

    # Records

    def _due(self) -> bool:
        if not self._loose_items and not self._loose:
            return False
        return (
            (self._chain.i == 0 and self._loose_items > 0)
            or self._loose >= RECORD_PACKS
            or self._loose_items >= records.ITEMS
            or time.monotonic() - self._recorded_at >= RECORD_SECONDS
        )

    async def _finish(self) -> None:
        while self._loose_items > records.ITEMS:
            await self._record()
        await self._record(end=True)

    async def _record(self, *, end: bool = False) -> None:
        loose = await self._db.run(lambda con: records.gather(con, self.cid, self._study, end=end))
        text = self._chain.record(loose.packs, loose.series, loose.items, total=loose.total if end else None)
        size, digest = await self._seal("M", text.encode())
        i = self._chain.i
        self._chain.written(text)
        last = jws.digest(text)

        def work(con: Con) -> None:
            self._insert_pack(con, "M", size, digest)
            records.keep(con, self.cid, self._study, i, self._n, last, loose, end=end)

        await self._db.run(work)
        self._n += 1
        self._loose, self._loose_items = 0, self._loose_items - len(loose.items)
        self._recorded_at = time.monotonic()
        self._packed.set()


def _code(incoming: Path, source: _Source) -> tuple[str, bytes]:
    """(codec, coded bytes) of an instance; its bytes on disk are still those that arrived, or `ValueError`."""
    with (incoming / source.file).open("rb") as file:
        file.seek(source.data_offset)
        data = file.read()
    if hashlib.sha256(data).digest() != source.hash:
        raise ValueError("changed on disk")
    coded = codec.encode(data, source.syntax)
    return coded.codec, coded.body
