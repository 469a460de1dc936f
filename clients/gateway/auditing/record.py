"""Everything that is known of one transfer, from the database: what the chart, FHIR and a dispute need."""

from __future__ import annotations

import sqlite3
from itertools import islice

import msgspec

from clients.gateway.auditing.lines import Line, every_line
from clients.gateway.errors import AbsentError
from clients.gateway.sending.view import STAFF_WORDS
from clients.gateway.store.database import Con, one, value
from clients.gateway.store.vault import Vault
from transfer import jws
from transfer.ids import Tid
from transfer.messages import Grant, Offer, Receipt, Release, peek
from transfer.release import peek_grant, rung_of
from transfer.text import seen

_LINES = 10_000
"""Lines of one transfer. There are some dozens, unless somebody looks at it every second."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a person, or staff in their place, decided: the signed bytes and what they say."""

    rung: str
    """`patient`, `proxy`, `attest`, `override`."""
    says: str
    """`approve` or `deny`."""
    name: str
    """Of a proxy, or of the clinicians who decided."""
    relation: str
    """Of a proxy to the patient; of clinicians, what they did."""
    at: int
    signed: str
    """JWS compact (protocol s. 2)."""
    key: bytes
    """Ed25519 public key that it is signed with; empty where it is not on record here."""
    reason: str = ""
    """Of clinicians who decided in the patient's place."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer, as this site knows it. Times are Unix seconds, 0 where something has not happened."""

    tid: str
    role: str
    """`send` or `receive`."""
    peer: str
    state: str
    why: str
    reason: str
    patient_id: str
    issuer: str
    created_by: str
    created_at: int
    expires_at: int
    ended_at: int
    offer: str
    decision: Decision | None
    receipt: Receipt | None
    receipt_signed: str
    lines: list[Line]

    @property
    def stop_asked(self) -> int:
        """When the person's wish to stop sharing, after the end, became known here; 0 if never."""
        asked = ("transfer.stop-asked", "incoming.stop-asked")
        return next((line.at for line in self.lines if line.action in asked), 0)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each signed message, by its name: the same at both hospitals."""
        found = {"offer": self.offer, "receipt": self.receipt_signed}
        if self.decision is not None:
            found["grant"] = self.decision.signed
        return {name: jws.digest(text).hex() for name, text in found.items() if text}


def record_of(con: Con, vault: Vault, tid: Tid) -> Record:
    """The record of one transfer. Raises `AbsentError`."""
    found = list(islice(every_line(con, subject=tid.hex()), _LINES))
    if (row := one(con, "SELECT * FROM sends WHERE tid=?", (tid,))) is not None:
        study = one(con, "SELECT patient_id, issuer FROM studies WHERE id=?", (row["study"],))
        return _record(con, vault, row, "send", row["reason"], study, found)
    if (row := one(con, "SELECT * FROM receives WHERE tid=?", (tid,))) is not None:
        return _record(con, vault, row, "receive", peek(Offer, row["offer"]).why, None, found)
    raise AbsentError


def _record(
    con: Con,
    vault: Vault,
    row: sqlite3.Row,
    role: str,
    reason: str,
    study: sqlite3.Row | None,
    found: list[Line],
) -> Record:
    sent = role == "send"
    receipt = row["receipt"] or ""
    return Record(
        tid=bytes(row["tid"]).hex(), role=role,
        peer=seen(value(con, "SELECT name FROM peers WHERE site=?", (row["peer"],)) or ""),
        state=row["state"], why=row["why"], reason=reason,
        patient_id=seen(study["patient_id"]) if study else "", issuer=seen(study["issuer"]) if study else "",
        created_by=row["created_by"] if sent else "", created_at=row["created_at"], expires_at=row["exp"],
        ended_at=row["ended_at"], offer=row["offer"] or "", decision=_decision(vault, row, sent=sent),
        receipt=peek(Receipt, receipt) if receipt else None, receipt_signed=receipt, lines=found,
    )  # fmt: skip


def _decision(vault: Vault, row: sqlite3.Row, *, sent: bool) -> Decision | None:
    if row["grant_sealed"] is None:
        return None
    signed = vault.open("grant", row["grant_sealed"]).decode()
    grant = peek_grant(signed)
    at = row["decided_at"] if sent else row["opened_at"]
    if not isinstance(grant, Grant):  # the sending site signs for its staff
        rung = rung_of(grant)
        return Decision(
            rung=rung, says="approve", name=", ".join(grant.by), relation=STAFF_WORDS[rung], at=at, signed=signed,
            key=bytes(peek(Offer, row["offer"]).s), reason=grant.reason,
        )  # fmt: skip
    key = row["vp"] if sent else peek(Release, row["release"]).pk
    return Decision(
        rung=grant.by, says=grant.d, name=grant.name, relation=grant.rel, at=at, signed=signed, key=bytes(key or b""),
    )  # fmt: skip
