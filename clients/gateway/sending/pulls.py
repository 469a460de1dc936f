"""Studies that staff bring here from the hospital's own archive (C-FIND, C-MOVE, C-GET), one after the other.

A pull is not done when the PACS says so. What the PACS lists at IMAGE level is held against what is here before, so
that nothing is fetched twice, and again at the end; only a set without a gap is COMPLETE, and closes the study. Where
the PACS lists no images, the numbers of its series stand in; where it says nothing, the pull is UNVERIFIED and the
study closes by quiet time like any other.

Images come by the SCP (C-MOVE) or on the pull's own association (C-GET) and are adopted like any other arrival: those
of another study are taken in as what they are and counted as `others`. A pull that a crash cut off begins again at the
next start, which costs little: what came is not fetched again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
import time
import uuid

import msgspec
import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.dicom.part10 import is_uid
from clients.gateway.dicom.query import Terms
from clients.gateway.dicom.scp import Received
from clients.gateway.dicom.source import Done, How, Listing, Missed, Moved, Source
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.pulled import SearchView
from clients.gateway.sending import pull_words
from clients.gateway.sending.closing import OPEN_PULLS
from clients.gateway.sending.held import held_against, here_of, is_stranger, match_view, name_pull, says
from clients.gateway.sending.pull_words import CANCELLED, Reach, went_through
from clients.gateway.sending.studies import Adopted, Arrival, Studies
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, value

log = structlog.get_logger()
SILENT = 120.0
"""Seconds without an image or a word of the PACS after which a pull is stopped."""
SETTLE = 3.0
"""Seconds after the last image in which one that was answered may still get its row here."""
_WAITING = 50
_AT_ONCE = 64
_KEPT_MISSES = 1000


class Progress(msgspec.Struct, kw_only=True):
    """The pull that is under way."""

    id: str
    uid: str
    message: int
    moved_at: float
    completed: int = 0
    failed: int = 0
    warned: int = 0
    remaining: int = -1
    counted: int = 0
    """Images that came by it and were taken in, or refused."""
    by_study: dict[str, int] = {}
    """Images that came by it, by our id of their study."""
    refused: int = 0
    misses: list[str] = []
    status: int | None = None
    trouble: str = ""
    cancelled: asyncio.Event
    stopped: bool = False
    """Staff stopped it."""
    silent: bool = False
    """Nothing moved for too long."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a pull."""

    state: str
    code: str
    wanted: int
    here: int
    missing: int


class Pulls:
    """Brings studies here."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        studies: Studies,
        changed: Signal,
        *,
        source: Source | None,
        how: How,
        reach: Reach,
        receives: bool,
        silent: float = SILENT,
        settle: float = SETTLE,
    ) -> None:
        self._db, self._clock, self._studies, self._changed = db, clock, studies, changed
        self._source, self._how, self.reach, self._silent = source, how, reach, silent
        self._settle_seconds = settle
        self._receives = receives  # our own SCP runs, so a C-MOVE has where to go
        self._wanted, self._arrived = Signal(), Signal()
        self._landed: asyncio.Queue[Received] = asyncio.Queue()
        self.now: Progress | None = None

    # What staff ask

    async def search(self, terms: Terms, actor: str) -> SearchView:
        """Studies at the archive. Raises `GatewayError` where none is set."""
        source = self._given()
        now = self._clock.now()
        kinds = " ".join(name for name in msgspec.structs.asdict(terms) if getattr(terms, name))
        await self._db.run(lambda con: audit.record(con, actor, "archive.search", "", kinds, now))
        found = await source.find(terms)
        if found.trouble:
            return SearchView(
                matches=[], more=False, sentence=pull_words.trouble(found.trouble), code=found.trouble
            )
        if found.status != 0:
            sentence = pull_words.query_refused(found.status or 0)
            return SearchView(matches=[], more=False, sentence=sentence, code="source-status")
        matches = await self._db.run(lambda con: [match_view(con, m) for m in found.matches])
        matches.sort(key=lambda m: (m.date, m.time), reverse=True)
        return SearchView(matches=matches, more=found.more, sentence=pull_words.found(len(matches), found))

    async def begin(self, uid: str, actor: str) -> str:
        """The id of the pull of this study: a new one, or the one that is open. Raises `GatewayError`."""
        self._given()
        if not is_uid(uid):
            raise GatewayError(pull_words.trouble("source-refused"), code="source-refused")
        if self._how == "move" and not self._receives:
            raise GatewayError(pull_words.trouble("source-no-scp"), code="source-no-scp")
        ident, now = uuid.uuid4().hex, self._clock.now()

        def work(con: Con) -> str:
            open_one = value(con, f"SELECT id FROM pulls WHERE uid=? AND state IN {OPEN_PULLS}", (uid,))
            if open_one is not None:
                return str(open_one)
            if value(con, f"SELECT count(*) FROM pulls WHERE state IN {OPEN_PULLS}") >= _WAITING:
                raise GatewayError(pull_words.trouble("pull-many"), code="pull-many")
            con.execute(
                "INSERT INTO pulls (id, uid, how, actor, at, state) VALUES (?,?,?,?,?,'WAITING')",
                (ident, uid, self._how, actor, now),
            )
            audit.record(con, actor, "study.pull", ident, "", now)
            return ident

        ident = await self._db.run(work)
        self._wanted.set()
        self._changed.set()
        return ident

    async def cancel(self, ident: str, actor: str) -> None:
        """Staff want it no more. What is here stays. Raises `AbsentError`."""
        now = self._clock.now()

        def work(con: Con) -> None:
            if not value(con, "SELECT 1 FROM pulls WHERE id=?", (ident,)):
                raise AbsentError
            con.execute(
                "UPDATE pulls SET state='STOPPED', ended_at=? WHERE id=? AND state='WAITING'", (now, ident)
            )
            audit.record(con, actor, "study.pull-stop", ident, "", now)

        await self._db.run(work)
        if self.now is not None and self.now.id == ident:
            self.now.stopped = True
            self.now.cancelled.set()
        self._changed.set()

    def _given(self) -> Source:
        if self._source is None:
            raise GatewayError(pull_words.trouble("source-none"), code="source-none")
        return self._source

    # What comes

    def landed(self, event: Received) -> None:
        """An image of a C-GET is on disk."""
        self._landed.put_nowait(event)

    def arrived(self, event: Received, adopted: Adopted) -> None:
        """An image was taken in, or not; it may belong to the pull that is under way."""
        now = self.now
        if now is None or self._source is None:
            return
        if event.originator == now.message:
            now.moved_at, now.counted = time.monotonic(), now.counted + 1
            if adopted.code not in ("", "same"):
                now.refused += 1
            elif adopted.study:
                now.by_study[adopted.study] = now.by_study.get(adopted.study, 0) + 1
        elif event.calling_aet == self._source.archive.aet:  # not every PACS says by which C-MOVE it sends
            now.moved_at = time.monotonic()
        self._arrived.set()

    async def take(self) -> None:
        """Adopts images of C-GETs, until cancelled."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def adopt(event: Received) -> None:
            try:
                arrival = Arrival(self._studies.incoming / event.name, event.calling_aet)
                self.arrived(event, await self._studies.adopt(arrival))
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            while True:
                event = await self._landed.get()
                await room.acquire()
                group.create_task(adopt(event))

    # One after the other

    async def run(self) -> None:
        """Brings what was asked for, also before a crash, until cancelled."""
        while True:
            seen = self._wanted.seen
            row = await self._db.run(
                lambda con: one(
                    con, f"SELECT * FROM pulls WHERE state IN {OPEN_PULLS} ORDER BY at, rowid LIMIT 1"
                )
            )
            if row is None:
                await self._wanted.wait(seen, 60.0)
            else:
                await self._one(row)

    async def _one(self, row: sqlite3.Row) -> None:
        ident, uid = str(row["id"]), str(row["uid"])
        self.now = Progress(
            id=ident, uid=uid, message=secrets.randbelow(0xFFFE) + 1, moved_at=time.monotonic(), by_study={}, misses=[],
            cancelled=asyncio.Event(),
        )  # fmt: skip
        await self._db.run(lambda con: con.execute("UPDATE pulls SET state='RUNNING' WHERE id=?", (ident,)))
        self._changed.set()
        try:
            verdict = await self._pull(self.now, row["how"])
        except Exception as why:
            log.error("a pull failed", kind=type(why).__name__)
            code = why.code if isinstance(why, GatewayError) else "gateway"
            verdict = Verdict(state="FAILED", code=code, wanted=-1, here=0, missing=-1)
        progress, self.now = self.now, None
        await self._end(progress, verdict, row["actor"])

    async def _pull(self, now: Progress, how: How) -> Verdict:
        source = self._given()
        found = await source.find(Terms(study=now.uid), 1)
        if found.matches:
            await self._db.run(lambda con: name_pull(con, now.id, found.matches[0]))
            self._changed.set()
        before = await source.listing(now.uid)
        if before.answered:
            if not before.images and not any(before.series.values()):
                return await self._verdict(now, before, code="pull-absent")
            if before.by_image and not await self._missing(now.uid, before):
                return await self._verdict(now, before)
        elif before.trouble and before.trouble not in ("pacs-query", "source-too-many"):
            return await self._verdict(now, before, code=before.trouble)
        classes = sorted({image.sop_class for image in before.images.values()} - {""})
        wanted = len(before.images) or -1
        await self._db.run(lambda con: con.execute("UPDATE pulls SET wanted=? WHERE id=?", (wanted, now.id)))
        await self._retrieve(source, now, how, classes)
        after = await source.listing(now.uid) if not now.stopped else before
        known = after if after.answered else before
        await self._settle(now, known)
        return await self._verdict(now, known, grown=bool(after.images.keys() - before.images.keys()))

    async def _retrieve(self, source: Source, now: Progress, how: How, classes: list[str]) -> None:
        now.moved_at = time.monotonic()
        watch = asyncio.create_task(self._watch(now))
        try:
            async with contextlib.aclosing(
                source.retrieve(how, now.uid, now.message, classes, now.cancelled)
            ) as lines:
                async for line in lines:
                    self._hear(now, line)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    def _hear(self, now: Progress, line: Moved | Missed | Done) -> None:
        if isinstance(line, Moved):
            # a response without counts (-1) shows no progress, however many come
            counts = (max(0, line.completed), max(0, line.failed), max(0, line.warning), line.remaining)
            if counts != (now.completed, now.failed, now.warned, now.remaining):
                now.moved_at = time.monotonic()
            now.completed, now.failed, now.warned, now.remaining = counts
        elif isinstance(line, Missed):
            now.misses += line.uids[: _KEPT_MISSES - len(now.misses)]
        else:
            now.status, now.trouble = line.status, line.trouble
        self._changed.set()

    async def _watch(self, now: Progress) -> None:
        """Stops a pull in which nothing moves."""
        while True:
            left = now.moved_at + self._silent - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(left, 1.0))
        now.silent = True
        now.cancelled.set()

    async def _settle(self, now: Progress, known: Listing) -> None:
        """What the PACS was told is stored gets its row here a moment later."""
        begun = time.monotonic()
        while True:
            seen = self._arrived.seen
            if known.by_image and not await self._missing(now.uid, known):
                return
            if now.status is not None and now.counted >= now.completed + now.warned:
                return  # all that it sent is here, and it sent no more
            left = max(begun, now.moved_at) + self._settle_seconds - time.monotonic()
            if left <= 0:
                return
            await self._arrived.wait(seen, left)

    async def _missing(self, uid: str, listing: Listing) -> set[str]:
        here = await self._db.run(lambda con: here_of(con, uid))
        return listing.images.keys() - here.keys()

    async def _verdict(
        self, now: Progress, known: Listing, *, code: str = "", grown: bool = False
    ) -> Verdict:
        here = await self._db.run(lambda con: here_of(con, now.uid))
        wanted, missing = held_against(known, here)
        why = code or self._why(now)
        if now.stopped and missing != 0:
            state = "STOPPED"
        elif missing == 0 and wanted > 0:
            state, why = "COMPLETE", ""
        elif missing > 0 and here:
            state, why = "INCOMPLETE", why or ("pull-changed" if grown else "pull-failed")
        elif why or not here:
            state, why = "FAILED", why or "pull-failed"
        else:
            state = "UNVERIFIED"
        return Verdict(state=state, code=why, wanted=wanted, here=len(here), missing=missing)

    def _why(self, now: Progress) -> str:
        """What stood in the way, as a code."""
        if now.silent:
            return "pull-silent"
        if now.trouble:
            return now.trouble
        if now.status is not None and now.status != CANCELLED and not went_through(now.status):
            return "source-status"
        if now.refused:
            return "pull-refused"
        return "pull-failed" if now.failed else ""

    async def _end(self, now: Progress, verdict: Verdict, actor: str) -> None:
        at = self._clock.now()

        def work(con: Con) -> None:
            row = one(con, "SELECT * FROM pulls WHERE id=?", (now.id,))
            study = one(con, "SELECT * FROM studies WHERE uid=?", (now.uid,))
            own = str(study["id"]) if study is not None else ""
            others = sum(n for ident, n in now.by_study.items() if ident != own)
            stranger = study is not None and row is not None and is_stranger(row, study)
            con.execute(
                "UPDATE pulls SET state=?, code=?, status=?, ended_at=?, wanted=?, here=?, missing=?, completed=?,"
                " failed=?, warned=?, remaining=?, others=?, refused=?, stranger=? WHERE id=?",
                (
                    verdict.state, verdict.code, now.status, at, verdict.wanted, verdict.here, verdict.missing,
                    now.completed, now.failed, now.warned, now.remaining, others, now.refused, int(stranger), now.id,
                ),
            )  # fmt: skip
            con.executemany(
                "INSERT OR IGNORE INTO pull_misses (pull, uid) VALUES (?,?)",
                [(now.id, uid) for uid in now.misses],
            )
            if own and verdict.missing >= 0:
                says(con, own, at, "", verdict.wanted, verdict.missing)
            if own and verdict.state == "COMPLETE" and not stranger:
                con.execute(
                    "UPDATE studies SET closed=1, closed_by='archive' WHERE id=? AND closed=0", (own,)
                )
            said = f"{verdict.state} {verdict.code}".strip()
            audit.record(con, actor, "study.pulled", now.id, said, at)

        await self._db.run(work)
        self._studies.tell()

    async def forget_old(self, keep: int) -> None:
        """Pulls that ended `keep` seconds ago, with the names in them."""
        before = self._clock.now() - keep
        gone = await self._db.run(
            lambda con: con.execute("DELETE FROM pulls WHERE ended_at>0 AND ended_at<?", (before,)).rowcount
        )
        if gone:
            await self._db.scrub()
