"""A true identity that is known later: what was filed under one number is another's (IHE ITI TF-2 3.30, HL7 v2 ADT).

Nothing is sent again and no image is touched: the hospital's systems are told that the one patient is the other, as
they are told of any patient who came in unknown. Here that is a row of `identity_changes`, written when a person has
confirmed it, once for each transfer, and a line in the audit log. Whoever speaks HL7 takes the rows that wait, oldest
first, and says what became of each; where nobody does, staff merge the two by hand, and the page says so.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows
from transfer.ids import Tid

State = Literal["waiting", "sent", "failed"]


class IdentityChange(msgspec.Struct, frozen=True, kw_only=True):
    """One number that is another's. Names are as DICOM writes them (FAMILY^GIVEN), dates YYYYMMDD; any may be empty."""

    id: int
    tid: Tid
    from_id: str
    from_issuer: str
    to_id: str
    to_issuer: str
    to_name: str
    to_birth_date: str
    to_sex: str
    by: str
    at: int
    state: State
    note: str


def book(con: Con, change: IdentityChange) -> None:
    """Writes a change that a person confirmed; `id`, `state` and `note` of it are not looked at."""
    con.execute(
        "INSERT INTO identity_changes (tid, from_id, from_issuer, to_id, to_issuer, to_name, to_birth_date, to_sex,"
        " by, at) VALUES (?,?,?,?,?,?,?,?,?,?)",
        (
            change.tid, change.from_id, change.from_issuer, change.to_id, change.to_issuer, change.to_name,
            change.to_birth_date, change.to_sex, change.by, change.at,
        ),
    )  # fmt: skip
    audit.record(con, change.by, "incoming.merge", change.tid.hex(), "", change.at)


def waiting(con: Con, limit: int = 16) -> list[IdentityChange]:
    """What the hospital's systems have not been told yet, oldest first."""
    found = rows(con, "SELECT * FROM identity_changes WHERE state='waiting' ORDER BY id LIMIT ?", (limit,))
    return [_of(row) for row in found]


def settle(con: Con, id: int, state: State, note: str, now: int) -> None:
    """What became of telling them: `sent` once they acknowledged it, `failed` where they will not have it, `waiting`
    with a note where it is tried again.
    """
    con.execute("UPDATE identity_changes SET state=?, note=?, told_at=? WHERE id=?", (state, note, now, id))
    row = one(con, "SELECT tid FROM identity_changes WHERE id=?", (id,))
    if row is not None and state != "waiting":
        audit.record(con, "gateway", f"incoming.merge-{state}", bytes(row["tid"]).hex(), "", now)


def change_of(con: Con, tid: Tid) -> IdentityChange | None:
    """What was learned of the patient of one transfer, if anything was."""
    row = one(con, "SELECT * FROM identity_changes WHERE tid=?", (tid,))
    return None if row is None else _of(row)


def _of(row: sqlite3.Row) -> IdentityChange:
    return IdentityChange(
        id=row["id"], tid=Tid(row["tid"]), from_id=row["from_id"], from_issuer=row["from_issuer"], to_id=row["to_id"],
        to_issuer=row["to_issuer"], to_name=row["to_name"], to_birth_date=row["to_birth_date"], to_sex=row["to_sex"],
        by=row["by"], at=row["at"], state=row["state"], note=row["note"],
    )  # fmt: skip
