"""A true identity that is known later: what was filed under one number is another's, or a number's person is known.

Nothing is sent again and no image is touched: the hospital's systems are told, as they are told of any patient who came
in unknown (IHE ITI TF-2 3.30, HL7 v2 ADT). Here that is a row of `identity_changes`, written when a person confirmed
it, and a line in the audit log. A transfer may have several: a number, then the name behind it, then a letter of that
name. Each begins where the last one ended that was not refused. Whoever speaks HL7 takes the rows that wait, oldest
first, and says what became of each; where nobody does, staff do it by hand, and the page says so.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

from clients.gateway.dicom.person import Person
from clients.gateway.errors import GatewayError
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows
from transfer.ids import Tid

State = Literal["waiting", "sent", "failed"]
Kind = Literal["merge", "update"]
MOST = 16
"""Changes of one transfer: who needs more is guessing."""
_SAME = (
    "The images are filed under this number already, and nothing new was said of the patient. Give the name, the date"
    " of birth or the sex if it is known now; else nothing has to be done.",
    "merge-same",
)
_OFTEN = (
    f"It was said {MOST} times whose images these are. Have the PACS administrator put it right by hand.", "merge-often"
)  # fmt: skip


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

    @property
    def kind(self) -> Kind:
        """`merge`: one number is another's (ADT^A40); `update`: who is behind a number (ADT^A08)."""
        same = (self.from_id, self.from_issuer) == (self.to_id, self.to_issuer)
        return "update" if same else "merge"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Whose the images of a transfer are by now, before somebody says more."""

    known: Person
    """The number they are under, and what is known of who is behind it."""
    alone: bool
    """The number is one of ours for the sender's patient, which nobody else has: no other patient is moved with it."""

    def plan(self, person: Person) -> tuple[Kind, Person]:
        """What the hospital's systems are to be told of `person`. Raises `GatewayError` (`merge-same`)."""
        known = self.known
        same = person.patient_id == known.patient_id and (
            self.alone or person.issuer == known.issuer or not known.issuer
        )
        if not same:
            return "merge", person
        said = (
            (person.name.rstrip("^"), known.name.rstrip("^")),
            (person.birth_date, known.birth_date),
            (person.sex, known.sex),
        )
        if all(new in ("", old) for new, old in said):
            raise GatewayError(_SAME[0], code=_SAME[1])
        return "update", msgspec.structs.replace(person, issuer=known.issuer)


def standing(filed: Person, alone: bool, changes: list[IdentityChange]) -> Standing:
    """Where the images stand that were `filed` so, after `changes` (oldest first); `alone` as for `Standing`."""
    done = [change for change in changes if change.state != "failed"]
    known = filed
    for change in done:
        known = Person(
            patient_id=change.to_id, issuer=change.to_issuer, name=change.to_name or known.name,
            birth_date=change.to_birth_date or known.birth_date, sex=change.to_sex or known.sex,
        )  # fmt: skip
    return Standing(known=known, alone=alone and all(change.kind == "update" for change in done))


def book(con: Con, change: IdentityChange) -> None:
    """Writes a change that a person confirmed; `id`, `state` and `note` of it are not looked at. Raises `GatewayError`
    (`merge-often`).
    """
    if len(changes_of(con, change.tid)) >= MOST:
        raise GatewayError(_OFTEN[0], code=_OFTEN[1])
    con.execute(
        "INSERT INTO identity_changes (tid, from_id, from_issuer, to_id, to_issuer, to_name, to_birth_date, to_sex,"
        " by, at) VALUES (?,?,?,?,?,?,?,?,?,?)",
        (
            change.tid, change.from_id, change.from_issuer, change.to_id, change.to_issuer, change.to_name,
            change.to_birth_date, change.to_sex, change.by, change.at,
        ),
    )  # fmt: skip
    audit.record(con, change.by, f"incoming.{change.kind}", change.tid.hex(), "", change.at)


def waiting(con: Con, limit: int = 16) -> list[IdentityChange]:
    """What the hospital's systems have not been told yet, oldest first."""
    found = rows(con, "SELECT * FROM identity_changes WHERE state='waiting' ORDER BY id LIMIT ?", (limit,))
    return [_of(row) for row in found]


def settle(con: Con, id: int, state: State, note: str, now: int) -> None:
    """What became of telling them: `sent` once they acknowledged it, `failed` where they will not have it, `waiting`
    with a note where it is tried again.
    """
    con.execute("UPDATE identity_changes SET state=?, note=?, told_at=? WHERE id=?", (state, note, now, id))
    row = one(con, "SELECT * FROM identity_changes WHERE id=?", (id,))
    if row is not None and state != "waiting":
        change = _of(row)
        audit.record(con, "gateway", f"incoming.{change.kind}-{state}", change.tid.hex(), "", now)


def changes_of(con: Con, tid: Tid) -> list[IdentityChange]:
    """What was learned of the patient of one transfer, oldest first."""
    return [_of(row) for row in rows(con, "SELECT * FROM identity_changes WHERE tid=? ORDER BY id", (tid,))]


def _of(row: sqlite3.Row) -> IdentityChange:
    return IdentityChange(
        id=row["id"], tid=Tid(row["tid"]), from_id=row["from_id"], from_issuer=row["from_issuer"], to_id=row["to_id"],
        to_issuer=row["to_issuer"], to_name=row["to_name"], to_birth_date=row["to_birth_date"], to_sex=row["to_sex"],
        by=row["by"], at=row["at"], state=row["state"], note=row["note"],
    )  # fmt: skip
