"""What staff note about who answered, where a grant has no field for it: that the patient is a minor, that an
interpreter helped, on what the right to answer rests.

A note is one line of the audit log and nothing else: it is chained by hash, it is in the record of the transfer and in
every export, and nobody changes it. Where it was wrong another one follows. No message of the protocol carries it to
the other hospital (ADR 0024).
"""

from __future__ import annotations

import sqlite3

from clients.gateway.auditing.lines import NOTE
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.store import audit
from clients.gateway.store.database import Con, rows, value
from clients.gateway.views import NoteView
from transfer.ids import Tid
from transfer.text import one_line

MOST = 20
"""Notes at one transfer."""
LANGUAGE, BASIS = 40, 200
"""Characters of each text."""


class NoteError(GatewayError):
    """A note says something, in at most 40 letters for a language and 200 for a right. Correct it and try again."""

    code = "note"


def words_of(minor: bool, interpreter: str, basis: str) -> str:
    """The line: "minor; interpreter: Spanish; basis: his mother, has custody". Raises `NoteError`."""
    language, right = one_line(interpreter), one_line(basis)
    if len(language) > LANGUAGE or len(right) > BASIS or not (minor or language or right):
        raise NoteError
    parts = (minor and "minor", language and f"interpreter: {language}", right and f"basis: {right}")
    return "; ".join(part for part in parts if part)


def add(con: Con, tid: Tid, words: str, actor: str, now: int) -> None:
    """Keeps a note of a transfer that this site sends, in any state. Raises `AbsentError`, `GatewayError`."""
    if value(con, "SELECT 1 FROM sends WHERE tid=?", (tid,)) is None:
        raise AbsentError
    if len(_lines(con, tid)) >= MOST:
        raise GatewayError("This transfer has 20 notes. Write the rest into the chart.", code="note-limit")
    audit.record(con, actor, NOTE, tid.hex(), words, now)


def notes_of(con: Con, tid: bytes) -> list[NoteView]:
    """The notes of a transfer, oldest first."""
    return [NoteView(at=r["at"], by=r["actor"], text=r["detail"]) for r in _lines(con, tid)]


def _lines(con: Con, tid: bytes) -> list[sqlite3.Row]:
    sql = "SELECT * FROM audit WHERE subject=? AND action='transfer.note' ORDER BY seq"
    return rows(con, sql, (tid.hex(),))
