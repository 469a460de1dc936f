"""One transfer at R, from the offer to its receipt (protocol s. 5, 10, table `transfer.states.RECEIVER`).

Whether a study may be opened is decided in `transfer.release` alone; here its rules meet the database: the
tid is marked used, the key stored and the state moved in one transaction. A release or a close that comes
before its offer waits for it. What is refused is answered with `close` DECLINED and its code; the release
is kept 48 hours for staff.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.peers.outbox import post
from clients.gateway.peers.pins import Peer, Pins
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, rows, value
from clients.gateway.store.vault import Vault
from transfer import jws
from transfer.errors import LocalError, PeerError, TransferError, UsedError, by_code
from transfer.ids import Digest, SiteId, Tid
from transfer.messages import Close, Manifest, Offer, Receipt, Release, peek, sign_message
from transfer.release import KEEP, accept_close, accept_offer, make_ack, open_release
from transfer.sites import Identity
from transfer.states import RECEIVER, TERMINAL, step

log = structlog.get_logger()
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
            try:
                offer = accept_offer(
                    text, pin=peer.pin, me=self._identity.site, now=now,
                    prekey=lambda kid: self._pins.own_pair(con, kid),
                )  # fmt: skip
            except PeerError as why:
                jws.verify(Offer.NAME, text, peer.site, Offer.CAP)  # answer nobody but the pinned site
                self._decline(con, offer.tid, text, peer.site, why, now)
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
                self._second(con, waiting["body"], offer.tid, peer, now)

        await self._db.run(work)
        self._wake()

    async def later(self, text: str, peer: Peer, tid: Tid) -> None:
        """L or C: applied, or kept until its offer comes."""
        now = self._clock.now()

        def work(con: Con) -> None:
            if value(con, "SELECT 1 FROM receives WHERE tid=?", (tid,)):
                self._second(con, text, tid, peer, now)
                return
            kind = Release if jws.header(Release.NAME) == text.split(".", 1)[0] else Close
            jws.verify(kind.NAME, text, peer.site, kind.CAP)
            con.execute(
                "INSERT OR IGNORE INTO waiting (hash, tid, peer, body, at) VALUES (?,?,?,?,?)",
                (jws.digest(text), tid, peer.site, text, now),
            )

        await self._db.run(work)
        await self._db.scrub()
        self._wake()

    def _second(self, con: Con, text: str, tid: Tid, peer: Peer, now: int) -> None:
        row = one(con, "SELECT * FROM receives WHERE tid=?", (tid,))
        assert row is not None
        if jws.header(Release.NAME) == text.split(".", 1)[0]:
            self._release(con, row, text, peer, now)
        else:
            self._close(con, row, text, peer, now)

    def _release(self, con: Con, row: sqlite3.Row, text: str, peer: Peer, now: int) -> None:
        tid = Tid(row["tid"])
        used = value(con, "SELECT release FROM used WHERE tid=?", (tid,))
        try:
            opened = open_release(
                text, row["offer"], pin=peer.pin, me=self._identity.site, now=now,
                prekey=lambda kid: self._pins.own_pair(con, kid), used=Digest(used) if used else None,
            )  # fmt: skip
        except UsedError as why:
            audit.alarm(con, tid, why.code, why.sentence, now)
            audit.record(con, "sender", "incoming.release-refused", tid.hex(), why.code, now)
            return
        except PeerError as why:
            if jws.digest(text) == used:  # the same release again, after its pre-key was erased: it is known
                post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), tid, now)
                return
            if row["state"] == "SEEN" and _signed_by(text, peer.site):
                con.execute(
                    "INSERT OR IGNORE INTO waiting (hash, tid, peer, body, at) VALUES (?,?,?,?,?)",
                    (jws.digest(text), tid, peer.site, text, now),
                )
                self._decline(con, tid, row["offer"], peer.site, why, now)
            return
        post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), tid, now)
        if row["state"] != "SEEN":
            return
        con.execute("INSERT INTO used (tid, release) VALUES (?,?)", (tid, jws.digest(text)))
        con.execute(
            "UPDATE receives SET state=?, release=?, k_sealed=?, grant_sealed=?, opened_at=? WHERE tid=?",
            (step(RECEIVER, "SEEN", "release").to, text, self._vault.seal("content-key", opened.key),
             self._vault.seal("grant", opened.grant_text.encode()), now, tid),
        )  # fmt: skip
        audit.record(con, "sender", "incoming.opened", tid.hex(), opened.grant.by, now)

    def _close(self, con: Con, row: sqlite3.Row, text: str, peer: Peer, now: int) -> None:
        tid = Tid(row["tid"])
        close = accept_close(
            text, site=peer.site, tid=tid, offer=jws.digest(row["offer"]), from_receiver=False
        )
        post(con, "ack", peer.site.hex(), make_ack(self._identity.key, text), tid, now)
        if row["state"] in TERMINAL:
            return
        try:
            after = step(RECEIVER, row["state"], f"close-{close.state}")
        except LocalError:
            return
        self.end(con, row, after.to, close.why, now)
        audit.record(con, "sender", f"incoming.{close.state.lower()}", tid.hex(), "", now)

    def _decline(self, con: Con, tid: Tid, offer: str, peer: SiteId, why: TransferError, now: int) -> None:
        code = self._say_declined(con, tid, offer, peer, why.code, now)
        audit.alarm(con, tid, code, why.sentence, now)
        audit.record(con, "gateway", "incoming.declined", tid.hex(), code, now)
        row = one(con, "SELECT * FROM receives WHERE tid=?", (tid,))
        if row is not None:
            self.end(con, row, step(RECEIVER, row["state"], "refuse").to, code, now)

    def _say_declined(self, con: Con, tid: Tid, offer: str, peer: SiteId, why: str, now: int) -> str:
        """The code that S is told."""
        code = why if why in by_code() else "header"
        close = Close(v=1, tid=tid, offer=jws.digest(offer), state="DECLINED", why=code, iat=now)  # type: ignore[arg-type]
        post(con, "queue", peer.hex(), sign_message(close, self._identity.key), tid, now)
        return code

    # Ends

    def end(self, con: Con, row: sqlite3.Row, state: str, why: str, now: int) -> None:
        """Moves to a terminal state, with a receipt if something was opened; erases keys."""
        con.execute(
            "UPDATE receives SET state=?, why=?, ended_at=? WHERE tid=?", (state, why, now, row["tid"])
        )
        if row["state"] == "OPENED":
            self.receipt(con, row, now)
        con.execute(
            "UPDATE receives SET k_sealed=NULL, bytes=(SELECT coalesce(sum(size),0) FROM in_packs"
            " WHERE cid=receives.cid AND have=1) WHERE tid=?",
            (row["tid"],),
        )

    def receipt(self, con: Con, row: sqlite3.Row, now: int) -> None:
        """A: what the PACS holds, signed and in the outbox until S acknowledges it."""
        last = value(con, "SELECT compact FROM in_records WHERE cid=? ORDER BY i DESC LIMIT 1", (row["cid"],))
        if last is None:
            return  # no record was seen: nothing can be named
        tid = Tid(row["tid"])
        gaps = [
            r[0]
            for r in rows(con, "SELECT no FROM ledger WHERE tid=? AND state<>'stored' ORDER BY no", (tid,))
        ]
        ended = peek_end(last)
        state: Literal["COMPLETE", "PARTIAL"] = "COMPLETE" if ended and not gaps else "PARTIAL"
        receipt = Receipt(
            v=1, tid=tid, offer=jws.digest(row["offer"]), grant=jws.digest(self._grant(row)),
            manifest=jws.digest(last), state=state, proof="store", gaps=gaps[:4000], iat=now,
        )  # fmt: skip
        text = sign_message(receipt, self._identity.key)
        con.execute("UPDATE receives SET receipt=? WHERE tid=?", (text, tid))
        post(con, "queue", bytes(row["peer"]).hex(), text, tid, now)
        audit.record(con, "gateway", f"receipt.{state.lower()}", tid.hex(), f"gaps {len(gaps)}", now)

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
            self.end(con, row, step(RECEIVER, "OPENED", event).to, why, now)
            if not value(
                con, "SELECT receipt FROM receives WHERE tid=?", (tid,)
            ):  # S must hear of it all the same
                code = why if event == "chain" else "pack"
                self._say_declined(con, tid, row["offer"], SiteId(row["peer"]), code, now)

        await self._db.run(work)
        await self._db.scrub()
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


def peek_end(record: str) -> bool:
    """Whether an (already verified) manifest record is the last."""
    return peek(Manifest, record).end


def _signed_by(text: str, site: SiteId) -> bool:
    try:
        jws.verify(Release.NAME, text, site, Release.CAP)
    except PeerError:
        return False
    return True
