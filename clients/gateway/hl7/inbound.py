"""Reports that a RIS or an interface engine sends: from ORU^R01 to a document in the study.

Each message is answered once what it says is on disk (chapter 2.9.2, original mode):

    AA   it is in its study, or was already; or it is kept until the first image of its study comes
    AE   it can be used by nobody, or names another patient than the study: `Hl7Error.code` says which. Sent
         again as it is, it would fail again
    AR   not a kind of message that is taken here; or not now (a full disk): send it again later

A report belongs to the study with its Study Instance UID (ZDS-1), else with its accession number; and the patient must
be the same: a number of PID-3 is the images', and no birth date contradicts. What does not agree is kept out, with an
alarm: a report in a stranger's study is worse than a missing one.

The same message again is no second document, whether it has its old control id (MSH-10) or a new one: a document is
known by what it says (`sending.reports`). So a control id that a restarted sender uses a second time loses nothing.

A report mostly comes after its images, but not always; and a feed brings many whose images never come here. So one
without a study waits `wait` seconds, quietly, and is forgotten then: a line in the audit log, no alarm.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sqlite3
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from clients.gateway.clock import Clock, Signal, date_time
from clients.gateway.disk import write_durably
from clients.gateway.errors import AbsentError, DiskFullError, GatewayError
from clients.gateway.hl7.message import Hl7Error, Report, acknowledge, report_of
from clients.gateway.sending.reports import MAX_TITLE, Draft, Reports
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, rows, value

log = structlog.get_logger()
ACTOR = "hl7"
_MOST, _MOST_BYTES = 2000, 2**30
"""Reports that wait."""
_LOOK = 60.0
_NOTES = {
    "P": "preliminary report", "C": "corrected report, replaces an earlier one", "A": "some results only",
    "R": "results not verified yet",
}  # fmt: skip
"""By OBR-25 (HL7 table 0123); a final report needs no note."""
_KEPT_OUT = {
    "hl7-patient": "A report from the HL7 interface names another patient than the study with its accession number, and"
    " was kept out. Compare both in the RIS, correct the wrong one and send the report again.",
    "hl7-ambiguous": "A report from the HL7 interface fits several studies, and was kept out. Send it with the Study"
    " Instance UID (ZDS), or add it by hand at the study's page.",
}
_REJECTED = frozenset({"hl7-kind", "hl7-processing", "hl7-full", "disk-full"})


class Match(msgspec.Struct, frozen=True):
    """Where a report belongs: a study; or why to none (`code`); or to none that is here yet."""

    study: str = ""
    code: str = ""


class Inbound:
    """Takes messages in. `handle` is for `mllp.MllpServer`; `run` looks after those that wait."""

    def __init__(
        self, db: Database, clock: Clock, reports: Reports, folder: Path, arrived: Signal, wait: int
    ) -> None:
        self._db, self._clock, self._reports = db, clock, reports
        self._folder, self._refused = folder / "hl7", folder / "refused"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._arrived, self._wait = arrived, wait

    async def handle(self, block: bytes) -> bytes:
        """The acknowledgement of one message."""
        code, words, condition = "AA", "", ""
        try:
            words = await self._take(block)
        except GatewayError as why:
            code = "AR" if why.code in _REJECTED else "AE"
            words, condition = why.sentence, getattr(why, "condition", "207")
            log.warning("an HL7 message was not taken", code=why.code)
        stamp = date_time(self._clock.now())
        return await asyncio.to_thread(acknowledge, block, code, words, stamp, condition)

    async def _take(self, block: bytes) -> str:
        """What is said of a message that was taken. Raises `GatewayError`."""
        report = await asyncio.to_thread(_read, block)
        match = await self._db.run(lambda con: find(con, report))
        if match.code:
            await self._keep_out(match.code)
        if match.study:
            try:
                return await self._file(report, match.study)
            except AbsentError:
                pass  # it has no image yet, or was forgotten just now
        await self._hold(block, report)
        return "Kept until the images of its study come."

    async def _file(self, report: Report, study: str) -> str:
        drafts = drafts_of(report)
        same = [(await self._reports.add(study, draft, ACTOR)).same for draft in drafts]
        return "It was here already." if all(same) else "It is in its study."

    async def _keep_out(self, code: str) -> None:
        """Raises `Hl7Error` after staff were told."""
        now = self._clock.now()
        await self._db.run(lambda con: audit.alarm(con, None, code, _KEPT_OUT[code], now))
        raise Hl7Error(_KEPT_OUT[code], code=code, condition="204")

    # Those that wait

    async def _hold(self, block: bytes, report: Report) -> None:
        """Keeps a message durably. Raises `Hl7Error` where too many wait, or nothing says what for."""
        keys = {key for key in (report.study_uid, *report.accessions) if key}
        if not keys:
            raise Hl7Error(
                "There is no accession number in this report (OBR-18, OBR-3, OBR-2, ORC-3). Send it with one.",
                code="hl7-study", condition="101",
            )  # fmt: skip
        digest, now = hashlib.sha256(block).digest(), self._clock.now()
        if await self._db.run(lambda con: _is_held(con, digest)):
            return
        name = f"{secrets.token_hex(16)}.hl7"
        await self._db.run(lambda con: _check_room(con, len(block)))
        await asyncio.to_thread(write_durably, self._folder / name, block)

        def work(con: Con) -> None:
            sql = "INSERT INTO hl7_waiting (hash, file, size, at) VALUES (?,?,?,?) RETURNING id"
            number = value(con, sql, (digest, name, len(block), now))
            con.executemany(
                "INSERT INTO hl7_keys (report, key) VALUES (?,?)", [(number, key) for key in keys]
            )

        try:
            await self._db.run(work)
        except sqlite3.IntegrityError:  # the same came over another connection meanwhile
            (self._folder / name).unlink(missing_ok=True)
        self._arrived.set()  # its study may have come meanwhile

    async def run(self) -> None:
        """Files what waited when its study comes, and forgets what waited too long, until cancelled."""
        await self._sweep()
        while True:
            seen = self._arrived.seen
            found = await self._db.run(lambda con: rows(con, _ARRIVED))
            for (number,) in found:
                await self._retry(int(number))
            await self._expire()
            await self._arrived.wait(seen, _LOOK)

    async def _retry(self, number: int) -> None:
        """One whose study may be here. Raises `DiskFullError`, and it is tried again then."""
        row = await self._db.run(lambda con: one(con, "SELECT * FROM hl7_waiting WHERE id=?", (number,)))
        if row is None:
            return
        try:
            block = await asyncio.to_thread((self._folder / row["file"]).read_bytes)
            report = await asyncio.to_thread(_read, block)
            match = await self._db.run(lambda con: find(con, report))
            if match.code:
                await self._keep_out(match.code)
            if not match.study:
                return
            await self._file(report, match.study)
        except AbsentError:
            return
        except DiskFullError:
            raise
        except FileNotFoundError:  # this folder was restored from a backup, which holds no files
            pass
        except GatewayError as why:
            await self._put_away(row, why)
            return
        await self._drop(row)

    async def _put_away(self, row: sqlite3.Row, why: GatewayError) -> None:
        """It was acknowledged and cannot be used: staff are told, and it is kept as refused images are."""
        now = self._clock.now()
        await asyncio.to_thread(os.replace, self._folder / row["file"], self._refused / row["file"])

        def work(con: Con) -> None:
            con.execute("DELETE FROM hl7_waiting WHERE id=?", (row["id"],))
            con.execute(
                "INSERT INTO refusals (study, code, file, source, at) VALUES (NULL,?,?,?,?)",
                (why.code, row["file"], ACTOR, now),
            )
            if why.code not in _KEPT_OUT:
                words = f"A report from the HL7 interface could not be added to its study: {why.sentence}"
                audit.alarm(con, None, "hl7-report", words, now)

        await self._db.run(work)

    async def _expire(self) -> None:
        before = self._clock.now() - self._wait
        old = await self._db.run(
            lambda con: rows(con, "SELECT * FROM hl7_waiting WHERE at<? LIMIT 50", (before,))
        )
        now = self._clock.now()
        for row in old:
            await self._drop(row)
            await self._db.run(lambda con: audit.record(con, ACTOR, "report.expired", "", "", now))

    async def _drop(self, row: sqlite3.Row) -> None:
        """The row goes first: a file without one is swept."""
        await self._db.run(lambda con: con.execute("DELETE FROM hl7_waiting WHERE id=?", (row["id"],)))
        (self._folder / row["file"]).unlink(missing_ok=True)

    async def _sweep(self) -> None:
        """Files that a crash left without a row: nobody was told that they are here."""
        held = await self._db.run(lambda con: {r[0] for r in rows(con, "SELECT file FROM hl7_waiting")})
        for path in self._folder.iterdir():
            if path.name not in held:
                path.unlink(missing_ok=True)


_ARRIVED = """
SELECT DISTINCT report FROM hl7_keys WHERE key IN (SELECT accession FROM studies UNION SELECT uid FROM studies)
"""


def _read(block: bytes) -> Report:
    report = report_of(block)
    if report.processing not in ("", "P"):
        raise Hl7Error(
            "This message is marked as a test (MSH-11) and was not taken into a patient's study. Send it as P.",
            code="hl7-processing", condition="202",
        )  # fmt: skip
    return report


def find(con: Con, report: Report) -> Match:
    """The study that a report is about."""
    for column, key in (("uid", report.study_uid), *(("accession", a) for a in report.accessions)):
        found = rows(con, f"SELECT * FROM studies WHERE {column}=?", (key,)) if key else []
        if not found:
            continue
        fitting = [row for row in found if agrees(row, report)]
        if len(fitting) == 1:
            return Match(str(fitting[0]["id"]))
        return Match(code="hl7-ambiguous" if fitting else "hl7-patient")
    return Match()


def agrees(study: sqlite3.Row, report: Report) -> bool:
    """Whether a report is about a study's patient: by number, or by birth date where the images have no number. A
    name decides nothing, and neither does the issuer: systems of one hospital spell it in several ways.
    """
    born = study["birth_date"].replace("-", "")
    if born and report.patient.birth_date and born != report.patient.birth_date:
        return False
    if study["patient_id"]:
        return study["patient_id"] in report.numbers
    return bool(born and report.patient.birth_date)


def drafts_of(report: Report) -> list[Draft]:
    """Its text as a document, and its PDF as another: nobody knows that they say the same."""
    at = report.at
    common = Draft(
        title=(report.title or "Report")[:MAX_TITLE], note=_NOTES.get(report.status, ""), author=report.author[:80],
        at=f"{at[:4]}-{at[4:6]}-{at[6:8]} {at[8:10]}:{at[10:12]}" if at else "", source="hl7",
    )  # fmt: skip
    text = report.text if report.text.strip() else ""
    found = (replace(common, pdf=report.pdf), replace(common, text=text))
    return [draft for draft in found if draft.pdf or draft.text]


def _is_held(con: Con, digest: bytes) -> bool:
    return bool(value(con, "SELECT 1 FROM hl7_waiting WHERE hash=?", (digest,)))


def _check_room(con: Con, size: int) -> None:
    row = one(con, "SELECT count(*) AS n, coalesce(sum(size), 0) AS bytes FROM hl7_waiting")
    if row is not None and (row["n"] >= _MOST or row["bytes"] + size > _MOST_BYTES):
        raise Hl7Error(
            "Too many reports wait for their images. Send it again later, and look whether images still come.",
            code="hl7-full",
        )
