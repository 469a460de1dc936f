"""From sealed packs and a key to images in the PACS, and what the ledger says of them (protocol s. 6, 10).

One `Delivery` for each opened transfer. Packs are opened in the order of their numbers; an item is
delivered as soon as a manifest record names it: taken from the stream, decoded, its SHA-256 compared with
the signed one, written as a Part 10 file, sent by C-STORE. A pack that does not open is fetched again; a
chain that does not fit ends the delivery with an alarm. Nothing unlisted is ever delivered.

The ledger has one row for each (destination, SOP Instance UID, transfer): `listed`, `sending` (on disk
before the first byte goes to the PACS), `stored`, `failed`. After a crash `sending` is unknown and is sent
again, which a PACS takes as the same instance; `stored` is never sent again. A restart opens the packs
again from the first and passes over what is settled. A full disk stops nothing that is on its way: whoever has
something to write waits for room.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, wait
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from clients.gateway import codec
from clients.gateway.clock import Clock, Signal
from clients.gateway.codec import CodecError
from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.part10 import write_part10
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.disk import FULL
from clients.gateway.errors import DiskFullError, GatewayError, IntakeError, leaf
from clients.gateway.receiving.inbox import NO_END, Inbox
from clients.gateway.receiving.prefetch import Prefetch
from clients.gateway.sending.words import series_label
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, rows, value
from clients.gateway.store.vault import Vault
from transfer.errors import ChainError, HashError, PackError, PeerError
from transfer.ids import Cid, ContentKey, SiteId, Tid
from transfer.manifest import Chain
from transfer.messages import ItemEntry, PackEntry
from transfer.packs import open_pack
from transfer.stream import Assembler

log = structlog.get_logger()
T = TypeVar("T")
_AHEAD = 16
"""Items between the stream and the PACS's answer: bounds the memory, and the files in the clear."""
_BAD_PACK = 3
_UNLISTED = 2**27
"""Bytes of the stream, beside the largest image twice over, that may wait for a record that names them."""
_MARKED = 32
"""Items that one commit marks as on their way."""
_RETRY_FIRST, _RETRY_MOST = 1.0, 60.0
_REST = 2.0
"""Seconds before what a full disk did not take is written again."""


class _Ready(msgspec.Struct, frozen=True):
    item: ItemEntry
    path: Path


class Delivery:
    """Delivers one opened transfer to one PACS."""

    def __init__(
        self,
        *,
        tid: Tid,
        db: Database,
        vault: Vault,
        inbox: Inbox,
        prefetch: Prefetch,
        scu: StoreScu,
        destination: str,
        folder: Path,
        workers: Executor,
        clock: Clock,
        changed: Signal,
        deadline: int,
        largest: int,
    ) -> None:
        self._tid, self._db, self._vault = tid, db, vault
        self._inbox, self._prefetch, self._scu, self._destination = inbox, prefetch, scu, destination
        self._folder, self._workers = folder / tid.hex(), workers
        self._clock, self._changed, self._deadline = clock, changed, deadline
        self._largest = largest
        self._settled: set[int] = set()
        self._hashes: dict[int, bytes] = {}
        self._labelled: set[int] = set()
        self._marked = 0
        self._down_since = 0
        self._stored: list[int] = []
        self._failed: list[tuple[int, int | None, str]] = []
        self._results = asyncio.Event()
        self._booking = asyncio.Lock()
        self._working: set[Future[Any]] = set()

    async def run(self) -> None:
        """Until every item is settled or the time is over; then the receipt is in the outbox."""
        await self._flush()  # what the PACS took before a full disk or another fault ended the last run
        if not await self._load():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                booking = group.create_task(self._book())
                try:
                    async with asyncio.timeout(self._patience):
                        await self._deliver()
                finally:
                    await self._flush()
                    booking.cancel()
            gave_up = await self._db.run(
                lambda con: value(
                    con, "SELECT count(*) FROM ledger WHERE tid=? AND state<>'stored'", (self._tid,)
                )
            )
            await self._inbox.finish(
                self._tid, "gave-up" if gave_up else "delivered", "pacs" if gave_up else ""
            )
        except* PeerError as group_of:
            code = getattr(leaf(group_of), "code", PeerError.code)
            log.error("delivery stopped", code=code)
            await self._inbox.finish(self._tid, "chain", code)
        except* TimeoutError:
            await self._inbox.finish(self._tid, "gave-up", "no-end")
        finally:
            # The end that `finish` told of has this task cancelled: the folder goes all the same
            await asyncio.shield(asyncio.to_thread(_remove, self._folder, set(self._working)))

    async def _load(self) -> bool:
        def work(con: Con) -> tuple[sqlite3.Row, set[int]] | None:
            row = one(con, "SELECT * FROM receives WHERE tid=? AND state='OPENED'", (self._tid,))
            if row is None or row["k_sealed"] is None:
                return None
            # another PACS than before the restart: what the old one holds, the new one does not
            con.execute("DELETE FROM ledger WHERE tid=? AND destination<>?", (self._tid, self._destination))
            done = rows(
                con, "SELECT no FROM ledger WHERE tid=? AND state IN ('stored','failed')", (self._tid,)
            )
            return row, {r[0] for r in done}

        found = await self._db.run(work)
        if found is None:
            return False
        row, self._settled = found
        self._cid = Cid(row["cid"])
        self._key = ContentKey(self._vault.open("content-key", row["k_sealed"]))
        self._chain = Chain(self._cid, SiteId(row["peer"]))
        self._patience = max(1, row["opened_at"] + NO_END - self._clock.now())
        self._marked, self._down_since = 0, 0
        self._hashes.clear()
        return True

    # The stream

    async def _deliver(self) -> None:
        ready: asyncio.Queue[asyncio.Task[_Ready | None] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_AHEAD)
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(self._store_all(ready))
            async for item, coded in self._items():
                await self._room.acquire()
                ready.put_nowait(group.create_task(self._restore(item, coded)))
            ready.put_nowait(None)
            await storing

    async def _items(self) -> AsyncIterator[tuple[ItemEntry, bytes]]:
        """Listed items with their coded bytes, in order, as the packs arrive."""
        stream = Assembler()
        n = 0
        while not self._chain.ended:
            kind, body = await self._open(n)
            if kind == "D":
                stream.add(body)
                if stream.held > 2 * self._largest + _UNLISTED:
                    raise ChainError
            else:
                record = self._chain.add(body.decode("ascii", "replace"))
                self._check_hashes(record.packs)
                await self._list(record.items, n, body.decode("ascii"))
                for item in record.items:
                    if item.no not in self._settled:
                        yield item, stream.take(item.offset, item.length)
                    stream.forget(item.offset + item.length)
            n += 1

    async def _open(self, n: int) -> tuple[str, bytes]:
        """Kind and body of pack `n`, once it is here. Raises `PackError` if it never opens."""
        signal = self._prefetch.signal(self._cid)
        while True:
            seen = signal.seen
            row = await self._db.run(
                lambda con: one(con, "SELECT kind, have FROM in_packs WHERE cid=? AND n=?", (self._cid, n))
            )
            if row is None or not row["have"]:
                await signal.wait(seen, 5.0)
                continue
            try:
                path = self._prefetch.path(self._cid, n)
                body, digest = await self._in_thread(
                    partial(_open_file, path, self._key, self._cid, row["kind"], n)
                )
            except (PackError, OSError):
                if await self._prefetch.refetch(self._cid, n) >= _BAD_PACK:
                    raise PackError from None
                continue
            if row["kind"] == "D":
                self._hashes[n] = digest
            return row["kind"], body

    def _check_hashes(self, packs: list[PackEntry]) -> None:
        for pack in packs:
            if self._hashes.pop(pack.n, None) != pack.hash:
                raise HashError

    async def _list(self, items: list[ItemEntry], n: int, text: str) -> None:
        now = self._clock.now()
        i = self._chain.next - 1

        def work(con: Con) -> None:
            con.execute(
                "INSERT OR IGNORE INTO in_records (cid, i, n, compact) VALUES (?,?,?,?)",
                (self._cid, i, n, text),
            )
            con.executemany(
                "INSERT OR IGNORE INTO ledger (destination, sop_uid, tid, no, series, hash, state, at)"
                " VALUES (?,?,?,?,?,?,'listed',?)",
                [(self._destination, x.sop_uid, self._tid, x.no, x.series, x.hash, now) for x in items],
            )
            for series in self._chain.series.values():
                con.execute(
                    "INSERT INTO in_series (cid, no, uid, want, closed) VALUES (?,?,?,?,?) ON CONFLICT (cid, no)"
                    " DO UPDATE SET want=excluded.want, closed=excluded.closed",
                    (self._cid, series.no, series.uid, series.want, int(series.closed)),
                )
            if self._chain.ended:
                con.execute("UPDATE receives SET total=? WHERE tid=?", (self._chain.total, self._tid))

        await self._write(work)
        self._prefetch.signal(self._cid).set()  # it may go further now
        self._changed.set()

    async def _restore(self, item: ItemEntry, coded: bytes) -> _Ready | None:
        """The original instance as a file, or None where it cannot be had: then it is a gap."""
        path = self._folder / f"{item.no}.dcm"
        try:
            if item.original > self._largest:
                raise HashError
            while not await self._in_thread(lambda: _restore(item, coded, path)):
                with contextlib.suppress(DiskFullError):
                    await self._alarm(DiskFullError.code, DiskFullError().sentence)
                await asyncio.sleep(_REST)
        except (CodecError, HashError, IntakeError) as why:
            log.error("item does not restore", code=why.code)
            await self._fail(item.no, None, why.code)
            self._room.release()
            return None
        if item.series not in self._labelled:
            self._labelled.add(item.series)
            await self._label(item.series, path)
        return _Ready(item, path)

    async def _label(self, series: int, path: Path) -> None:
        """What the inbox shows of a series and its patient, read from its first restored instance."""
        try:
            h = await self._in_thread(lambda: read_header(path))
        except GatewayError:
            return
        label = series_label(h.modality, h.series_number, h.series_description)
        what = ", ".join(x for x in (h.modality, h.study_description, h.study_date) if x)

        def work(con: Con) -> None:
            con.execute("UPDATE in_series SET label=? WHERE cid=? AND no=?", (label, self._cid, series))
            con.execute(
                "UPDATE receives SET patient_name=?, birth_date=?, what=? WHERE tid=?",
                (h.patient_name, h.birth_date, what, self._tid),
            )

        await self._write(work)

    # The PACS

    async def _store_all(self, ready: asyncio.Queue[asyncio.Task[_Ready | None] | None]) -> None:
        contexts: set[tuple[str, str]] = set()
        async with asyncio.TaskGroup() as group:
            while (task := await ready.get()) is not None:
                found = await task
                if found is None:
                    continue
                contexts.add((found.item.sop_class, found.item.syntax))
                await self._sending(found.item.no)
                group.create_task(self._store(found, frozenset(contexts)))

    async def _store(self, ready: _Ready, contexts: frozenset[tuple[str, str]]) -> None:
        """One instance, again and again until the PACS has been away for the whole deadline."""
        item, pause = ready.item, _RETRY_FIRST
        try:
            while True:
                result = await self._scu.store(
                    ready.path, item.sop_class, item.sop_uid, item.syntax, set(contexts)
                )
                if result.kind in ("ok", "warning"):
                    self._down_since = 0
                    self._stored.append(item.no)
                    self._results.set()
                    return
                if result.kind == "refused" or self._away_too_long():
                    await self._fail(item.no, result.status, result.kind)
                    return
                with contextlib.suppress(DiskFullError):
                    await self._alarm("pacs", result.sentence)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MOST)
        finally:
            await asyncio.to_thread(ready.path.unlink, True)
            self._room.release()

    def _away_too_long(self) -> bool:
        """Whether nothing was stored for the whole deadline: then each that is left gets one more try, not hours."""
        now = self._clock.now()
        self._down_since = self._down_since or now
        return now >= self._down_since + self._deadline

    async def _sending(self, no: int) -> None:
        """On disk before the first byte goes: `no` may be at the PACS. One commit says it for the next few too."""
        if no < self._marked:
            return
        self._marked = min(no + _MARKED, self._chain.items)
        await self._write(
            lambda con: con.execute(
                "UPDATE ledger SET state='sending' WHERE tid=? AND state='listed' AND no>=? AND no<?",
                (self._tid, no, self._marked),
            )
        )

    async def _fail(self, no: int, status: int | None, note: str) -> None:
        self._failed.append((no, status, note))
        self._results.set()

    async def _alarm(self, code: str, sentence: str) -> None:
        now = self._clock.now()
        await self._db.run(lambda con: audit.alarm(con, self._tid, code, sentence, now))
        self._changed.set()

    # The ledger

    async def _book(self) -> None:
        """Books results in batches: one commit for all that came meanwhile."""
        while True:
            await self._results.wait()
            self._results.clear()
            try:
                await self._flush()
            except DiskFullError:
                self._results.set()
                await asyncio.sleep(_REST)
            await asyncio.sleep(0.02)

    async def _flush(self) -> None:
        """Books all results so far. One at a time: whoever comes second finds what the first took booked, or to do."""
        async with self._booking:
            await self._book_results()

    async def _book_results(self) -> None:
        stored, self._stored = self._stored, []
        failed, self._failed = self._failed, []
        if not stored and not failed:
            return
        now = self._clock.now()

        def work(con: Con) -> None:
            con.executemany(
                "UPDATE ledger SET state='stored', at=? WHERE tid=? AND no=?",
                [(now, self._tid, no) for no in stored],
            )
            con.executemany(
                "UPDATE ledger SET state='failed', status=?, note=?, at=? WHERE tid=? AND no=?",
                [(status, note, now, self._tid, no) for no, status, note in failed],
            )
            con.execute(
                "UPDATE receives SET first_stored_at=CASE first_stored_at WHEN 0 THEN ? ELSE first_stored_at END,"
                " last_stored_at=? WHERE tid=?",
                (now if stored else 0, now, self._tid),
            )

        try:
            await self._db.run(work)
        except BaseException:  # the PACS has them all the same
            self._stored, self._failed = stored + self._stored, failed + self._failed
            raise
        self._changed.set()

    async def _write(self, work: Callable[[Con], object]) -> None:
        """A transaction, once there is room for it: nothing else is torn down for want of it."""
        while True:
            try:
                await self._db.run(work)
                return
            except DiskFullError as why:
                log.error("a delivery waits", code=why.code)
            await asyncio.sleep(_REST)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """In a worker. One that has begun goes on where its delivery is cancelled: it is remembered, for the end."""
        future = self._workers.submit(work)
        self._working.add(future)
        future.add_done_callback(self._working.discard)
        return await asyncio.wrap_future(future)


def _open_file(path: Path, key: ContentKey, cid: Cid, kind: str, n: int) -> tuple[bytes, bytes]:
    ct = path.read_bytes()
    return open_pack(key, cid, kind, n, ct), hashlib.sha256(ct).digest()  # type: ignore[arg-type]


def _restore(item: ItemEntry, coded: bytes, path: Path) -> bool:
    """Writes the original instance; False where the disk is full."""
    data = codec.decode(item.codec, coded, item.original)
    if hashlib.sha256(data).digest() != item.hash:
        raise HashError
    try:
        write_part10(path, data, item.sop_class, item.sop_uid, item.syntax)
    except OSError as why:
        if why.errno in FULL:
            return False
        raise
    return True


def _remove(folder: Path, working: set[Future[Any]]) -> None:
    """Deletes the folder, after whoever may still be writing into it."""
    wait(working)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
