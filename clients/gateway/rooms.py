"""The gateway's rooms, put together and kept running.

`Rooms` opens the folder (lock, database, vault), builds each room with what it needs, and runs their loops.
A loop that fails by an error of ours is logged by its type, rests, and begins again: every loop starts from
the database, so nothing is lost by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from clients.gateway.auditing.shipping import Shipping
from clients.gateway.clock import Clock, Random, Signal, SystemClock, system_random
from clients.gateway.config import load_config, split_address
from clients.gateway.dicom.scp import Received, Reported, ScpConfig, StorageScp
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.dicom.tls import tls_files
from clients.gateway.dicom.worklist import Worklist
from clients.gateway.errors import GatewayError, RelayDownError, leaf
from clients.gateway.folder import read_identity
from clients.gateway.hl7.service import Hl7Service
from clients.gateway.ladder import load_ladder
from clients.gateway.lock import FolderLock
from clients.gateway.log import about
from clients.gateway.peers.dispatch import Dispatch
from clients.gateway.peers.outbox import Outbox
from clients.gateway.peers.pins import Pins
from clients.gateway.peers.relay import RelayClient, RelayRefusal
from clients.gateway.receiving.commitment import Commitments
from clients.gateway.receiving.delivery import Delivery
from clients.gateway.receiving.destinations import Destinations, destinations_of
from clients.gateway.receiving.holdings import Holdings
from clients.gateway.receiving.identity import Identities
from clients.gateway.receiving.inbox import Inbox
from clients.gateway.receiving.prefetch import Prefetch
from clients.gateway.receiving.reconciling import Reconciling, worklist_of
from clients.gateway.receiving.transcoding import Transcoder
from clients.gateway.sending.archive import ArchiveRooms
from clients.gateway.sending.doors import Doors
from clients.gateway.sending.imports import Imports
from clients.gateway.sending.offering import SiteWords
from clients.gateway.sending.offers import Offers
from clients.gateway.sending.packer import Packer
from clients.gateway.sending.reminder import Reminder
from clients.gateway.sending.reports import Reports
from clients.gateway.sending.rungs import Rungs
from clients.gateway.sending.studies import Arrival, Studies
from clients.gateway.sending.uploader import Uploader
from clients.gateway.store.database import Database, rows
from clients.gateway.store.retention import forget
from clients.gateway.store.vault import Vault
from transfer.errors import StateError
from transfer.ids import Cid, SiteId, Tid

log = structlog.get_logger()
_SWEEP = 1.0
_REFRESH = 60.0
_ADOPTED_AT_ONCE = 64
_FORGET = 600.0
_ASK = 2.0
"""Seconds between two looks for the key of a destination that has none."""
_FOLLOW = 0.5
"""Seconds between two looks for late images, while each image that arrives is a change."""


class Rooms:
    """One gateway, open. `dicom=False` leaves the SCP out: a command beside a scanner's port."""

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, random: Random = system_random, dicom: bool = True
    ) -> None:
        self.folder, self.config, self.ladder = folder, load_config(folder), load_ladder(folder)
        self.clock, self.random = clock or SystemClock(), random
        self._dicom = dicom
        self.arrived, self.packed, self.outgoing, self.changed = Signal(), Signal(), Signal(), Signal()
        self.workers = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="work")
        self._tasks: list[asyncio.Task[None]] = []
        self._packers: dict[Cid, asyncio.Task[None]] = {}
        self._deliveries: dict[Tid, asyncio.Task[None]] = {}
        self.restarts: Counter[str] = Counter()
        """How often each loop began again, since the start."""
        self.scp: StorageScp | None = None
        self.scp_address: tuple[str, int] | None = None
        self.destinations: Destinations | None = None
        self.transcoder = Transcoder()
        self.scu: StoreScu | None = None
        """Of the default destination."""

    async def open(self) -> None:
        """Takes the lock and starts everything. Raises `BusyError`, `ConfigError`, and leaves nothing behind then."""
        async with AsyncExitStack() as ends:
            lock = FolderLock(self.folder)
            ends.callback(lock.release)
            await self._build(ends)
            self._ends = ends.pop_all()
        for name, loop in self._loops().items():
            self.restarts[name] = 0
            self._tasks.append(asyncio.create_task(self._keep(name, loop)))

    async def _build(self, ends: AsyncExitStack) -> None:
        self.vault = Vault.load(self.folder)
        self.db = Database(self.folder / "gateway.db")
        await self.db.open()
        ends.push_async_callback(self.db.close)
        ends.push_async_callback(asyncio.to_thread, self.workers.shutdown)
        self.identity = await self.db.run(lambda con: read_identity(con, self.vault))
        c = self.config
        self.shipping = Shipping.of(c, self.db, self.clock, self.changed) if c.audit.syslog else None
        self.relay = RelayClient(c.relay.url, self.identity.key, self.clock, self.random, c.relay.ca_file)
        await self.relay.open()
        ends.push_async_callback(self.relay.close)
        self.pins = Pins(self.db, self.vault, self.identity, self.relay, self.clock, self.random)
        self.studies = Studies(self.db, self.clock, self.folder, self.arrived, self.changed)
        self.offers = Offers(
            self.db,
            self.vault,
            self.identity,
            self.clock,
            self.random,
            self.outgoing,
            self.changed,
            self.ladder,
        )
        self.rungs = Rungs(self.db, self.offers, self.clock, self.outgoing, self.changed)
        self.imports = Imports(self.db, self.clock, self.studies, self.offers, self.outgoing)
        self.archive = ArchiveRooms(
            c, self.folder, self.db, self.clock, self.studies, self.pins, self.arrived, self.changed,
            receives=self._dicom,
        )  # fmt: skip
        self.reports = Reports(self.db, self.clock, self.studies, c.site.name)
        self.hl7 = Hl7Service(
            c.hl7, self.db, self.clock, self.reports, self.folder, self.arrived, self.changed
        )
        self.doors = Doors(
            self.db,
            self.vault,
            self.identity,
            self.offers,
            self.clock,
            self.random,
            self.outgoing,
            self.changed,
            lambda: self.uploader.pace.make_way(time.monotonic()),
        )
        self.inbox = Inbox(
            self.db, self.vault, self.identity, self.pins, self.clock, self.outgoing, self.changed
        )
        self.identities = Identities(
            self.db, self.clock, c.identity.policy, c.dicom.aet, self.changed, c.identity.wait_seconds
        )
        worklist = Worklist(worklist_of(c))
        self.reconciling = Reconciling(
            self.db, self.clock, self.identities, worklist, c.identity.policy, c.identity.issuer
        )
        self.commitments, self.holdings = Commitments(heard=self._dicom), Holdings(self.db, self.clock)
        # what a crash left in the clear belongs to no delivery any more
        await asyncio.to_thread(shutil.rmtree, self.folder / "restored", True)
        for name in ("spool", "sealed", "restored"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        self.prefetch = Prefetch(
            self.db,
            self.relay,
            self.folder / "sealed",
            c.policy.prefetch_bytes,
            self.inbox.moved,
            self.changed,
        )
        self.uploader = Uploader(
            self.db, self.relay, self.clock, self.folder / "spool", self.packed, self.changed
        )
        self.reminder = Reminder(self.db, self.relay, self.identity, self.uploader)
        self.outbox = Outbox(
            self.db, self.relay, self.clock, self.outgoing, self.changed, self.offers.refused
        )
        self.dispatch = Dispatch(
            self.db, self.relay, self.pins, self.doors, self.offers, self.inbox, self.clock
        )
        ends.push_async_callback(self.hl7.stop)
        if self._dicom:
            await self.hl7.start()
        await self._open_dicom(ends)

    async def _open_dicom(self, ends: AsyncExitStack) -> None:
        c = self.config
        ends.push_async_callback(self._stop_dicom)
        self.destinations = destinations_of(c, self.commitments.report)
        if self.destinations is not None:
            self.scu = self.destinations.default.scu
            await self.destinations.start(children=self._dicom)  # else each starts when it is first needed
        if self._dicom:
            host, port = split_address(c.dicom.listen)
            self.scp = StorageScp(
                ScpConfig(
                    aet=c.dicom.aet, host=host, port=port, allow_aets=tuple(c.dicom.allow_aets),
                    allow_addresses=c.dicom.allow_addresses,
                    max_associations=c.dicom.max_associations, max_instance_bytes=c.dicom.max_instance_bytes,
                    min_free_bytes=c.dicom.min_free_bytes, tls=tls_files(c.dicom),
                ),
                self.folder,
            )  # fmt: skip
            self.scp_address = await self.scp.start()

    async def _stop_dicom(self) -> None:
        """All children at once: each may be in the middle of an image."""
        rooms = (self.scp, self.destinations, self.archive, self.transcoder)
        await asyncio.gather(*(room.stop() for room in rooms if room is not None))

    async def close(self) -> None:
        """Stops every loop, waits for what is being written, frees the folder."""
        tasks = [*self._tasks, *self._packers.values(), *self._deliveries.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ends.aclose()

    # The loops

    def _loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "studies": self.studies.run,
            "imports": self.imports.run,
            "outbox": self.outbox.run,
            "queue": self.dispatch.run,
            "upload": self.uploader.run,
            "prefetch": self.prefetch.run,
            "offers": self._make_offers,
            "packers": self._keep_packers,
            "deliveries": self._keep_deliveries,
            "time": self._watch_time,
            "reminder": self.reminder.run,
            "prekeys": self._renew_prekeys,
            **self.archive.loops(),
            **self.hl7.loops(),
        }
        if self.scp is not None:
            loops["dicom"] = self._take_instances
        if self.shipping is not None:
            loops["audit"] = self.shipping.run
        return loops

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        pause = 0.5
        while True:
            try:
                await loop()
                return
            except asyncio.CancelledError:
                raise
            except GatewayError as why:
                log.error("a loop rests", loop=name, code=why.code)
            except Exception as why:  # the loop begins again from the database
                log.error("a loop failed", loop=name, kind=type(leaf(why)).__name__)
            self.restarts[name] += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 15.0)

    async def _take_instances(self) -> None:
        assert self.scp is not None
        room = asyncio.Semaphore(_ADOPTED_AT_ONCE)

        async def adopt(event: Received) -> None:
            try:
                arrival = Arrival(self.studies.incoming / event.name, event.calling_aet)
                self.archive.pulls.arrived(event, await self.studies.adopt(arrival))
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            async for event in self.scp.events():
                if isinstance(event, Received):
                    await room.acquire()
                    group.create_task(adopt(event))
                elif isinstance(event, Reported):
                    self.commitments.report(event.report)

    async def _make_offers(self) -> None:
        asked: dict[Tid, float] = {}
        held, next_look = False, 0.0
        while True:
            seen = self.changed.seen
            if time.monotonic() >= next_look:
                held = await self.offers.follow_up()
                next_look, rest = time.monotonic() + _FOLLOW, 30.0
            else:
                rest = max(0.0, next_look - time.monotonic())
            waiting = await self.offers.waiting_for_prekey()
            asked = {tid: asked[tid] for tid, _ in waiting if tid in asked}
            for tid, peer in waiting:
                # changes come often: each destination is asked for its key now and then
                if time.monotonic() >= asked.get(tid, 0.0) + _ASK:
                    asked[tid] = time.monotonic()
                    with about(tid):
                        await self._make_offer(tid, peer)
            await self.changed.wait(seen, min(rest, _ASK) if waiting or held else rest)

    async def _make_offer(self, tid: Tid, peer: SiteId) -> None:
        seconds = self.config.policy.offer_seconds
        try:
            found = await self.pins.prekey_of(peer, self.clock.now() + seconds)
        except (RelayDownError, RelayRefusal):
            found = None
        if found is None:
            await self.offers.no_prekey(tid)
            return
        words = SiteWords(self.config.site.name, self.config.site.call)
        with contextlib.suppress(StateError):  # stopped meanwhile
            await self.offers.offer(tid, *found, words, seconds)
            self.uploader.pace.make_way(time.monotonic())

    async def _keep_packers(self) -> None:
        while True:
            seen = self.changed.seen
            found = await self.db.run(
                lambda con: rows(
                    con,
                    "SELECT cid, study, (SELECT min(tid) FROM sends WHERE sends.cid=spools.cid) AS tid FROM spools"
                    " WHERE ended=0 AND dropped=0 AND k_sealed IS NOT NULL",
                )
            )
            wanted = {Cid(r["cid"]): (str(r["study"]), r["tid"]) for r in found}
            for cid in [c for c in self._packers if c not in wanted or self._packers[c].done()]:
                self._packers.pop(cid).cancel()
            for cid, (study, tid) in wanted.items():
                if cid not in self._packers:
                    with about(tid):  # a task keeps what is said where it begins
                        self._packers[cid] = asyncio.create_task(
                            self._keep("packer", self._packer(cid, study).run)
                        )
            await self.changed.wait(seen, 30.0)

    def _packer(self, cid: Cid, study: str) -> Packer:
        return Packer(
            cid=cid, study=study, db=self.db, vault=self.vault, identity=self.identity, random=self.random,
            incoming=self.studies.incoming, spool=self.folder / "spool", workers=self.workers, arrived=self.arrived,
            packed=self.packed, bucket=self.uploader.bucket, clock=self.clock,
        )  # fmt: skip

    async def _keep_deliveries(self) -> None:
        while True:
            seen = self.inbox.moved.seen
            found = await self.db.run(lambda con: rows(con, "SELECT tid FROM receives WHERE state='OPENED'"))
            wanted = {Tid(r["tid"]) for r in found}
            for tid in [t for t in self._deliveries if t not in wanted or self._deliveries[t].done()]:
                self._deliveries.pop(tid).cancel()
            for tid in wanted - self._deliveries.keys():
                if self.destinations is not None:
                    with about(tid):
                        self._deliveries[tid] = asyncio.create_task(
                            self._keep("delivery", self._delivery(tid).run)
                        )
            await self.inbox.moved.wait(seen, 30.0)

    def _delivery(self, tid: Tid) -> Delivery:
        assert self.destinations is not None
        return Delivery(
            tid=tid, db=self.db, vault=self.vault, inbox=self.inbox, identities=self.identities,
            prefetch=self.prefetch, destinations=self.destinations, transcoder=self.transcoder,
            holdings=self.holdings, commitments=self.commitments, folder=self.folder / "restored",
            workers=self.workers, clock=self.clock, changed=self.changed,
            deadline=self.config.policy.deadline_seconds,
            largest=self.config.dicom.max_instance_bytes,
        )  # fmt: skip

    async def _watch_time(self) -> None:
        await self.prefetch.sweep()
        forgot = time.monotonic()
        while True:
            await self.offers.expire()
            await self.inbox.expire()
            await self.studies.close_quiet(self.config.policy.quiet_seconds)
            await self.studies.forget_old(self.config.policy.keep_seconds)
            await self.uploader.drop_spools()
            if time.monotonic() - forgot > _FORGET:
                forgot = time.monotonic()
                await self._forget()
            await asyncio.sleep(_SWEEP)

    async def _forget(self) -> None:
        """Names, UIDs and refused files of what ended long ago; restored files that no delivery owns any more."""
        now = self.clock.now()
        erased, files = await self.db.run(lambda con: forget(con, now))
        if erased:
            await self.db.scrub()
        for name in files:
            (self.studies.refused / name).unlink(missing_ok=True)
        await self.archive.pulls.forget_old(self.config.policy.keep_seconds)
        kept = {tid.hex() for tid in self._deliveries}
        for folder in (self.folder / "restored").iterdir():
            if folder.name not in kept:
                await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _renew_prekeys(self) -> None:
        """Our own pre-keys, and which peers have one: looked at each minute and when a site is paired."""
        while True:
            seen = self.pins.paired.seen
            await self.pins.renew()
            await self.pins.refresh()
            self.changed.set()
            await self.pins.paired.wait(seen, _REFRESH)
