"""A report for a study that is here: a PDF as it is, or text that becomes one, filed as an instance of the study.

It comes in by the way of every instance: a whole file in `incoming`, judged by its header, a row. So it travels with
an offer that is still open, and where the transfer was closed before it came staff see the alarm that images have then
(`late-images`). A study that was closed stays closed: a report says nothing about images that are still to come.

The same report again is found by its UID (`dicom.document`) before anything is written, also where its first coming
was cut off by a crash: what that left in `incoming` has got its row by then.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from pathlib import Path

import msgspec

from clients.gateway.clock import Clock
from clients.gateway.dicom import document
from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.part10 import write_all
from clients.gateway.disk import FULL, sync_folder
from clients.gateway.errors import AbsentError, DiskFullError, GatewayError, IntakeError
from clients.gateway.intake.reasons import sentence
from clients.gateway.intake.staging import check_room
from clients.gateway.sending.studies import Arrival, Studies
from clients.gateway.sending.typesetting import Heading, typeset
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, quoted, value
from transfer.states import OPEN_SENDER

MAX_PDF = 50 * 10**6
MAX_TEXT = 2**20
MAX_TITLE = 120
_MOST = 200
"""Documents of one study."""
_TAIL = 2048
"""Bytes at the end of a PDF in which its end mark is: some append a line."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A report that somebody brings: `pdf`, or else `text`."""

    title: str
    text: str = ""
    pdf: bytes = b""
    author: str = ""
    """Who wrote it, where that is not who brings it."""
    at: str = ""
    """When it was written, as people read it; empty: now."""
    note: str = ""
    source: str = "desk"
    """"desk", "command" or "hl7"."""


class Added(msgspec.Struct, frozen=True):
    """What became of a report."""

    study: str
    same: bool
    """It was here already, and nothing was done."""
    late: bool
    """A transfer of the study is under way and was closed before: the report is not in it."""


class Reports:
    """Adds documents to studies, one after the other: a large one takes its memory alone."""

    def __init__(self, db: Database, clock: Clock, studies: Studies, site: str) -> None:
        self._db, self._clock, self._studies, self._site = db, clock, studies, site
        self._turn = asyncio.Lock()

    async def add(self, study: str, draft: Draft, actor: str) -> Added:
        """Durable when it returns. Raises `AbsentError`, `DiskFullError`, `IntakeError`."""
        check(draft)
        await self._studies.settled()
        async with self._turn:
            row, first, count = await self._db.run(lambda con: _read(con, study))
            ident = str(row["id"])
            digest = document.digest_of(
                draft.title.encode(), draft.note.encode(), draft.pdf or draft.text.encode()
            )
            sop_uid = document.uid_of(row["uid"], digest)
            if await self._db.run(lambda con: _has(con, ident, sop_uid)):
                return Added(ident, True, False)
            if count >= _MOST:
                raise IntakeError(
                    f"This study has {_MOST} reports already. Ask who sends them.", code="report-many"
                )
            facts = await asyncio.to_thread(document.read_facts, self._studies.incoming / first)
            now = self._clock.now()
            pdf = draft.pdf or await asyncio.to_thread(
                typeset, self._heading(row, draft, actor, now), draft.text
            )
            made = document.Document(pdf=pdf, title=_title(draft), number=count + 1, at=now, digest=digest)
            path = await asyncio.to_thread(_stage, facts, made, self._studies.incoming)
            adopted = await self._studies.adopt(Arrival(path, "report"))
            if adopted.code and adopted.code != "same":
                raise GatewayError(sentence(adopted.code), code=adopted.code)
            late = await self._db.run(lambda con: _settle(con, row, sop_uid, actor, draft.source, now))
            self._studies.tell()
            return Added(ident, adopted.code == "same", late)

    def _heading(self, row: sqlite3.Row, draft: Draft, actor: str, now: int) -> Heading:
        when = draft.at or time.strftime("%Y-%m-%d %H:%M", time.localtime(now))
        who = f"Written by {draft.author}" if draft.author else f"Added by {actor}"
        return Heading(
            title=draft.title, patient=row["patient_name"], born=row["birth_date"], number=row["patient_id"],
            study=", ".join(filter(None, (row["description"], row["date"]))), accession=row["accession"],
            origin=f"{who}, {self._site}, {when}", note=draft.note,
        )  # fmt: skip


def check(draft: Draft) -> None:
    """Raises `IntakeError` for what can be no report."""
    if not draft.title.strip() or len(draft.title) > MAX_TITLE:
        raise IntakeError(
            f"A report needs a title of at most {MAX_TITLE} letters. Give one.", code="report-title"
        )
    if bool(draft.pdf) == bool(draft.text.strip()):
        raise IntakeError("Give either a PDF or a text, and try again.", code="report-content")
    if len(draft.pdf) > MAX_PDF:
        raise IntakeError(
            f"This PDF is larger than {MAX_PDF // 10**6} MB. Export it with smaller images.",
            code="report-size",
        )
    if len(draft.text) > MAX_TEXT:
        raise IntakeError("This text is longer than any report. Give it as a PDF.", code="report-long")
    if draft.pdf and not draft.pdf.startswith(b"%PDF-"):
        raise IntakeError("This file is no PDF. Export the report as PDF, or type it.", code="report-pdf")
    if draft.pdf and b"%%EOF" not in draft.pdf[-_TAIL:]:
        raise IntakeError("This PDF is cut off. Export it again.", code="report-cut")


def _title(draft: Draft) -> str:
    return f"{draft.title} ({draft.note})" if draft.note else draft.title


def _read(con: Con, study: str) -> tuple[sqlite3.Row, str, int]:
    """The study, the file of its first instance, and how many documents it has."""
    row = one(con, "SELECT * FROM studies WHERE id=?1 OR uid=?1", (study,))
    if row is None:
        raise AbsentError
    first = value(con, "SELECT file FROM instances WHERE study=? ORDER BY id LIMIT 1", (row["id"],))
    if first is None:
        raise AbsentError("This study has no image yet. Add the report when the first one is here.")
    sql = "SELECT count(*) FROM instances WHERE study=? AND series=?"
    return row, str(first), int(value(con, sql, (row["id"], document.uid_of(row["uid"], b"series"))))


def _has(con: Con, study: str, sop_uid: str) -> bool:
    return bool(value(con, "SELECT 1 FROM instances WHERE study=? AND sop_uid=?", (study, sop_uid)))


def _settle(con: Con, before: sqlite3.Row, sop_uid: str, actor: str, source: str, now: int) -> bool:
    """A study that was closed is closed again, unless an image came meanwhile; whether a transfer leaves it behind."""
    study = before["id"]
    newest = value(con, "SELECT sop_uid FROM instances WHERE study=? ORDER BY id DESC LIMIT 1", (study,))
    if before["closed"] and newest == sop_uid:
        con.execute("UPDATE studies SET closed=1 WHERE id=?", (study,))
    audit.record(con, actor, "study.report", study, source, now)
    sql = (
        "SELECT 1 FROM sends s JOIN spools p ON p.cid=s.cid WHERE s.study=?1 AND p.frozen IS NOT NULL"
        " AND p.frozen<(SELECT id FROM instances WHERE study=?1 AND sop_uid=?2)"
        f" AND s.state IN ({quoted(OPEN_SENDER)}) AND s.kind<>'add' AND s.add_until<=?3"
    )
    return bool(value(con, sql, (study, sop_uid, now)))


def _stage(facts: document.Facts, made: document.Document, incoming: Path) -> Path:
    """The instance in `incoming`, whole and on disk (as `intake.staging`). Raises `IntakeError`, `DiskFullError`."""
    sop_uid, pieces = document.encode(facts, made)
    check_room(sum(map(len, pieces)), incoming)
    part = incoming / f"{secrets.token_hex(16)}.part"
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, *pieces)
            os.fsync(fd)
        finally:
            os.close(fd)
        if read_header(part).sop_uid != sop_uid:
            raise IntakeError
        done = part.with_suffix(".dcm")
        os.rename(part, done)
        sync_folder(incoming)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFullError from None
        raise
    return done


def read_draft(path: Path, title: str) -> Draft:
    """A report from a file: a PDF, or a text in UTF-8. Raises `IntakeError`."""
    try:
        if not path.is_file():  # a pipe would never end
            raise FileNotFoundError
        with path.open("rb") as file:
            body = file.read(MAX_PDF + 1)
    except OSError:
        raise IntakeError(
            "The file cannot be read. Check its path and rights.", code="report-unreadable"
        ) from None
    if body.startswith(b"%PDF-"):
        return Draft(title=title, pdf=body, source="command")
    try:
        return Draft(title=title, text=body.decode("utf-8-sig"), source="command")
    except UnicodeDecodeError:
        raise IntakeError(
            "This file is no PDF and no text in UTF-8. Export the report as PDF.", code="report-pdf"
        ) from None
