"""The same study to another site instead (protocol s. 7, kind `divert`).

A transfer and its diversions are one family: the first one, about which the person was asked, is the parent of
all the others, also of a second diversion. At most one of them is released at a time: the release of one
ends the others. Each step here is one transaction, so that a crash leaves the family as it was before the step
or after it.

What nobody has a release of keeps its cid and key, and nothing is uploaded again. Else the study is sealed
anew: whoever opened the first keeps its key, and could read, and with the relay's help write, what comes after
(policy `divert = "same-key"` prefers speed). It is sealed anew as well where late images are here that the sealed
content does not have: nothing follows a diversion by itself (`additions`), so it has to be whole.
"""

from __future__ import annotations

import sqlite3

from clients.gateway.auditing.lines import STOP_REQUEST
from clients.gateway.errors import GatewayError
from clients.gateway.peers.outbox import post
from clients.gateway.sending.ends import DELIVERED
from clients.gateway.sending.offering import Offering, Parent, SiteWords, alternates_of
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows, value
from transfer.errors import PeerError, StateError
from transfer.ids import Cid, ContentKey, PublicKey, SiteId, Tid
from transfer.messages import Offer, Prekey, ReleaseType, peek
from transfer.release import NO_RUN, covering, make_release, type_of
from transfer.states import OPEN_SENDER, SENDER, step

DIVERTED = "diverted"
"""Why a transfer was stopped that had no offer yet when its study went elsewhere."""

_LATER = "SELECT 1 FROM spools p JOIN instances i ON i.study=p.study AND i.id>p.frozen WHERE p.cid=? LIMIT 1"
"""What came after a content was sealed, and is not in it."""


class Diversion(Offering):
    """The part of `Offers` that knows of families."""

    async def divert(
        self,
        tid: Tid,
        peer: SiteId,
        prekey: tuple[str, Prekey],
        words: SiteWords,
        seconds: int,
        actor: str,
        *,
        same_key: bool = False,
    ) -> Tid:
        """`divert`: the transfer to `peer` that takes the place of this one. Asked twice, it is the same one. Raises
        `GatewayError` for what has ended, or goes there already.
        """
        now = self._clock.now()

        def work(con: Con) -> Tid:
            row = self._row(con, tid)
            if row["kind"] == "add":
                raise GatewayError(
                    "This is an addition to another transfer. Divert that one instead.",
                    code="state",
                )
            if row["state"] not in OPEN_SENDER:
                raise GatewayError(
                    "This transfer has ended, so nothing can be diverted. Send the study again to the other hospital.",
                    code="state",
                )
            family = self._open_family(con, row)
            there = next((r for r in family if bytes(r["peer"]) == peer), None)
            if there is not None:
                self._drop_waiting(con, family, there, now)
                return Tid(there["tid"])
            audit.record(con, actor, "transfer.divert", tid.hex(), peer.hex(), now)
            if row["offer"] is None:
                return self._redirect(con, row, peer, prekey, words, seconds, actor, now)
            return self._divert(con, row, family, peer, prekey, words, seconds, actor, now, same_key=same_key)

        made: Tid = await self._commit(work, erased=True)  # type: ignore[assignment]
        return made

    def _redirect(
        self, con: Con, row: sqlite3.Row, peer: SiteId, prekey: tuple[str, Prekey], words: SiteWords, seconds: int,
        actor: str, now: int,
    ) -> Tid:  # fmt: skip
        """Nobody was offered anything yet: a transfer of its own, with the same content."""
        cid = Cid(row["cid"])
        alt = [site for site, _ in alternates_of(con, row) if site != peer]
        made = self._create(
            con, row["study"], peer, row["reason"], actor, now, cid=cid, alt=alt, again=row["again"],
            add=row["add_seconds"],
        )  # fmt: skip
        self._sign(con, made, prekey, words, seconds, now)
        self._say_hello(con, self._row(con, made), now)
        self._end(con, row, "stop", now, why=DIVERTED)
        return made

    def _divert(
        self, con: Con, row: sqlite3.Row, family: list[sqlite3.Row], peer: SiteId, prekey: tuple[str, Prekey],
        words: SiteWords, seconds: int, actor: str, now: int, *, same_key: bool,
    ) -> Tid:  # fmt: skip
        root = self._root(con, row)
        known = value(con, "SELECT 1 FROM sends WHERE cid=? AND release IS NOT NULL", (row["cid"],))
        anew = (known and not same_key) or value(con, _LATER, (row["cid"],))
        cid = None if anew else Cid(row["cid"])
        parent = Parent(Tid(root["tid"]), "divert")
        made = self._create(
            con, row["study"], peer, row["reason"], actor, now, cid=cid, parent=parent, again=row["again"]
        )
        self._sign(con, made, prekey, words, seconds, now)
        child = self._row(con, made)
        self._drop_waiting(con, family, child, now)
        if any(r["state"] == "RELEASED" for r in family) and self._cover(con, child, root, now):
            self._supersede(con, child, now)
            return made
        self._say_hello(con, child, now)
        if root["state"] == "OFFERED" and not _reaches(child, root, now):
            self._end(con, root, "divert", now)  # a late yes to it would open the study at the wrong place
        return made

    # The family

    @staticmethod
    def _open_family(con: Con, row: sqlite3.Row) -> list[sqlite3.Row]:
        """The transfers of one family that have not ended, the first one first."""
        first = row["parent"] or row["tid"]
        found = rows(
            con, "SELECT * FROM sends WHERE tid=?1 OR (parent=?1 AND kind='divert') ORDER BY rowid", (first,)
        )
        return [r for r in found if r["state"] in OPEN_SENDER]

    def _root(self, con: Con, row: sqlite3.Row) -> sqlite3.Row:
        return self._row(con, row["parent"] or row["tid"])

    def _drop_waiting(self, con: Con, family: list[sqlite3.Row], stays: sqlite3.Row, now: int) -> None:
        """Staff have changed their minds: other diversions that nobody has answered are over."""
        for r in family:
            if r["kind"] == "divert" and r["state"] == "OFFERED" and r["tid"] != stays["tid"]:
                self._end(con, r, "divert", now)

    def _supersede(self, con: Con, released: sqlite3.Row, now: int) -> None:
        """What was released takes the place of the rest of its family; an addition is no part of one."""
        if released["kind"] == "add":
            return
        for r in self._open_family(con, released):
            if r["tid"] != released["tid"]:
                self._end(con, r, "divert", now)
                audit.record(
                    con,
                    "gateway",
                    "transfer.diverted",
                    bytes(r["tid"]).hex(),
                    bytes(released["tid"]).hex(),
                    now,
                )

    def _waiting_children(self, con: Con, row: sqlite3.Row) -> list[sqlite3.Row]:
        return rows(
            con, "SELECT * FROM sends WHERE parent=? AND state='OFFERED' ORDER BY rowid", (row["tid"],)
        )

    # The parent's grant

    def _follow(
        self, con: Con, row: sqlite3.Row, grant_text: str, vp: PublicKey, now: int
    ) -> sqlite3.Row | None:
        """The diversion that a yes to its parent releases in the parent's place: staff have sent the study on while
        the person was asked, and the question named that place too. None: there is none.
        """
        for child in self._waiting_children(con, row):
            if child["kind"] == "divert" and self._release_under(con, child, row, grant_text, vp, now):
                return child
        return None

    def _cover(self, con: Con, child: sqlite3.Row, root: sqlite3.Row, now: int) -> bool:
        """Releases a child under the grant of its parent, which was released; False where that does not reach."""
        if root["grant_sealed"] is None:
            return False
        grant_text = self._vault.open("grant", root["grant_sealed"]).decode()
        return self._release_under(con, child, root, grant_text, PublicKey(root["vp"] or NO_RUN), now)

    def _release_under(
        self, con: Con, child: sqlite3.Row, root: sqlite3.Row, grant_text: str, vp: PublicKey, now: int
    ) -> bool:
        """`covered`, with the event that allows it; False, and nothing done, where that does not reach."""
        tid, kind = Tid(child["tid"]), type_of(grant_text)
        try:
            self._release(con, child, grant_text, kind, vp, now, root["offer"])
        except PeerError:
            return False
        by_phone = kind == "patient"
        self._keep_decision(
            con, tid, "approve" if by_phone else "staff", grant_text, vp if by_phone else None, now
        )
        audit.record(con, "gateway", "transfer.covered", tid.hex(), bytes(root["tid"]).hex(), now)
        if not by_phone:  # emergency access here as in its parent
            audit.record(con, "gateway", f"transfer.{kind}", tid.hex(), bytes(root["tid"]).hex(), now)
        return True

    # Releases

    def _release(
        self,
        con: Con,
        row: sqlite3.Row,
        grant: str,
        kind: ReleaseType,
        vp: PublicKey,
        now: int,
        parent_text: str = "",
    ) -> None:
        """L, stored and in the outbox. Raises a `PeerError`, and has done nothing then. `parent_text`: the offer that
        `grant` is of, where that is the parent's.
        """
        tid = Tid(row["tid"])
        release = make_release(
            key=self._identity.key, offer_text=row["offer"], offer=peek(Offer, row["offer"]), grant_text=grant,
            kind=kind, vp=vp, prekey_text=row["prekey"],
            content_key=ContentKey(self._vault.open("content-key", self._content_key(con, row))), now=now,
            parent_text=parent_text,
        )  # fmt: skip
        event = "covered" if parent_text else "approve" if kind == "patient" else kind
        con.execute(
            "UPDATE sends SET state=?, release=? WHERE tid=?",
            (step(SENDER, row["state"], event).to, release, tid),
        )
        post(con, "queue", bytes(row["peer"]).hex(), release, tid, now)

    def _keep_decision(
        self, con: Con, tid: Tid, decision: str, grant: str, vp: PublicKey | None, now: int
    ) -> None:
        con.execute(
            "UPDATE sends SET decision=?, decided_at=?, grant_sealed=?, vp=? WHERE tid=?",
            (decision, now, self._vault.seal("grant", grant.encode()), vp, tid),
        )

    # A no, or a wish to stop, is about the study and not about one way to it

    def _refuse_children(self, con: Con, row: sqlite3.Row, now: int) -> None:
        for child in self._waiting_children(con, row):
            self._end(con, child, "deny", now)
            audit.record(con, "gateway", "transfer.deny", bytes(child["tid"]).hex(), "parent", now)

    def stop_by_person(self, con: Con, row: sqlite3.Row, now: int, actor: str = "phone") -> str:
        """The person who said yes asks to stop, and means also what took its place; "" or why that undoes nothing."""
        stop = super().stop_by_person
        refused = stop(con, row, now, actor)
        stopped = [child for child in _children(con, row) if stop(con, child, now, actor) == ""]
        if refused and stopped:
            self.tell(con, Tid(row["tid"]), now, stopped=True)
        return "" if stopped else refused

    async def stop_asked(self, tid: Tid, words: str, actor: str) -> None:
        """The person asked staff to stop sharing, as `words` say (`notes.asked`): as if they had on the phone, so for
        the whole family. Raises `GatewayError` where nothing is shared.
        """
        now = self._clock.now()

        def work(con: Con) -> None:
            root = self._root(con, self._row(con, tid))
            family = [root, *_children(con, root)]
            if not any(r["state"] in (*OPEN_SENDER, *DELIVERED) for r in family):
                raise NothingSharedError
            for asked in dict.fromkeys((tid, Tid(root["tid"]))):
                audit.record(con, actor, STOP_REQUEST, asked.hex(), words, now)
            self.stop_by_person(con, root, now, actor)

        await self._commit(work, erased=True)

    def _content_key(self, con: Con, row: sqlite3.Row) -> bytes:
        sealed = value(con, "SELECT k_sealed FROM spools WHERE cid=?", (row["cid"],))
        if sealed is None:
            raise StateError
        return bytes(sealed)


class NothingSharedError(GatewayError):
    """Nothing of this transfer is shared any more, so there is nothing to stop. Its page says how it ended."""

    code = "state"


def _children(con: Con, row: sqlite3.Row) -> list[sqlite3.Row]:
    return rows(con, "SELECT * FROM sends WHERE parent=? ORDER BY rowid", (row["tid"],))


def _reaches(child: sqlite3.Row, root: sqlite3.Row, now: int) -> bool:
    """Whether a yes to `root` would release `child`."""
    try:
        covering(peek(Offer, child["offer"]), root["offer"], at=now, opened=True)
    except PeerError:
        return False
    return True


def successor_of(con: Con, row: sqlite3.Row) -> sqlite3.Row | None:
    """The transfer in whose favour this one ended DIVERTED, or with which staff mean to replace it; or None."""
    return one(
        con,
        "SELECT * FROM sends WHERE parent=? AND kind='divert' AND tid<>? ORDER BY rowid DESC LIMIT 1",
        (row["parent"] or row["tid"], row["tid"]),
    )
