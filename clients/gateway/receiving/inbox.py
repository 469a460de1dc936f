"""One transfer at R, from the offer to its receipt (protocol s. 5, 10, table `transfer.states.RECEIVER`).

Whether a study may be opened is decided in `transfer.release` alone; here its rules meet the database: the
tid is marked used, the key stored and the state moved in one transaction. A release or a close that comes
before its offer waits for it. What is refused is answered with `close` DECLINED and its code; the release
is kept 48 hours for staff. What was refused is acknowledged too, so that it is not sent for ever. A
transfer is its sender's: what another paired site says of it is dropped.
"""

from __future__ import annotations

import sqlite3
from typing import Literal, get_args

import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.peers.outbox import post
from clients.gateway.peers.pins import Peer, Pins
from clients.gateway.receiving import remarks, settling
from clients.gateway.receiving.additions import parent_of
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, quoted, rows, value
from clients.gateway.store.vault import Vault
from transfer import jws
from transfer.errors import (
    ExpiredError,
    HashError,
    KeyUnknownError,
    LocalError,
    NotForMeError,
    PeerError,
    TransferError,
    UnknownSiteError,
    UsedError,
    by_code,
)
from transfer.ids import Digest, SiteId, Tid
from transfer.messages import Close, CloseWhy, Grant, Manifest, Offer, Receipt, Release, peek, sign_message
from transfer.release import KEEP, accept_close, accept_offer, make_ack, open_release, rung_of
from transfer.sites import Identity
from transfer.states import OPEN_RECEIVER, RECEIVER, TERMINAL, step

log = structlog.get_logger()
_WAITING = 1000
OPEN = 500
"""Transfers of one site that may be open here at once. An offer beyond is not acknowledged: it comes again."""
_TOO_MANY = "A paired site has offered more studies than a hospital sends. Call it: its gateway may be in wrong hands."
_STOP_ASKED = (
    "Sharing was to stop, after this was stored. It stays. Call the sender, and tell your privacy officer."
)
NO_END = 7 * 24 * 3600
"""Seconds after which R gives up on a manifest that never ends."""


class Inbox:
    """All transfers that this site receives."""

    def __init__(
        self,
        db: Database,
        vault: Vault,
        identity: Identity,
        pins: Pins,
        clock: Clock,
        outbox: Signal,
        changed: Signal,
    ) -> None:
        self._db, self._vault, self._identity, self._pins = db, vault, identity, pins
        self._clock, self._outbox, self._changed = clock, outbox, changed
        self.moved = Signal()
        """A transfer began, opened or ended: the prefetcher and the delivery look again."""

    def _wake(self) -> None:
        self._outbox.set()
        self._changed.set()
        self.moved.set()

    # Messages of S

    async def offer(self, text: str, peer: Peer) -> None:
        """O: into the inbox, or declined with its code. Raises a `PeerError` where even that cannot be trusted."""
        now = self._clock.now()

        def work(con: Con) -> None:
            offer = peek(Offer, text)
            known = one(con, "SELECT offer FROM receives WHERE tid=?", (offer.tid,))
            if known is not None:
                if known["offer"] == text:
                    post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), offer.tid, now)
                return
            if self._is_full(con, peer.site):
                audit.alarm(con, None, "too-many-offers", _TOO_MANY, now)
                return
            try:
                offer = accept_offer(
                    text, pin=peer.pin, me=self._identity.site, now=now,
                    prekey=lambda kid: self._pins.own_pair(con, kid),
                )  # fmt: skip
            except PeerError as why:
                jws.verify(Offer.NAME, text, peer.site, Offer.CAP)  # answer nobody but the pinned site
                post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), offer.tid, now)
                if _code_of_refusal(con, offer.tid) != why.code:
                    self._decline(con, offer.tid, jws.digest(text), peer.site, why, now)
                return
            state = step(RECEIVER, "", "offer").to
            con.execute(
                "INSERT INTO receives (tid, cid, peer, state, offer, created_at, exp) VALUES (?,?,?,?,?,?,?)",
                (offer.tid, offer.cid, peer.site, state, text, now, offer.exp),
            )
            post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), offer.tid, now)
            audit.record(con, "sender", "incoming.offer", offer.tid.hex(), peer.site.hex(), now)
            for waiting in rows(
                con, "SELECT * FROM waiting WHERE tid=? AND peer=? ORDER BY at", (offer.tid, peer.site)
            ):
                con.execute("DELETE FROM waiting WHERE hash=?", (waiting["hash"],))
                try:
                    self._second(con, waiting["body"], offer.tid, peer, now)
                except PeerError as why:  # it is no reason to refuse the offer
                    log.warning("waiting message dropped", code=why.code)

        await self._db.run(work)
        self._wake()

    @staticmethod
    def _is_full(con: Con, peer: SiteId) -> bool:
        n = value(con, "SELECT count(*) FROM receives WHERE peer=? AND state IN ('SEEN','OPENED')", (peer,))
        return int(n) >= OPEN

    async def later(self, text: str, peer: Peer, tid: Tid) -> None:
        """L or C: applied, or kept until its offer comes."""
        now = self._clock.now()

        def work(con: Con) -> None:
            if value(con, "SELECT 1 FROM receives WHERE tid=?", (tid,)):
                self._second(con, text, tid, peer, now)
                return
            kind = Release if _is_release(text) else Close
            jws.verify(kind.NAME, text, peer.site, kind.CAP)
            refused = _code_of_refusal(con, tid)
            if refused:  # its offer was: this is the answer to what comes after it
                self._refuse(con, text, tid, peer.site, by_code().get(refused, HashError)(), now)
                return
            self._keep(con, text, tid, peer.site, now)

        await self._db.run(work)
        await self._db.scrub()
        self._wake()

    @staticmethod
    def _keep(con: Con, text: str, tid: Tid, peer: SiteId, now: int) -> bool:
        """Keeps a message for its offer, or for staff; True if it is a new one. A site may have so many."""
        if value(con, "SELECT count(*) FROM waiting WHERE peer=?", (peer,)) >= _WAITING:
            return False
        return (
            con.execute(
                "INSERT OR IGNORE INTO waiting (hash, tid, peer, body, at) VALUES (?,?,?,?,?)",
                (jws.digest(text), tid, peer, text, now),
            ).rowcount
            == 1
        )

    def _second(self, con: Con, text: str, tid: Tid, peer: Peer, now: int) -> None:
        row = one(con, "SELECT * FROM receives WHERE tid=?", (tid,))
        assert row is not None
        if bytes(row["peer"]) != peer.site:
            raise NotForMeError
        if _is_release(text):
            self._release(con, row, text, peer, now)
        else:
            self._close(con, row, text, peer, now)

    def _release(self, con: Con, row: sqlite3.Row, text: str, peer: Peer, now: int) -> None:
        tid = Tid(row["tid"])
        used = value(con, "SELECT release FROM used WHERE tid=?", (tid,))
        if used is not None and jws.digest(text) == used:  # known, also after its pre-key was erased
            post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), tid, now)
            if row["receipt"] is not None:  # S may have been restored from a backup, and not know the end
                post(con, "queue", peer.site.hex(), row["receipt"], tid, now)
            return
        try:
            opened = open_release(
                text, row["offer"], pin=peer.pin, me=self._identity.site, now=now,
                prekey=lambda kid: self._pins.own_pair(con, kid), used=Digest(used) if used else None,
                opened=lambda offer: parent_of(con, peer.site, offer) is not None,
            )  # fmt: skip
            if row["state"] in ("EXPIRED", "DECLINED"):
                raise ExpiredError
        except PeerError as why:
            if _signed_by(text, peer.site):
                self._refuse(con, text, tid, peer.site, UsedError() if used else why, now)
            return
        post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), tid, now)
        if row["state"] != "SEEN":
            return
        offer = peek(Offer, row["offer"])
        parent = parent_of(con, peer.site, offer.parent) if offer.kind == "add" and offer.parent else None
        con.execute("INSERT INTO used (tid, release) VALUES (?,?)", (tid, jws.digest(text)))
        con.execute(
            "UPDATE receives SET state=?, release=?, k_sealed=?, grant_sealed=?, opened_at=?, parent=? WHERE tid=?",
            (step(RECEIVER, "SEEN", "release").to, text, self._vault.seal("content-key", opened.key),
             self._vault.seal("grant", opened.grant_text.encode()), now, parent, tid),
        )  # fmt: skip
        audit.record(con, "sender", "incoming.opened", tid.hex(), rung_of(opened.grant), now)
        if not isinstance(opened.grant, Grant):  # without the patient's yes
            by = f"{', '.join(opened.grant.by)}: {opened.grant.reason}"
            audit.record(con, "sender", f"incoming.{rung_of(opened.grant)}", tid.hex(), by, now)

    def _refuse(self, con: Con, text: str, tid: Tid, peer: SiteId, why: TransferError, now: int) -> None:
        """L (or a close for an offer that was refused): kept for staff, acknowledged, and L is declined, once."""
        new = self._keep(con, text, tid, peer, now)
        post(con, "ack", peer.hex(), make_ack(self._identity.key, text), tid, now)
        if new and _is_release(text):
            self._decline(con, tid, peek(Release, text).offer, peer, why, now)

    def _close(self, con: Con, row: sqlite3.Row, text: str, peer: Peer, now: int) -> None:
        tid = Tid(row["tid"])
        close = accept_close(
            text, site=peer.site, tid=tid, offer=jws.digest(row["offer"]), from_receiver=False
        )
        post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), tid, now)
        if row["state"] in TERMINAL:
            late = close.state == "REVOKED" and row["state"] in ("COMPLETE", "PARTIAL")
            if late and audit.alarm(con, tid, audit.STOP_ASKED, _STOP_ASKED, now):
                audit.record(con, "sender", "incoming.stop-asked", tid.hex(), "", now)
            return
        try:
            after = step(RECEIVER, row["state"], f"close-{close.state}")
        except LocalError:
            return
        self.end(con, row, after.to, close.why, now)
        audit.record(con, "sender", f"incoming.{close.state.lower()}", tid.hex(), "", now)

    def _decline(self, con: Con, tid: Tid, offer: Digest, peer: SiteId, why: TransferError, now: int) -> None:
        self._say_declined(con, tid, offer, peer, why.code, now)
        audit.alarm(con, tid, why.code, why.sentence, now)
        audit.record(con, "gateway", "incoming.declined", tid.hex(), why.code, now)
        row = one(con, "SELECT * FROM receives WHERE tid=? AND state='SEEN'", (tid,))
        if row is not None:
            self.end(con, row, step(RECEIVER, row["state"], "refuse").to, why.code, now)

    def _say_declined(self, con: Con, tid: Tid, offer: Digest, peer: SiteId, code: str, now: int) -> None:
        why = code if code in get_args(CloseWhy) else ""
        close = Close(v=1, tid=tid, offer=offer, state="DECLINED", why=why, iat=now)  # type: ignore[arg-type]
        post(con, "queue", peer.hex(), sign_message(close, self._identity.key), tid, now)

    # After a restore

    def restored(self, con: Con, now: int) -> int:
        """Ends what was open when a backup was made; how many. Its keys are not in a backup, and whether it was opened
        since is not known here. A close says so to S, and no receipt: that would contradict one that was sent since.
        """
        open_now = rows(con, f"SELECT * FROM receives WHERE state IN ({quoted(OPEN_RECEIVER)})")
        for row in open_now:
            tid, seen = Tid(row["tid"]), row["state"] == "SEEN"
            after = step(RECEIVER, row["state"], "refuse" if seen else "gave-up")
            con.execute(
                "UPDATE receives SET state=?, why='restored', ended_at=? WHERE tid=?", (after.to, now, tid)
            )
            code = KeyUnknownError.code if seen else "restored"
            self._say_declined(con, tid, jws.digest(row["offer"]), SiteId(row["peer"]), code, now)
            audit.record(con, "gateway", "incoming.declined", tid.hex(), "restored", now)
        return len(open_now)

    # Ends

    def end(self, con: Con, row: sqlite3.Row, state: str, why: str, now: int) -> None:
        """Moves to a terminal state, with a receipt if something was opened; erases keys."""
        con.execute(
            "UPDATE receives SET state=?, why=?, ended_at=? WHERE tid=?", (state, why, now, row["tid"])
        )
        if row["state"] == "OPENED" and not self.receipt(con, row, now) and state == "PARTIAL":
            self._say_declined(con, Tid(row["tid"]), jws.digest(row["offer"]), SiteId(row["peer"]), why, now)
        con.execute(
            "UPDATE receives SET k_sealed=NULL, bytes=(SELECT coalesce(sum(size),0) FROM in_packs"
            " WHERE cid=receives.cid AND have=1) WHERE tid=?",
            (row["tid"],),
        )

    def receipt(self, con: Con, row: sqlite3.Row, now: int) -> bool:
        """A: what the PACS holds, signed and in the outbox until S acknowledges it. False where no record was seen:
        then nothing can be named.
        """
        last = value(con, "SELECT compact FROM in_records WHERE cid=? ORDER BY i DESC LIMIT 1", (row["cid"],))
        if last is None:
            return False
        tid = Tid(row["tid"])
        gaps = [
            r[0]
            for r in rows(
                con, "SELECT no FROM ledger_items WHERE tid=? AND state<>'stored' ORDER BY no", (tid,)
            )
        ]
        ended = peek_end(last)
        whole = ended and not gaps and not _short(con, row)
        state: Literal["COMPLETE", "PARTIAL"] = "COMPLETE" if whole else "PARTIAL"
        receipt = Receipt(
            v=1, tid=tid, offer=jws.digest(row["offer"]), grant=jws.digest(self._grant(row)),
            manifest=jws.digest(last), state=state, proof=settling.proof_of(con, tid), gaps=gaps[:4000], iat=now,
        )  # fmt: skip
        text = sign_message(receipt, self._identity.key)
        con.execute("UPDATE receives SET receipt=? WHERE tid=?", (text, tid))
        post(con, "queue", bytes(row["peer"]).hex(), text, tid, now)
        account = f"gaps {len(gaps)}, {settling.account(con, tid)}{remarks.account(con, tid)}"
        audit.record(con, "gateway", f"receipt.{state.lower()}", tid.hex(), account, now)
        return True

    def _grant(self, row: sqlite3.Row) -> str:
        return self._vault.open("grant", row["grant_sealed"]).decode()

    async def finish(self, tid: Tid, event: str, why: str = "") -> None:
        """`delivered`, `gave-up` or `chain`: the delivery is over."""
        now = self._clock.now()

        def work(con: Con) -> None:
            row = one(con, "SELECT * FROM receives WHERE tid=?", (tid,))
            if row is None or row["state"] != "OPENED":
                return
            if event == "chain":
                audit.alarm(con, tid, why, by_code().get(why, PeerError)().sentence, now)
            short = event == "delivered" and _short(con, row)
            after = step(RECEIVER, "OPENED", "gave-up" if short else event)
            self.end(con, row, after.to, "unsent" if short else why, now)

        await self._db.run(work)
        await self._db.scrub()
        self._wake()

    async def unpaired(self, peer: SiteId) -> None:
        """A site is trusted no more: its offers that nobody has opened are declined. What was opened goes on: it was
        the site's study when the key came.
        """
        now = self._clock.now()

        def work(con: Con) -> None:
            for row in rows(con, "SELECT * FROM receives WHERE peer=? AND state='SEEN'", (peer,)):
                offer = jws.digest(row["offer"])
                self._decline(con, Tid(row["tid"]), offer, peer, UnknownSiteError(), now)

        await self._db.run(work)
        self._wake()

    async def expire(self) -> None:
        """SEEN offers whose time is over, releases kept for staff, by this site's clock."""
        now = self._clock.now()

        def work(con: Con) -> int:
            old = rows(con, "SELECT * FROM receives WHERE state='SEEN' AND exp+?<=?", (KEEP, now))
            for row in old:
                self.end(con, row, step(RECEIVER, "SEEN", "expire").to, "", now)
            con.execute("DELETE FROM waiting WHERE at<?", (now - KEEP,))
            return len(old)

        if await self._db.run(work):
            self._wake()


def unsent(con: Con, tid: bytes, cid: bytes) -> int:
    """Images that S counted in a series and could not list: they were lost there."""
    return int(
        value(
            con,
            "SELECT coalesce(sum(max(0, s.want -"
            " (SELECT count(DISTINCT no) FROM ledger l WHERE l.tid=? AND l.series=s.no))), 0)"
            " FROM in_series s WHERE s.cid=? AND s.closed=1",
            (tid, cid),
        )
    )


def _short(con: Con, row: sqlite3.Row) -> bool:
    """Whether all that was listed is less than the study; nothing at all is no study."""
    return not row["total"] or unsent(con, row["tid"], row["cid"]) > 0


def _code_of_refusal(con: Con, tid: Tid) -> str:
    """Why an offer was refused that never got a row; empty where none was."""
    return str(
        value(
            con,
            "SELECT code FROM alarms WHERE tid=?1 AND NOT EXISTS (SELECT 1 FROM receives WHERE tid=?1)",
            (tid,),
        )
        or ""
    )


def _is_release(text: str) -> bool:
    return text.startswith(jws.header(Release.NAME) + ".")


def peek_end(record: str) -> bool:
    """Whether an (already verified) manifest record is the last."""
    return peek(Manifest, record).end


def _signed_by(text: str, site: SiteId) -> bool:
    try:
        jws.verify(Release.NAME, text, site, Release.CAP)
    except PeerError:
        return False
    return True
