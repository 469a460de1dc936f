"""One transfer at S, from "Send" to its one end (protocol s. 10, table `transfer.states.SENDER`).

Each event is one transaction: the state moves by the table, what it needs is stored or erased, and what
others must learn is put into the outbox. Nothing here waits for the network.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

from clients.gateway.errors import GatewayError
from clients.gateway.peers.outbox import post
from clients.gateway.sending.additions import Additions
from clients.gateway.sending.offering import SiteWords
from clients.gateway.store import audit
from clients.gateway.store.database import Con, quoted, rows, value
from transfer import jws, tries
from transfer.errors import GrantTypeError, HashError, KeyUnknownError, PeerError, StateError
from transfer.ids import Digest, PublicKey, SiteId, Tid
from transfer.messages import (
    Attest,
    Grant,
    Override,
    Prekey,
    Receipt,
    open_message,
    peek,
    sign_message,
)
from transfer.release import NO_RUN, accept_close, accept_receipt, make_ack
from transfer.states import OPEN_SENDER, SENDER, step

NO_RECEIPT_ALARM = 24 * 3600
NO_RECEIPT_END = 7 * 24 * 3600
UNFINISHED = "import-unfinished"
"""Why a transfer was stopped whose study could not be read to its end."""
RESTORED = "restored"
"""Why a transfer ended that was open when a backup was made."""


class Offers(Additions):
    """All transfers that this site sends."""

    # Events of staff

    async def create(
        self,
        study: str,
        peer: SiteId,
        reason: str,
        actor: str,
        again: str = "",
        alt: Sequence[SiteId] = (),
        add: int = 0,
    ) -> Tid:
        """`create`: keys, code and row of a new transfer; `again`: why, after a no; `add`: seconds in which something
        may follow it. Raises `AbsentError`.
        """
        now = self._clock.now()
        made: Tid = await self._commit(  # type: ignore[assignment]
            lambda con: self._create(con, study, peer, reason, actor, now, again=again, alt=alt, add=add)
        )
        return made

    async def stop(self, tid: Tid, actor: str) -> None:
        """`stop`: a person takes it back. Raises `StateError` once it has ended."""
        now = self._clock.now()

        def work(con: Con) -> None:
            row = self._row(con, tid)
            self._end(con, row, "stop", now)
            audit.record(con, actor, "transfer.stop", tid.hex(), row["state"], now)

        await self._commit(work, erased=True)

    def cut_short(self, con: Con, study: str, sentence: str, now: int) -> bool:
        """The rest of this study will never be here. What nobody has said yes to is stopped; what R has opened goes
        on with what there is, and ends PARTIAL: its last record says that images are missing. True if keys were erased.
        """
        hit = rows(
            con,
            "SELECT s.* FROM sends s JOIN spools p ON p.cid=s.cid WHERE s.study=? AND p.frozen IS NULL"
            f" AND s.state IN ({quoted(OPEN_SENDER)})",
            (study,),
        )
        for row in hit:
            audit.alarm(con, row["tid"], UNFINISHED, sentence, now)
            if row["state"] != "RELEASED" and row["kind"] != "add":
                self._end(con, row, "stop", now, why=UNFINISHED)
                audit.record(con, "gateway", "transfer.stop", bytes(row["tid"]).hex(), row["state"], now)
        return bool(hit)

    # Events of time

    async def waiting_for_prekey(self) -> list[tuple[Tid, SiteId]]:
        """Transfers that want an offer. An addition does once R has all that its parent said (protocol s. 7)."""
        found = await self._db.run(
            lambda con: rows(
                con,
                "SELECT tid, peer FROM sends s WHERE state='PREPARING' AND (kind<>'add' OR NOT EXISTS (SELECT 1 FROM"
                " outbox o WHERE o.tid=s.parent AND o.kind='queue')) ORDER BY created_at",
            )
        )
        return [(Tid(r["tid"]), SiteId(r["peer"])) for r in found]

    async def no_prekey(self, tid: Tid) -> None:
        """The destination offers no key yet: say so, once, and wait."""
        said = await self._db.run(
            lambda con: (
                con.execute(
                    "UPDATE sends SET why='no-prekey' WHERE tid=? AND state='PREPARING' AND why=''", (tid,)
                ).rowcount
            )
        )
        if said:
            self._changed.set()

    async def offer(self, tid: Tid, prekey_text: str, prekey: Prekey, site: SiteWords, seconds: int) -> None:
        """`offer`: signs and stores O, opens the mailbox, tells R."""
        now = self._clock.now()

        def work(con: Con) -> None:
            self._sign(con, tid, (prekey_text, prekey), site, seconds, now)
            row = self._row(con, tid)
            if row["kind"] == "add":
                self._release_addition(con, row, now)
            else:
                self._say_hello(con, row, now)

        await self._commit(work)

    async def expire(self) -> None:
        """`expire`, `no-receipt`, and the erasures that are due, by this site's own clock."""
        now = self._clock.now()

        def work(con: Con) -> bool:
            erased = False
            for row in rows(con, "SELECT * FROM sends WHERE state='OFFERED' AND exp<=?", (now,)):
                self._end(con, row, "expire", now)
                audit.record(con, "gateway", "transfer.expire", bytes(row["tid"]).hex(), "", now)
                erased = True
            erased |= self.run_out(con, now)
            for row in rows(con, "SELECT * FROM sends WHERE state='RELEASED'"):
                erased |= self._no_receipt(con, row, now)
            late = rows(
                con,
                "SELECT * FROM sends WHERE ended_at>0 AND ended_at<=? AND swept=0 AND q_sealed IS NOT NULL",
                (now - tries.AFTER_END,),
            )
            for row in late:
                self._forget_code(con, row, now)
                erased = True
            return erased

        erased = await self._db.run(work)
        if erased:
            await self._db.scrub()
            self._outbox.set()
            self._changed.set()

    def _no_receipt(self, con: Con, row: sqlite3.Row, now: int) -> bool:
        waited = now - row["decided_at"]
        if waited >= NO_RECEIPT_END:
            self._end(con, row, "no-receipt", now, why="no-receipt")
            return True
        if waited >= NO_RECEIPT_ALARM and not row["alarmed"]:
            con.execute("UPDATE sends SET alarmed=1 WHERE tid=?", (row["tid"],))
            return audit.alarm(
                con, row["tid"], "no-receipt",
                "The receiving site has not confirmed for a day. Call it and ask for the images.", now,
            )  # fmt: skip
        return False

    # Events of the phone; doors.py calls these inside its own transactions

    def decide(
        self, con: Con, row: sqlite3.Row, grant: Grant, grant_text: str, vp: PublicKey, now: int
    ) -> str:
        """`approve` or `deny`; "" or the code of why it was refused. The first decision for the tid counts."""
        if row["state"] != "OFFERED":
            return "decided"
        if now >= row["exp"]:
            return "expired"
        tid, instead = Tid(row["tid"]), None
        if grant.d == "approve":
            if grant.by == "proxy" and not self._proxy_may(con, row):
                return GrantTypeError.code
            instead = self._follow(con, row, grant_text, vp, now)
        if grant.d == "approve" and instead is None:
            try:
                self._release(con, row, grant_text, "patient", vp, now)
            except PeerError as why:
                return why.code
        self._keep_decision(con, tid, grant.d, grant_text, vp, now)
        if grant.d == "deny":
            self._end(con, self._row(con, tid), "deny", now)
            self._refuse_children(con, row, now)
        else:
            self._supersede(con, instead or row, now)
        audit.record(con, grant.by, f"transfer.{grant.d}", tid.hex(), grant.rel, now)
        return ""

    def _proxy_may(self, con: Con, row: sqlite3.Row) -> bool:
        """After a no, a proxy's yes counts where the ladder has a proxy follow; the patient's own always does."""
        return not refused_at(con, row["study"]) or self.ladder.refusal.next in ("proxy", "voice")

    # Staff decide in the person's place; `rungs.py` calls this inside its own transaction, and has seen that they may

    def staff_decide(
        self,
        con: Con,
        row: sqlite3.Row,
        kind: Literal["attest", "override"],
        by: list[str],
        reason: str,
        now: int,
    ) -> None:
        """`attest` or `override`. Raises a `TransferError`."""
        after, tid = step(SENDER, row["state"], kind).to, Tid(row["tid"])
        said: dict[str, Any] = {
            "v": 1,
            "tid": tid,
            "offer": jws.digest(row["offer"]),
            "by": by,
            "reason": reason,
            "iat": now,
        }
        try:
            text = sign_message((Attest if kind == "attest" else Override)(**said), self._identity.key)
        except ValueError:
            raise GatewayError(
                "Reason and names are too long for one message. Shorten the reason.", code="size"
            ) from None
        if row["door"] != "qr" or row["pin_sealed"] is None:
            # The notice on paper needs a code that can be printed. It asks nobody, so who is at the old one is not
            # sent for it.
            self._replace(con, row, self._new(con, row, "qr"), now, after)
        instead = self._follow(con, row, text, NO_RUN, now)
        if instead is None:
            self._release(con, row, text, kind, NO_RUN, now)
        self._keep_decision(con, tid, "staff", text, None, now)
        self._supersede(con, instead or row, now)
        audit.record(con, by[-1], f"transfer.{kind}", tid.hex(), f"{', '.join(by)}: {reason}", now)
        self.tell(con, tid, now)

    # Events of R

    async def receipt(self, text: str, peer: SiteId, tid: Tid) -> None:
        """`receipt-complete` or `receipt-partial`; a later receipt replaces the text, never the state; an earlier one
        that the relay brings again replaces nothing. Raises a `PeerError`.
        """
        now = self._clock.now()

        def work(con: Con) -> None:
            row = self._row(con, tid)
            grant = row["grant_sealed"]
            if bytes(row["peer"]) != peer:
                raise StateError
            if row["why"] == RESTORED and grant is None:
                return self._forgotten(con, row, text, peer, now)
            if row["offer"] is None or grant is None:
                raise StateError
            hashes = frozenset(
                Digest(r[0]) for r in rows(con, "SELECT hash FROM records WHERE cid=?", (row["cid"],))
            )
            receipt = accept_receipt(
                text, r=peer, tid=tid, offer=jws.digest(row["offer"]),
                grant=jws.digest(self._vault.open("grant", grant).decode()), manifests=hashes,
            )  # fmt: skip
            post(con, "ack", peer.hex(), make_ack(self._identity.key, text), tid, now)
            known = row["receipt"]
            if known is not None and (known == text or peek(Receipt, known).iat > receipt.iat):
                return
            con.execute("UPDATE sends SET receipt=? WHERE tid=?", (text, tid))
            if row["state"] == "RELEASED":
                unsent = value(con, "SELECT unsent FROM spools WHERE cid=?", (row["cid"],))
                whole = receipt.state == "COMPLETE" and not unsent
                event = "receipt-complete" if whole else "receipt-partial"
                why = "unsent" if unsent else "gaps" if receipt.gaps else ""
                self._end(con, self._row(con, tid), event, now, why=why)
            audit.record(con, "receiver", f"receipt.{receipt.state.lower()}", tid.hex(), receipt.proof, now)

        await self._commit(work, erased=True)

    async def declined(self, text: str, peer: SiteId, tid: Tid) -> None:
        """`declined`: R cannot or will not. Raises a `PeerError`."""
        now = self._clock.now()

        def work(con: Con) -> None:
            row = self._row(con, tid)
            if bytes(row["peer"]) != peer or row["offer"] is None:
                raise StateError
            close = accept_close(text, site=peer, tid=tid, offer=jws.digest(row["offer"]), from_receiver=True)
            post(con, "ack", peer.hex(), make_ack(self._identity.key, text), tid, now)
            if close.why == KeyUnknownError.code:  # the next offer is made for a key that is fetched anew
                con.execute("UPDATE peers SET prekey=NULL, prekey_exp=0 WHERE site=?", (peer,))
            if row["state"] not in OPEN_SENDER:
                return
            sentence = _DECLINED.get(close.why, _DECLINED[""])
            if audit.alarm(con, tid, close.why or "declined", sentence, now) or row["state"] == "RELEASED":
                audit.record(con, "receiver", "transfer.declined", tid.hex(), close.why, now)
            if row["state"] == "RELEASED":
                self._end(con, row, "declined", now, why=close.why)
            else:
                step(SENDER, row["state"], "declined")
                con.execute("UPDATE sends SET why=? WHERE tid=?", (close.why, tid))

        await self._commit(work, erased=True)

    # After a restore

    def restored(self, con: Con, now: int) -> int:
        """Ends what was open when a backup was made; how many. What happened since is not known here: tries may be
        spent, counters of channels used, packs sealed under their numbers. So no phone is answered any more, and no
        pack is made. A release whose study was sealed to its end is sent again: R answers with its receipt.
        """
        ended = 0
        for row in rows(con, f"SELECT * FROM sends WHERE state IN ({quoted(OPEN_SENDER)})"):
            tid = Tid(row["tid"])
            if row["state"] == "RELEASED" and value(
                con, "SELECT ended FROM spools WHERE cid=?", (row["cid"],)
            ):
                con.execute("UPDATE packs SET uploaded=1 WHERE cid=?", (row["cid"],))
                post(con, "queue", bytes(row["peer"]).hex(), row["release"], tid, now)
                continue
            self._end(con, row, "stop", now, why=RESTORED)
            audit.record(con, "gateway", "transfer.stop", tid.hex(), RESTORED, now)
            ended += 1
        con.execute("UPDATE sends SET add_until=? WHERE add_until>?", (now, now))
        for row in rows(con, "SELECT * FROM sends WHERE swept=0"):  # their codes are not in a backup
            self._forget_code(con, row, now)
        return ended

    def _forgotten(self, con: Con, row: sqlite3.Row, text: str, peer: SiteId, now: int) -> None:
        """A receipt for what this database does not remember to have released: the backup is older. Staff are told."""
        receipt = open_message(Receipt, text, peer)
        if row["offer"] is not None and receipt.offer != jws.digest(row["offer"]):
            raise HashError
        post(con, "ack", peer.hex(), make_ack(self._identity.key, text), Tid(row["tid"]), now)
        what = "every image" if receipt.state == "COMPLETE" else "a part of the images"
        audit.alarm(
            con, row["tid"], RESTORED,
            f"This transfer went on after the backup was made: the destination has stored {what}.", now,
        )  # fmt: skip


def refused_at(con: Con, study: str) -> int:
    """When a person last said no to sending this study, in whatever transfer; 0 if nobody did."""
    found = value(con, "SELECT max(decided_at) FROM sends WHERE study=? AND decision='deny'", (study,))
    return int(found or 0)


_DECLINED = {
    "": "The receiving site declined this transfer. Call it before you send again.",
    "kid-unknown": "The receiving site changed its key. Send the study again; nobody needs to be told why.",
    "clock": "The clocks of the two sites differ by more than ten minutes. Set the clock, then send again.",
    "expired": "The receiving site got the answer too late. Send the study again.",
    GrantTypeError.code: "The receiving site takes no decision of staff in a patient's place from this hospital, and"
    " opened nothing. Call it, and use the existing route; ask the patient in a new transfer.",
}
