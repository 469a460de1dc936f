"""Paths that staff name: all of them taken in first, or their study offered while it still comes (ADR 0016).

`early` surveys a folder by its headers. Where nothing is left to decide, one transaction says what is to come
(`imports`, `import_files`), the first image is taken in, and whoever asked may make the offer; the others
follow in clinical order while the offer, the packer and the uploads are under way. A study is not closed while
an import of it is open, so no last record is written and nobody calls it complete. When the last image is in,
one transaction forgets the import and closes the study.

An import that a crash cut off goes on at the next start, if the folder still holds what the survey saw. If it
does not, or a file turns out to be unreadable or another one, or the disk fills, the import is stopped for good:
what nobody has said yes to yet is stopped with it; what was released ends PARTIAL, because the packer counts
what never came as wanted. Both with an alarm that says why. `import_files` stays for that count; the path goes.

Everything else (a ZIP, a file to refuse, two studies, images that are here already) is taken in whole before
anybody is asked, as `whole` does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.errors import DiskFullError, GatewayError, ImportingError
from clients.gateway.intake.paths import stage_again, stage_all
from clients.gateway.intake.reasons import reject, sentence
from clients.gateway.intake.staging import check_room
from clients.gateway.intake.survey import Planned, Survey, survey
from clients.gateway.sending.offers import Offers
from clients.gateway.sending.studies import Arrival, Studies, add_series, add_study, learn, other_patient
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, rows, value

log = structlog.get_logger()
_AT_ONCE = 16
"""Files of an import on their way into the database."""
_AHEAD = 8
"""Files of an early import that are copied at once: the coders and the uploads want the machine too."""


class Imported(msgspec.Struct, frozen=True):
    """What became of a path."""

    studies: list[str]
    accepted: int
    skipped: list[tuple[str, str]]
    """Label and code of what was passed over."""


class Imports:
    """Takes paths in."""

    def __init__(self, db: Database, clock: Clock, studies: Studies, offers: Offers, outbox: Signal) -> None:
        self._db, self._clock, self._studies, self._offers = db, clock, studies, offers
        self._outbox, self._wanted = outbox, Signal()
        self._surveys: dict[int, Survey] = {}
        self._begun: dict[int, asyncio.Future[None]] = {}

    async def whole(self, path: Path, actor: str) -> Imported:
        """All that `path` holds is here, and its studies are closed. Raises `IntakeError`, `DiskFullError`.

        Not before what an earlier start left has its rows: what is copied meanwhile would be taken for some of it,
        in no order, and of two patients in one study the first has it.
        """
        await self._studies.settled()
        found, skipped = await asyncio.to_thread(stage_all, path, self._studies.incoming)
        room = asyncio.Semaphore(_AT_ONCE)

        async def adopt(file: Path) -> str:
            async with room:
                result = await self._studies.adopt(Arrival(file, "import"))
            if result.code and result.code != "same":
                skipped.append((file.name, result.code))
                return ""
            return result.study

        results = [r for r in await asyncio.gather(*(adopt(f) for f in found)) if r]
        ids = list(dict.fromkeys(results))
        for ident in ids:
            with contextlib.suppress(ImportingError):  # an early one closes it
                await self._studies.close(ident, actor)
        now = self._clock.now()
        said = _said(len(results), len(skipped))
        await self._db.run(lambda con: audit.record(con, actor, "study.import", "", said, now))
        return Imported(ids, len(results), skipped)

    async def early(self, path: Path, actor: str) -> Imported:
        """As soon as the first image is here and the others are known to be usable; or `whole`."""
        plan = await asyncio.to_thread(survey, path)
        if plan is None:
            return await self.whole(path, actor)
        await asyncio.to_thread(check_room, plan.size, self._studies.incoming)
        now = self._clock.now()
        entry = await self._db.run(lambda con: _begin(con, plan, path, actor, now))
        if entry is None:
            return await self.whole(path, actor)
        number, study = entry
        self._surveys[number] = plan
        begun = self._begun[number] = asyncio.get_running_loop().create_future()
        self._wanted.set()
        try:
            await begun
        finally:
            self._begun.pop(number, None)
        return Imported([study], len(plan.files), plan.skipped)

    # What goes on behind it

    async def run(self) -> None:
        """Finishes every import that is open, those of before a crash too, until cancelled. First comes what was
        copied before the crash and has no row yet: it need not be copied again, and would open a study whose import
        was stopped.
        """
        await self._studies.settled()
        busy: set[int] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                seen = self._wanted.seen
                found = await self._db.run(lambda con: rows(con, "SELECT * FROM imports WHERE stopped=''"))
                for row in found:
                    if row["id"] not in busy:
                        busy.add(row["id"])
                        group.create_task(self._one(row, busy))
                await self._wanted.wait(seen, 60.0)

    async def _one(self, row: sqlite3.Row, busy: set[int]) -> None:
        number = int(row["id"])
        try:
            await self._finish(row)
        except GatewayError as why:
            log.error("an import was stopped", code=why.code)
            await self._stop(row, why)
            if (begun := self._begun.get(number)) is not None and not begun.done():
                begun.set_exception(why)
        finally:
            self._surveys.pop(number, None)
            busy.discard(number)

    async def _finish(self, row: sqlite3.Row) -> None:
        """Takes in what is missing, then closes the study. Raises a `GatewayError` where that cannot be."""
        number, path = int(row["id"]), Path(row["path"])
        plan = self._surveys.get(number) or await asyncio.to_thread(survey, path)
        missing = await self._db.run(lambda con: _missing(con, number))
        if plan is None and not os.path.lexists(path):
            raise reject("import-absent")
        if plan is None or not await self._db.run(lambda con: _is_of(con, number, plan)):
            raise reject("import-changed")
        waiting = [file for file in plan.files if file.sop_uid in missing]
        for file in waiting[:1]:  # alone: the offer waits for it
            await self._take(path, file, row["study"])
        if (begun := self._begun.get(number)) is not None and not begun.done():
            begun.set_result(None)
        await _bounded((self._take(path, file, row["study"]) for file in waiting[1:]), _AHEAD)
        now = self._clock.now()
        if not await self._db.run(lambda con: _close(con, row, len(plan.files), now)):
            raise reject("import-changed")
        self._studies.tell()

    async def _take(self, path: Path, file: Planned, study: str) -> None:
        """One file of the plan, as an image of the study. Raises a `GatewayError`."""
        try:
            staged = await asyncio.to_thread(stage_again, path, file.name, file.size, self._studies.incoming)
        except DiskFullError as why:  # here nothing goes on by itself
            raise reject(why.code) from None
        except OSError:
            raise reject("import-unreadable") from None
        result = await self._studies.adopt(Arrival(staged.path, "import"))
        if result.code and result.code != "same":
            raise GatewayError(sentence(result.code), code=result.code)
        if result.study != study:
            raise reject("import-changed")

    async def _stop(self, row: sqlite3.Row, why: GatewayError) -> None:
        """The rest never comes. Raises `DiskFullError` where not even that can be said: it is tried again then."""
        now = self._clock.now()

        def work(con: Con) -> bool:
            if not value(con, "SELECT 1 FROM imports WHERE id=? AND stopped=''", (row["id"],)):
                return False
            con.execute("UPDATE imports SET stopped=?, path='' WHERE id=?", (why.code, row["id"]))
            audit.record(con, "gateway", "study.import-stopped", row["study"], why.code, now)
            erased = self._offers.cut_short(con, row["study"], why.sentence, now)
            if not value(con, "SELECT 1 FROM instances WHERE study=? LIMIT 1", (row["study"],)):
                con.execute("DELETE FROM studies WHERE id=?", (row["study"],))
                return True
            _end_study(con, row["study"], "import")
            return erased

        if await self._db.run(work):
            await self._db.scrub()
        self._outbox.set()
        self._studies.tell()


async def _bounded(works: Any, most: int) -> None:
    """All of them, `most` at once, begun in their order; the first error ends the others and is raised by itself."""
    room = asyncio.Semaphore(most)
    failed: list[GatewayError] = []

    async def one_of(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except GatewayError as why:
            failed.append(why)
        finally:
            room.release()

    async with asyncio.TaskGroup() as group:
        for work in works:
            await room.acquire()
            if failed:
                work.close()
                break
            group.create_task(one_of(work))
    if failed:
        raise failed[0]


def _begin(con: Con, plan: Survey, path: Path, actor: str, now: int) -> tuple[int, str] | None:
    """Says what is to come: (import, study). None where some of it is here already or the patient is another:
    then only the bytes decide.
    """
    study = one(con, "SELECT * FROM studies WHERE uid=?", (plan.study.study_uid,))
    if study is None:
        ident = add_study(con, plan.study, "import", now)
    else:
        ident = str(study["id"])
        here = {r[0] for r in rows(con, "SELECT sop_uid FROM instances WHERE study=?", (ident,))}
        if other_patient(study, plan.study) or any(file.sop_uid in here for file in plan.files):
            return None
        if value(con, "SELECT 1 FROM imports WHERE study=? AND stopped=''", (ident,)):
            return None
        learn(con, ident, plan.study)
        con.execute("UPDATE studies SET closed=0, last_at=? WHERE id=?", (now, ident))
    for header in plan.series:
        add_series(con, ident, header)
    number = value(
        con,
        "INSERT INTO imports (study, path, actor, skipped, at) VALUES (?,?,?,?,?) RETURNING id",
        (ident, str(path), actor, len(plan.skipped), now),
    )
    con.executemany(
        "INSERT INTO import_files (import, sop_uid, series, size) VALUES (?,?,?,?)",
        [(number, file.sop_uid, file.series, file.size) for file in plan.files],
    )
    return int(number), ident


def _missing(con: Con, number: int) -> set[str]:
    """SOP Instance UIDs that are still to come."""
    found = rows(
        con,
        "SELECT f.sop_uid FROM imports m JOIN import_files f ON f.import=m.id WHERE m.id=? AND NOT EXISTS"
        " (SELECT 1 FROM instances i WHERE i.study=m.study AND i.sop_uid=f.sop_uid)",
        (number,),
    )
    return {r[0] for r in found}


def _is_of(con: Con, number: int, plan: Survey) -> bool:
    """Whether a folder still holds what was seen when its import began."""
    found = rows(con, "SELECT sop_uid, series, size FROM import_files WHERE import=?", (number,))
    return {tuple(r) for r in found} == {(file.sop_uid, file.series, file.size) for file in plan.files}


def _close(con: Con, row: sqlite3.Row, files: int, now: int) -> bool:
    """Everything is here: the import is forgotten and the study closed. False where something is missing."""
    if _missing(con, row["id"]):
        return False
    con.execute("DELETE FROM imports WHERE id=?", (row["id"],))
    _end_study(con, row["study"], row["actor"])
    audit.record(con, row["actor"], "study.import", row["study"], _said(files, row["skipped"]), now)
    return True


def _end_study(con: Con, study: str, by: str) -> None:
    con.execute("UPDATE studies SET closed=1, closed_by=? WHERE id=? AND closed=0", (by, study))


def _said(accepted: int, skipped: int) -> str:
    return f"accepted {accepted}, skipped {skipped}"
