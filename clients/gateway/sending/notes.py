"""What staff note about who answered, where a grant has no field for it: that the patient is a minor, that an
interpreter helped, on what the right to answer rests; and who asked them to stop sharing, when that came by telephone
or in person.

A note is one line of the audit log and nothing else: it is chained by hash, it is in the record of the transfer and in
every export, and nobody changes it. Where it was wrong another one follows. No message of the protocol carries it to
the other hospital (ADR 0024).
"""

from __future__ import annotations

import sqlite3
from typing import Final, get_args

from clients.gateway.auditing.lines import NOTE, STOP_REQUEST
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.store import audit
from clients.gateway.store.database import Con, quoted, rows, value
from clients.gateway.views import NoteView
from transfer.ids import Tid
from transfer.messages import Relation
from transfer.text import one_line

MOST = 20
"""Notes at one transfer."""
LANGUAGE, BASIS = 40, 200
"""Characters of each text."""
ASKERS: Final = ("patient", *(rel for rel in get_args(Relation) if rel != "self"))
"""Who may ask to stop: the patient, or whoever speaks for them, by the grant's codes."""


class NoteError(GatewayError):
    """A note says something, in at most 40 letters for a language and 200 for a right. Correct it and try again."""

    code = "note"


class StopRequestError(GatewayError):
    """Choose who asked to stop, and write in at most 200 letters when and why. Correct it and try again."""

    code = "stop-request"


def asked(asker: str, reason: str) -> str:
    """The line: "asked to stop by parent: called at 14:10, has changed her mind". Raises `StopRequestError`."""
    said = one_line(reason)
    if asker not in ASKERS or not said or len(said) > BASIS:
        raise StopRequestError
    return f"asked to stop by {asker}: {said}"


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
    if len(_lines(con, tid, NOTE)) >= MOST:
        raise GatewayError("This transfer has 20 notes. Write the rest into the chart.", code="note-limit")
    audit.record(con, actor, NOTE, tid.hex(), words, now)


def notes_of(con: Con, tid: bytes) -> list[NoteView]:
    """The notes of a transfer and who asked to stop it, oldest first."""
    found = _lines(con, tid, NOTE, STOP_REQUEST)
    return [NoteView(at=r["at"], by=r["actor"], text=r["detail"]) for r in found]


def _lines(con: Con, tid: bytes, *actions: str) -> list[sqlite3.Row]:
    sql = f"SELECT * FROM audit WHERE subject=? AND action IN ({quoted(actions)}) ORDER BY seq"
    return rows(con, sql, (tid.hex(),))
