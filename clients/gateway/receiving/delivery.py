"""From sealed packs and a key to images in the PACS (protocol s. 6, 10).

One `Delivery` for each opened transfer. Packs are opened in the order of their numbers; an item is
delivered as soon as a manifest record names it: taken from the stream, decoded, its SHA-256 compared with
the signed one, written as a Part 10 file and read as the instance that the record names, and handed to each
of its destinations (`routes`, `storing`). A pack that does not open is fetched again; a chain that does not
fit ends the delivery with an alarm. Nothing unlisted is ever delivered.

What became of each item is in the `Ledger`. A restart, and a pass for a destination that missed something,
opens the packs again from the first and passes over what is settled. A full disk stops nothing that is on
its way: whoever has something to write waits for room.
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

from clients.gateway.clock import Clock, Signal
from clients.gateway.codec import CodecError
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.errors import DiskFullError, IntakeError, leaf
from clients.gateway.receiving.additions import is_report, note_report
from clients.gateway.receiving.commitment import Commitments
from clients.gateway.receiving.destinations import Destinations, Pacs
from clients.gateway.receiving.holdings import CONFLICT, Holdings
from clients.gateway.receiving.identity import Frozen, Identities, frozen_of
from clients.gateway.receiving.inbox import NO_END, Inbox
from clients.gateway.receiving.ledger import LOST, REST, Ledger
from clients.gateway.receiving.prefetch import Prefetch
from clients.gateway.receiving.proving import Prover
from clients.gateway.receiving.restoring import file_under, restore
from clients.gateway.receiving.routes import NOWHERE, Routes
from clients.gateway.receiving.storing import RETRY_MOST, Ready, Storing
from clients.gateway.receiving.transcoding import Transcoder
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
_PAUSE_FIRST = 5.0
"""Seconds before the packs are opened once more for a destination that was passed over."""


class _Handed(msgspec.Struct, frozen=True):
    """A restored instance and who still wants it."""

    ready: Ready
    to: tuple[Storing, ...]


class Delivery:
    """Delivers one opened transfer."""

    def __init__(
        self,
        *,
        tid: Tid,
        db: Database,
        vault: Vault,
        inbox: Inbox,
        identities: Identities,
        prefetch: Prefetch,
        destinations: Destinations,
        transcoder: Transcoder,
        holdings: Holdings,
        commitments: Commitments,
        folder: Path,
        workers: Executor,
        clock: Clock,
        changed: Signal,
        deadline: int,
        largest: int,
    ) -> None:
        self._tid, self._db, self._vault = tid, db, vault
        self._inbox, self._prefetch, self._holdings = inbox, prefetch, holdings
        self._identities = identities
        self._identity: Frozen | None = None
        self._folder, self._workers = folder / tid.hex(), workers
        self._clock, self._changed = clock, changed
        self._largest = largest
        self._hashes: dict[int, bytes] = {}
        self._labelled: set[int] = set()
        self._working: set[Future[Any]] = set()

        def storing(pacs: Pacs) -> Storing:
            return Storing(
                pacs.name if len(destinations) > 1 else "", pacs.scu, self._ledger_at(pacs.key), transcoder,
                holdings, Prover(db, pacs.scu, commitments, pacs.commit_seconds),
                clock=clock, deadline=deadline, alarm=self._alarm,
            )  # fmt: skip

        self._routes = Routes(tid, destinations, self._ledger_at(NOWHERE), storing)

    def _ledger_at(self, destination: str) -> Ledger:
        return Ledger(self._tid, destination, self._db, self._clock, self._changed)

    async def run(self) -> None:
        """Until every item is settled or the time is over; then the receipt is in the outbox."""
        # what a PACS took before a full disk or another fault ended the last run
        await self._flush()
        if not await self._load():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with self._holdings.opened(self._routes.ledgers):
                async with asyncio.timeout(self._patience):
                    await self._passes()
            why = await self._why()
            await self._inbox.finish(self._tid, "gave-up" if why else "delivered", why)
        except* PeerError as group_of:
            code = getattr(leaf(group_of), "code", PeerError.code)
            log.error("delivery stopped", code=code)
            await self._inbox.finish(self._tid, "chain", code)
        except* TimeoutError:
            await self._inbox.finish(self._tid, "gave-up", "no-end")
        finally:
            # The end that `finish` told of has this task cancelled: the folder goes all the same
            await asyncio.shield(asyncio.to_thread(_remove, self._folder, set(self._working)))

    async def _passes(self) -> None:
        """All packs, and again for a destination that was away while another was not, and for what a PACS has lost."""
        pause = _PAUSE_FIRST
        while True:
            await self._pass()
            if self._routes.missed:
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MOST)
            elif not await self._prove():
                return
            if not await self._load():
                return

    async def _prove(self) -> bool:
        """Whether there is something to send once more."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(storing.prove()) for storing in self._routes]
        return any(task.result() for task in asked)

    async def _pass(self) -> None:
        async with asyncio.TaskGroup() as group:
            booking = [group.create_task(ledger.book()) for ledger in self._routes.ledgers]
            try:
                await self._deliver()
            finally:
                await self._flush()
                for task in booking:
                    task.cancel()

    async def _flush(self) -> None:
        for ledger in self._routes.ledgers:
            await ledger.flush()

    async def _why(self) -> str:
        """The code of what is missing at a destination, `pacs` where there is more than one; empty: nothing is."""

        def work(con: Con) -> str:
            if not value(con, "SELECT 1 FROM ledger_items WHERE tid=? AND state<>'stored'", (self._tid,)):
                return ""
            sql = "SELECT DISTINCT note FROM ledger WHERE tid=? AND state<>'stored'"
            notes = {r["note"] for r in rows(con, sql, (self._tid,))}
            return notes.pop() if notes in ({CONFLICT}, {LOST}) else "pacs"

        return await self._db.run(work)

    async def _load(self) -> bool:
        def work(con: Con) -> sqlite3.Row | None:
            row = one(con, "SELECT * FROM receives WHERE tid=? AND state='OPENED'", (self._tid,))
            if row is None or row["k_sealed"] is None:
                return None
            self._routes.load(con, SiteId(row["peer"]), self._clock.now())
            self._identity = frozen_of(con, self._tid)
            return row

        row = await self._db.run(work)
        if row is None:
            return False
        self._cid = Cid(row["cid"])
        self._key = ContentKey(self._vault.open("content-key", row["k_sealed"]))
        self._peer = SiteId(row["peer"])
        self._chain = Chain(self._cid, self._peer)
        self._patience = max(1, row["opened_at"] + NO_END - self._clock.now())
        self._hashes.clear()
        return True

    # The stream

    async def _deliver(self) -> None:
        ready: asyncio.Queue[asyncio.Task[_Handed | None] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_AHEAD)
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(self._store_all(ready))
            async for item, coded in self._items():
                await self._room.acquire()
                task = group.create_task(self._restore(item, coded))
                ready.put_nowait(task)
                if self._identity is None:  # the first one decides under whose name all are filed
                    await task
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
                    if not self._routes.is_settled(item):
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
        i = self._chain.next - 1

        def work(con: Con) -> None:
            con.execute(
                "INSERT OR IGNORE INTO in_records (cid, i, n, compact) VALUES (?,?,?,?)",
                (self._cid, i, n, text),
            )
            self._routes.list_items(con, items)
            for series in self._chain.series.values():
                con.execute(
                    "INSERT INTO in_series (cid, no, uid, want, closed) VALUES (?,?,?,?,?) ON CONFLICT (cid, no)"
                    " DO UPDATE SET want=excluded.want, closed=excluded.closed",
                    (self._cid, series.no, series.uid, series.want, int(series.closed)),
                )
            if self._chain.ended:
                con.execute("UPDATE receives SET total=? WHERE tid=?", (self._chain.total, self._tid))

        await self._routes.write(work)
        self._prefetch.signal(self._cid).set()  # it may go further now
        self._changed.set()

    async def _restore(self, item: ItemEntry, coded: bytes) -> _Handed | None:
        """The instance as a file, and who gets it; None where it cannot be had: then it is a gap."""
        path = self._folder / f"{item.no}.dcm"
        try:
            if item.original > self._largest:
                raise HashError
            known = self._identity
            change = known.change if known is not None else None
            header = await self._with_room(lambda: restore(item, coded, path, change))
            await self._label(item.series, header)
            if is_report(item.sop_class):
                now = self._clock.now()
                await self._routes.write(lambda con: note_report(con, self._tid, item, header, now))
            if known is None:
                known = self._identity = await self._identities.of(self._tid, self._peer, header)
            await self._identities.check(self._tid, known, header)
            if change is None and (first := known.change) is not None:  # of the one that has decided it
                offset = header.data_offset
                await self._with_room(lambda: file_under(item, path, offset, first))
        except (CodecError, HashError, IntakeError) as why:
            log.error("item does not restore", code=why.code)
            self._routes.fail(item, why.code)
            self._room.release()
            return None
        return _Handed(Ready(item, path, header), await self._routes.of(item, header))

    async def _with_room(self, work: Callable[[], T | None]) -> T:
        """In a worker, again until the disk has room for what it writes."""
        while not (done := await self._in_thread(work)):
            with contextlib.suppress(DiskFullError):
                await self._alarm(DiskFullError.code, DiskFullError().sentence)
            await asyncio.sleep(REST)
        return done

    async def _label(self, series: int, h: InstanceHeader) -> None:
        """What the inbox shows of a series and its patient: the words of its first restored instance."""
        if series in self._labelled:
            return
        self._labelled.add(series)
        label = series_label(h.modality, h.series_number, h.series_description)
        what = ", ".join(x for x in (h.modality, h.study_description, h.study_date) if x)

        def work(con: Con) -> None:
            con.execute(
                "UPDATE in_series SET label=?, modality=? WHERE cid=? AND no=?",
                (label, h.modality, self._cid, series),
            )
            con.execute(
                "UPDATE receives SET patient_name=?, birth_date=?, what=? WHERE tid=?",
                (h.patient_name, h.birth_date, what, self._tid),
            )

        await self._routes.write(work)

    # The destinations

    async def _store_all(self, handed: asyncio.Queue[asyncio.Task[_Handed | None] | None]) -> None:
        async with asyncio.TaskGroup() as group:
            while (task := await handed.get()) is not None:
                found = await task
                if found is None:
                    continue
                to = [storing for storing in found.to if storing.takes()]
                for storing in to:
                    await storing.announce(found.ready, self._chain.items)
                group.create_task(self._store(found.ready, to))

    async def _store(self, ready: Ready, to: list[Storing]) -> None:
        """One instance, at each of its destinations."""
        try:
            async with asyncio.TaskGroup() as group:
                for storing in to:
                    group.create_task(storing.store(ready))
        finally:
            await asyncio.to_thread(ready.path.unlink, True)
            self._room.release()

    async def _alarm(self, code: str, sentence: str) -> None:
        now = self._clock.now()
        await self._db.run(lambda con: audit.alarm(con, self._tid, code, sentence, now))
        self._changed.set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """In a worker. One that has begun goes on where its delivery is cancelled: it is remembered, for the end."""
        future = self._workers.submit(work)
        self._working.add(future)
        future.add_done_callback(self._working.discard)
        return await asyncio.wrap_future(future)


def _open_file(path: Path, key: ContentKey, cid: Cid, kind: str, n: int) -> tuple[bytes, bytes]:
    ct = path.read_bytes()
    return open_pack(key, cid, kind, n, ct), hashlib.sha256(ct).digest()  # type: ignore[arg-type]


def _remove(folder: Path, working: set[Future[Any]]) -> None:
    """Deletes the folder, after whoever may still be writing into it."""
    wait(working)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
