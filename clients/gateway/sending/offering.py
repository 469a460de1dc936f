"""What a transfer at S begins with (see `offers`): its keys and code, and its signed offer.

All of it runs inside the transaction of the event that it belongs to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from clients.gateway.errors import AbsentError
from clients.gateway.peers.outbox import post
from clients.gateway.sending.codes import Codes
from clients.gateway.sending.words import describe, initials
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows, value
from transfer import jws
from transfer.ids import Cid, SiteId, Tid
from transfer.messages import Offer, Prekey, sign_message
from transfer.states import SENDER, step
from transfer.summary import SALT_SIZE, Summary, make_summary, summary_hash

CONSENT_TEXT = "2026-1"
"""Id of the wording that the phone shows, all its languages together."""
ALTERNATES = 4
"""Sites that a question may name beside the destination (protocol s. 2)."""


class SiteWords(msgspec.Struct, frozen=True):
    """How this site is named to a patient, and whom they may call."""

    name: str
    call: str


class Parent(msgspec.Struct, frozen=True):
    """What makes an offer a child (protocol s. 7)."""

    tid: Tid
    kind: Literal["divert", "add"]
    after: int = 0
    """Of an addition: the last instance of the study that was sent before."""


class Offering(Codes):
    """What `Offers` and `Diversion` begin transfers with."""

    def _create(
        self,
        con: Con,
        study: str,
        peer: SiteId,
        reason: str,
        actor: str,
        now: int,
        *,
        again: str = "",
        alt: Sequence[SiteId] = (),
        cid: Cid | None = None,
        parent: Parent | None = None,
        add: int = 0,
    ) -> Tid:
        """`create`: keys, code and row. `cid`: content that is sealed already; else it is sealed anew. `add`: seconds
        from the offer on in which something may follow. An addition has no door, so no code.
        """
        if not value(con, "SELECT 1 FROM instances WHERE study=? LIMIT 1", (study,)):
            raise AbsentError("This study has no images here. Import it or send it from the scanner first.")
        tid, code = Tid(self._random(16)), self._new(con, None, "qr")
        if cid is None:
            cid = Cid(self._random(16))
            con.execute(
                "INSERT INTO spools (cid, study, k_sealed, after, after_import) SELECT ?1, ?2, ?3, ?4, coalesce((SELECT"
                " max(id) FROM imports WHERE study=?2 AND stopped<>'' AND ?4>0), 0)",
                (
                    cid,
                    study,
                    self._vault.seal("content-key", self._random(32)),
                    parent.after if parent else 0,
                ),
            )
        door = parent is None or parent.kind != "add"
        con.execute(
            "INSERT INTO sends (tid, cid, study, peer, state, reason, created_by, created_at, q_sealed, pin_sealed,"
            " mailbox, again, alt, parent, kind, add_seconds) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (tid, cid, study, peer, step(SENDER, "", "create").to, reason, actor, now,
             self._vault.seal("q", code.q) if door else None,
             self._vault.seal("pin", code.pin.encode()) if door else None,
             code.mailbox, again, " ".join(site.hex() for site in alt),
             parent.tid if parent else None, parent.kind if parent else "", add),
        )  # fmt: skip
        self._keep(con, code.mailbox, tid, now)
        if again:
            audit.record(con, actor, "transfer.again", tid.hex(), again, now)
        audit.record(con, actor, "transfer.create", tid.hex(), reason, now)
        return tid

    def _sign(
        self, con: Con, tid: Tid, prekey: tuple[str, Prekey], site: SiteWords, seconds: int, now: int
    ) -> None:
        """`offer`: signs and stores O, tells R and the relay. Whoever calls opens the mailbox."""
        row = self._row(con, tid)
        after = step(SENDER, row["state"], "offer").to
        prekey_text, key = prekey
        exp = min(now + seconds, key.exp)
        add = 0 if row["parent"] else row["add_seconds"]  # a child's own would cover nothing
        study = one(con, "SELECT * FROM studies WHERE id=?", (row["study"],))
        if study is None:
            raise AbsentError
        series = rows(con, "SELECT * FROM series WHERE study=? ORDER BY no", (row["study"],))
        alternates = alternates_of(con, row)
        summary = make_summary(
            Summary(
                person=initials(study["patient_name"], study["birth_date"]), from_=site.name[:120],
                to=value(con, "SELECT name FROM peers WHERE site=?", (row["peer"],)) or "",
                what=describe(study, series)[:120], why=row["reason"], until=exp,
                alt=[name for _, name in alternates], add=add, call=site.call[:80],
                declined=self._declined(con, row["study"]),
            )
        )  # fmt: skip
        salt = self._random(SALT_SIZE)
        text = sign_message(
            Offer(
                v=1, tid=tid, cid=Cid(row["cid"]), s=self._identity.site, r=SiteId(row["peer"]), kid=key.kid,
                sum=summary_hash(salt, summary), ct=CONSENT_TEXT, why=row["reason"],
                alt=[site for site, _ in alternates], add=add, iat=now, exp=exp, **self._child(con, row),
            ),
            self._identity.key,
        )  # fmt: skip
        con.execute(
            "UPDATE sends SET state=?, why='', offer=?, prekey=?, summary=?, salt=?, exp=?, add_until=? WHERE tid=?",
            (after, text, prekey_text, summary, salt, exp, now + add if add else 0, tid),
        )
        post(con, "relay", f"/v1/packs/{bytes(row['cid']).hex()}/readers", text, tid, now)
        post(con, "queue", bytes(row["peer"]).hex(), text, tid, now)
        audit.record(con, "gateway", "transfer.offer", tid.hex(), "", now)

    def _child(self, con: Con, row: sqlite3.Row) -> dict[str, Any]:
        if row["parent"] is None:
            return {}
        return {"parent": jws.digest(self._row(con, row["parent"])["offer"]), "kind": row["kind"]}


def alternates_of(con: Con, row: sqlite3.Row) -> list[tuple[SiteId, str]]:
    """Id and name of the sites that a transfer's question names beside the destination; those still paired."""
    sites = [SiteId.from_hex(text) for text in row["alt"].split()]
    named = [(s, value(con, "SELECT name FROM peers WHERE site=? AND unpinned_at=0", (s,))) for s in sites]
    return [(site, str(name)) for site, name in named if name]
