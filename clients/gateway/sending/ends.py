"""What the events of a transfer at S have in common (see `offers`): how it ends, what is erased then, and what its
phones are told.

All of it runs inside the transaction of the event that it belongs to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from clients.gateway.clock import Clock, Random, Signal
from clients.gateway.errors import AbsentError
from clients.gateway.ladder import Ladder
from clients.gateway.peers.outbox import acknowledged, forget, post
from clients.gateway.peers.relay import hello_path, slot_path
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, quoted, rows, value
from clients.gateway.store.vault import Vault
from transfer import jws
from transfer.channel import Channel, ChannelState
from transfer.door import receipt_code
from transfer.ids import BlobKey, Cid, RunId, SiteId, Tid, stored_mailbox
from transfer.mailbox import Decided, Hello, Sealed, Status, Tombstone
from transfer.messages import Close, Grant, encode, peek, sign_message
from transfer.sites import Identity
from transfer.states import OPEN_SENDER, SENDER, TERMINAL, step
from transfer.summary import Declined

DELIVERED: Final = ("COMPLETE", "PARTIAL")
"""Ends after which R has what it has: a wish to stop is passed on and takes nothing back."""
_STOP_ASKED = (
    "After the end, somebody asked to stop sharing. The destination is told; what it has stored stays"
    " there. Talk with the person, and tell your privacy officer."
)


class Ends:
    """The base of `Codes`, and so of `Offers`."""

    def __init__(
        self,
        db: Database,
        vault: Vault,
        identity: Identity,
        clock: Clock,
        random: Random,
        outbox: Signal,
        changed: Signal,
        ladder: Ladder | None = None,
    ) -> None:
        self._db, self._vault, self._identity = db, vault, identity
        self._clock, self._random = clock, random
        self._outbox, self._changed = outbox, changed
        self.ladder = ladder or Ladder()

    async def _commit(self, work: Callable[[Con], object], *, erased: bool = False) -> object:
        result = await self._db.run(work)
        if erased:
            await self._db.scrub()
        self._outbox.set()
        self._changed.set()
        return result

    def _end(self, con: Con, row: sqlite3.Row, event: str, now: int, why: str = "") -> None:
        after = step(SENDER, row["state"], event)
        tid, cid = Tid(row["tid"]), Cid(row["cid"])
        con.execute(
            "UPDATE sends SET state=?, why=?, ended_at=? WHERE tid=?", (after.to, why or row["why"], now, tid)
        )
        row = self._row(con, tid)
        if event in ("stop", "divert") and row["release"] is not None:
            # if the relay does not have it yet, nobody needs it now
            acknowledged(con, jws.digest(row["release"]), SiteId(row["peer"]))
        if row["kind"] == "add":  # no other addition takes up what this one was to bring
            con.execute(
                "UPDATE spools SET frozen=(SELECT max(id) FROM instances WHERE study=spools.study)"
                " WHERE cid=? AND frozen IS NULL",
                (cid,),
            )
        if "close" in after.effects and row["offer"] is not None:
            self._close(con, row, after.to, now)
        if "erase-keys" in after.effects:
            self._erase_key(con, cid, now)
        if not row["decided_at"]:
            self._forget_code(con, row, now)
        self.tell(con, tid, now)

    def stop_by_person(self, con: Con, row: sqlite3.Row, now: int, actor: str = "phone") -> str:
        """The person who said yes asks to stop, on the phone or `actor` for them; "" or why that undoes nothing."""
        if row["state"] in DELIVERED:
            self._stop_late(con, row, now, actor)
        if row["state"] in TERMINAL:
            return "decided"
        self._end(con, row, "stop", now)
        audit.record(con, actor, "transfer.stop", bytes(row["tid"]).hex(), row["state"], now)
        return ""

    def _stop_late(self, con: Con, row: sqlite3.Row, now: int, actor: str) -> None:
        """What R has stored is R's: the end stays, staff here see the wish, and R is told of it by a close, once."""
        tid = Tid(row["tid"])
        if value(con, "SELECT 1 FROM alarms WHERE tid=? AND code=?", (tid, audit.STOP_ASKED)):
            return
        audit.alarm(con, tid, audit.STOP_ASKED, _STOP_ASKED, now)
        audit.record(con, actor, "transfer.stop-asked", tid.hex(), row["state"], now)
        self._close(con, row, "REVOKED", now)

    def _declined(self, con: Con, study: str) -> Declined | None:
        """The newest no to sending this study: whoever is asked again reads of it."""
        row = one(
            con,
            "SELECT decided_at, grant_sealed FROM sends WHERE study=? AND decision='deny' AND grant_sealed IS NOT NULL"
            " ORDER BY decided_at DESC, rowid DESC LIMIT 1",
            (study,),
        )
        if row is None:
            return None
        grant = peek(Grant, self._vault.open("grant", row["grant_sealed"]).decode())
        return Declined(at=row["decided_at"], by=grant.by)

    def _close(self, con: Con, row: sqlite3.Row, state: str, now: int) -> None:
        close = Close(v=1, tid=Tid(row["tid"]), offer=jws.digest(row["offer"]), state=state, why="", iat=now)  # type: ignore[arg-type]
        post(con, "queue", bytes(row["peer"]).hex(), sign_message(close, self._identity.key), close.tid, now)

    def _erase_key(self, con: Con, cid: Cid, now: int) -> None:
        if value(con, f"SELECT 1 FROM sends WHERE cid=? AND state IN ({quoted(OPEN_SENDER)})", (cid,)):
            return
        con.execute("UPDATE spools SET k_sealed=NULL, dropped=1 WHERE cid=?", (cid,))
        post(con, "relay", f"delete:{cid.hex()}", b"", None, now)

    def _forget_code(self, con: Con, row: sqlite3.Row, now: int) -> None:
        tid = Tid(row["tid"])
        path = hello_path(stored_mailbox(row["mailbox"]))
        if row["offer"] is not None:
            forget(con, "mailbox", path)
            post(con, "mailbox", path, encode(Tombstone(v=1, ended=row["state"])), tid, now)
        con.execute("UPDATE sends SET q_sealed=NULL, pin_sealed=NULL, swept=1 WHERE tid=?", (tid,))
        con.execute("UPDATE tries SET channel_sealed=NULL, door_sealed=NULL, m4=NULL WHERE tid=?", (tid,))

    def _say_hello(self, con: Con, row: sqlite3.Row, now: int) -> None:
        body = hello_of(row, self._identity.site)
        post(con, "mailbox", hello_path(stored_mailbox(row["mailbox"])), body, Tid(row["tid"]), now)

    def tell(
        self,
        con: Con,
        tid: Tid,
        now: int,
        run: bytes | None = None,
        refused: str = "",
        *,
        stopped: bool = False,
    ) -> None:
        """m6 to every phone that has spoken (or to one run, with why its wish was refused). `stopped`: what took this
        one's place was stopped by its person, who hears of that.
        """
        row = self._row(con, tid)
        state = "REVOKED" if stopped else row["state"]
        code = receipt_code(row["receipt"]) if row["receipt"] else receipt_code(tid.hex())
        decided = Decided(row["decision"], row["decided_at"]) if row["decision"] else None
        status = Status(
            v=1, state=state, at=row["ended_at"] or row["decided_at"] or now, refused=refused,
            decided=decided, code=code,
        )  # fmt: skip
        phones = rows(
            con,
            "SELECT * FROM tries WHERE tid=? AND channel_sealed IS NOT NULL AND last_m5 IS NOT NULL",
            (tid,),
        )
        for phone in phones:
            if (run is not None and bytes(phone["run"]) != run) or (
                run is None and phone["told"] in (state, "REVOKED")
            ):
                continue
            channel = Channel(
                msgspec.json.decode(self._vault.open("channel", phone["channel_sealed"]), type=ChannelState)
            )
            if channel.state.sent > 30:
                continue  # the slot is full
            body = encode(Sealed(v=1, box=BlobKey(channel.seal(encode(status)))))
            con.execute(
                "UPDATE tries SET channel_sealed=?, told=? WHERE run=?",
                (self._vault.seal("channel", msgspec.json.encode(channel.state)), state, phone["run"]),
            )
            path = slot_path(stored_mailbox(phone["mailbox"]), RunId(phone["run"]), 6)
            post(con, "mailbox", path, body, tid, now)

    @staticmethod
    def _row(con: Con, tid: bytes) -> sqlite3.Row:
        row = one(con, "SELECT * FROM sends WHERE tid=?", (tid,))
        if row is None:
            raise AbsentError
        return row


def hello_of(row: sqlite3.Row | Mapping[str, Any], site: SiteId) -> bytes:
    """m0 of an offer's row. Without a code it lets nobody in any more: whoever is inside still answers."""
    exp = 0 if row["pin_sealed"] is None else row["code_exp"] or row["exp"]
    return encode(Hello(v=1, tid=Tid(row["tid"]), s=site, exp=exp))
