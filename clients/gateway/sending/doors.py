"""The hospital's side of every door: what phones leave in our mailboxes (protocol s. 3, 4).

Before a try is spent a run lives in memory; a crash makes the phone begin a new one and spends nothing. A try is
spent in a transaction of its own, on disk, before the comparison, together with the one m3 that it was spent on:
a crash in between has that m3, and no other, compared after the start. From then on everything is in the
database: the channel's keys and counters together with each box, so that a repeated m3 gets the same m4
and a counter is never used twice. A run belongs to the code it began with: once the desk has another one, nothing that
comes for it is heard, under whatever mailbox's name. Each transaction asks that anew.

What a stranger can cost is bounded: a wrong gate is dropped without a word (the voice door has none), at most 8 runs
are open and 50 ever for each opening, and m2 leaves at a fixed time after m1, so that the time of the map says nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from clients.gateway.clock import Clock, Random, Signal
from clients.gateway.log import about
from clients.gateway.peers.outbox import post
from clients.gateway.peers.relay import SiteEntry, slot_path
from clients.gateway.sending.codes import REOPENED, tries_left
from clients.gateway.sending.offers import Offers
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, value
from clients.gateway.store.vault import Vault
from transfer import tries
from transfer.channel import Channel, ChannelState
from transfer.door import EndedError, Pointed, SiteDoor, read_wish
from transfer.encoding import sha256
from transfer.errors import HeaderError, PeerError, SignatureError
from transfer.ids import BlobKey, Mailbox, PublicKey, RunId, Tid, read_mailbox
from transfer.mailbox import Decided, Proof, Question, Refusal, Sealed, Start, Stop, read_body
from transfer.messages import encode
from transfer.sites import Identity
from transfer.states import TERMINAL

log = structlog.get_logger()


class _Run(msgspec.Struct):
    mailbox: Mailbox
    door: SiteDoor
    m1: bytes
    m2: bytes
    begun: float


class Doors:
    """Answers phones for all offers of this site."""

    def __init__(
        self,
        db: Database,
        vault: Vault,
        identity: Identity,
        offers: Offers,
        clock: Clock,
        random: Random,
        outbox: Signal,
        changed: Signal,
        make_way: Callable[[], None] = lambda: None,
    ) -> None:
        """`make_way`: what else is sent shall leave room, since a phone waits."""
        self._make_way = make_way
        self._db, self._vault, self._identity, self._offers = db, vault, identity, offers
        self._clock, self._random = clock, random
        self._outbox, self._changed = outbox, changed
        self._runs: dict[RunId, _Run] = {}
        self._proving: set[RunId] = set()

    async def handle(self, entry: SiteEntry) -> None:
        """One message of a phone. Raises nothing for what a stranger may send: it is dropped."""
        try:
            mailbox, run = read_mailbox(entry.mb), RunId.from_hex(entry.run)
            body = msgspec.json.encode(entry.body)
            row = await self._db.run(lambda con: one(con, "SELECT * FROM sends WHERE mailbox=?", (mailbox,)))
            if row is None or row["q_sealed"] is None or row["offer"] is None:
                return
            self._make_way()
            with about(row["tid"]):
                await self._take(row, mailbox, run, entry.slot, body)
        except PeerError as why:
            log.info("phone message dropped", slot=entry.slot, code=why.code)
        self._outbox.set()

    async def _take(self, row: sqlite3.Row, mailbox: Mailbox, run: RunId, slot: int, body: bytes) -> None:
        try:
            if slot == 1:
                await self._start(row, mailbox, run, read_body(body, Start))
            elif slot == 3:
                await self._prove(row, mailbox, run, read_body(body, Proof))
            elif slot == 5:
                await self._wish(Tid(row["tid"]), mailbox, run, read_body(body, Sealed))
        except PeerError as why:
            log.info("phone message dropped", slot=slot, code=why.code)

    # m1 -> m2

    async def _start(self, row: sqlite3.Row, mailbox: Mailbox, run: RunId, m1: Start) -> None:
        begun = time.monotonic()
        raw = encode(m1)
        known = self._runs.get(run)
        if m1.nP != run:
            raise HeaderError
        if known is not None:
            if (known.mailbox, known.m1) == (mailbox, raw):
                await self._put(Tid(row["tid"]), mailbox, run, 2, known.m2)
            return
        if not self._answers(row):
            return
        door = SiteDoor(
            q=self._vault.open("q", row["q_sealed"]), code=self._vault.open("pin", row["pin_sealed"]).decode(),
            tid=Tid(row["tid"]), site=self._identity.site, offer=row["offer"], random=self._random,
        )  # fmt: skip
        m2 = encode(await asyncio.to_thread(door.start, m1))
        if not await self._db.run(lambda con: self._admit(con, row, mailbox, run, m1.vP)):
            return
        self._forget_dead()
        self._runs[run] = _Run(mailbox, door, raw, m2, begun)
        await asyncio.sleep(max(0.0, tries.ANSWER_DELAY - (time.monotonic() - begun)))
        await self._put(Tid(row["tid"]), mailbox, run, 2, m2)

    def _answers(self, row: sqlite3.Row) -> bool:
        """OFFERED, or decided and less than a day past its end; and the code begins runs yet."""
        if row["code_exp"] and self._clock.now() >= row["code_exp"]:
            return False
        if row["state"] not in TERMINAL:
            return True
        return bool(row["decided_at"]) and self._clock.now() < row["ended_at"] + tries.AFTER_END

    def _admit(self, con: Con, row: sqlite3.Row, mailbox: Mailbox, run: RunId, vp: PublicKey) -> bool:
        now = self._clock.now()
        tid = row["tid"]
        opened = value(
            con,
            "SELECT count(*) FROM tries WHERE tid=? AND mailbox=? AND state='open' AND at>?",
            (tid, mailbox, now - tries.RUN_SECONDS),
        )
        ever = value(con, "SELECT count(*) FROM tries WHERE tid=?", (tid,))
        if not tries.may_start(opened, ever, row["reopens"]):
            return False
        return (
            con.execute(
                "INSERT INTO tries (run, tid, mailbox, state, at, vp) VALUES (?,?,?,'open',?,?) ON CONFLICT DO NOTHING",
                (run, tid, mailbox, now, vp),
            ).rowcount
            == 1
        )

    def _forget_dead(self) -> None:
        limit = time.monotonic() - tries.RUN_SECONDS
        for run in [r for r, state in self._runs.items() if state.begun < limit]:
            del self._runs[run]

    @staticmethod
    def _stored(con: Con, tid: Tid, mailbox: Mailbox, run: RunId) -> sqlite3.Row | None:
        """A run of the code that is open now, under its own mailbox's name."""
        return one(
            con,
            "SELECT t.* FROM tries t JOIN sends s ON s.tid=t.tid AND s.mailbox=t.mailbox"
            " WHERE t.run=? AND t.tid=? AND t.mailbox=? AND s.q_sealed IS NOT NULL",
            (run, tid, mailbox),
        )

    # m3 -> m4

    async def _prove(self, row: sqlite3.Row, mailbox: Mailbox, run: RunId, m3: Proof) -> None:
        if run in self._proving:
            return  # one m3 for a run, also where two come at once
        self._proving.add(run)
        try:
            await self._prove_alone(Tid(row["tid"]), mailbox, run, m3)
        finally:
            self._proving.discard(run)

    async def _prove_alone(self, tid: Tid, mailbox: Mailbox, run: RunId, m3: Proof) -> None:
        stored = await self._db.run(lambda con: self._stored(con, tid, mailbox, run))
        if stored is None:
            return
        if stored["m4"] is not None:
            await self._put(tid, mailbox, run, 4, stored["m4"])
            return
        self._forget_dead()
        known = self._runs.get(run)
        door = known.door if known is not None else self._resume(stored, m3)
        if door is None:
            return  # too old, or begun before a restart: the phone begins again, nothing is spent
        left = await self._db.run(lambda con: self._spend(con, tid, mailbox, run, m3, door))
        self._runs.pop(run, None)  # from here on the database has it
        if left is None:
            await self._put(tid, mailbox, run, 4, encode(Refusal(v=1, error="locked", left=0)))
        elif door.prove(m3):
            await self._db.run(lambda con: self._ask(con, tid, mailbox, run, door))
        else:
            await self._db.run(lambda con: self._refuse(con, tid, mailbox, run, left))
        self._changed.set()

    def _spend(
        self, con: Con, tid: Tid, mailbox: Mailbox, run: RunId, m3: Proof, door: SiteDoor
    ) -> int | None:
        """Spends a try, and keeps what this one m3 is compared with, should we not come to it: how many are left after
        it, or None where there was none left. Raises `EndedError` where the desk has another code meanwhile.
        """
        stored = self._stored(con, tid, mailbox, run)
        row = one(con, "SELECT * FROM sends WHERE tid=?", (tid,))
        if stored is None or row is None:
            raise EndedError(REOPENED)
        if stored["state"] == "open":
            if tries_left(con, row) <= 0:
                return None
            kept = self._vault.seal("door", msgspec.json.encode(door.pointed))
            con.execute(
                "UPDATE tries SET state='spent', proof=?, door_sealed=? WHERE run=?",
                (sha256(m3.Ta), kept, run),
            )
        return tries_left(con, row)

    def _resume(self, stored: sqlite3.Row, m3: Proof) -> SiteDoor | None:
        """A run whose try was spent and that a crash or a full disk cut off there, for the m3 that it was spent on."""
        if stored["state"] != "spent" or stored["door_sealed"] is None or stored["proof"] != sha256(m3.Ta):
            return None
        plain = self._vault.open("door", stored["door_sealed"])
        return SiteDoor.resume(msgspec.json.decode(plain, type=Pointed))

    def _refuse(self, con: Con, tid: Tid, mailbox: Mailbox, run: RunId, left: int) -> None:
        con.execute("UPDATE tries SET proof=NULL, door_sealed=NULL WHERE run=?", (run,))
        refusal = Refusal(v=1, error="wrong" if left else "locked", left=left)
        post(con, "mailbox", slot_path(mailbox, run, 4), encode(refusal), tid, self._clock.now())

    def _ask(self, con: Con, tid: Tid, mailbox: Mailbox, run: RunId, door: SiteDoor) -> None:
        now = self._clock.now()
        row = one(con, "SELECT * FROM sends WHERE tid=?", (tid,))
        assert row is not None
        if self._stored(con, tid, mailbox, run) is None:
            # The PIN was right, but the desk has another code meanwhile.
            con.execute("UPDATE tries SET state='ok', proof=NULL, door_sealed=NULL WHERE run=?", (run,))
            return
        decided = Decided(row["decision"], row["decided_at"]) if row["decision"] else None
        question = Question(
            offer=row["offer"], summary=row["summary"], salt=BlobKey(row["salt"]), state=row["state"],
            decided=decided, now=now,
        )  # fmt: skip
        m4 = encode(door.answer(question))
        con.execute(
            "UPDATE tries SET state='ok', m4=?, channel_sealed=?, proof=NULL, door_sealed=NULL WHERE run=?",
            (m4, self._seal(door.channel), run),
        )
        con.execute(
            "UPDATE sends SET joined_at=?, check_code=? WHERE tid=? AND decided_at=0", (now, door.check, tid)
        )
        post(con, "mailbox", slot_path(mailbox, run, 4), m4, tid, now)
        audit.record(con, "phone", "transfer.joined", tid.hex(), "", now)

    # m5 -> m6

    async def _wish(self, tid: Tid, mailbox: Mailbox, run: RunId, m5: Sealed) -> None:
        await self._db.run(lambda con: self._take_wish(con, tid, mailbox, run, m5))
        await self._db.scrub()
        self._changed.set()

    def _take_wish(self, con: Con, tid: Tid, mailbox: Mailbox, run: RunId, m5: Sealed) -> None:
        now = self._clock.now()
        stored = self._stored(con, tid, mailbox, run)
        row = one(con, "SELECT * FROM sends WHERE tid=?", (tid,))
        if stored is None or row is None or stored["channel_sealed"] is None:
            return  # unknown, of another code, or erased
        digest, heard = sha256(m5.box), bytes(stored["last_m5"] or b"")
        if digest in (heard[i : i + 32] for i in range(0, len(heard), 32)):
            return  # the same again: its m6 is at the relay or in the outbox
        channel = Channel(
            msgspec.json.decode(self._vault.open("channel", stored["channel_sealed"]), type=ChannelState)
        )
        try:
            plain = channel.open(m5.box)
        except SignatureError:  # a gap, a repeat or a bad tag ends the run
            con.execute("UPDATE tries SET channel_sealed=NULL WHERE run=?", (run,))
            return
        con.execute(
            "UPDATE tries SET channel_sealed=?, last_m5=? WHERE run=?",
            (self._seal(channel), heard + digest, run),
        )
        vp = PublicKey(stored["vp"])
        refused = self._apply(con, row, plain, vp, now)
        if refused:
            self._offers.tell(con, tid, now, run, refused)
        # One answer for each wish: whoever heard of this state hears nothing twice.
        self._offers.tell(con, tid, now)

    def _apply(self, con: Con, row: sqlite3.Row, plain: bytes, vp: PublicKey, now: int) -> str:
        try:
            wish: Any = read_wish(plain, vp=vp, tid=Tid(row["tid"]), offer=row["offer"])
        except PeerError as why:
            return why.code
        if isinstance(wish, Stop):
            allowed = row["vp"] is None or row["decision"] == "approve"
            return self._offers.stop_by_person(con, row, now) if allowed else "decided"
        grant, text = wish
        return self._offers.decide(con, row, grant, text, vp, now)

    def _seal(self, channel: Channel) -> bytes:
        return self._vault.seal("channel", msgspec.json.encode(channel.state))

    async def _put(self, tid: Tid, mailbox: Mailbox, run: RunId, slot: int, body: bytes) -> None:
        now = self._clock.now()
        await self._db.run(lambda con: post(con, "mailbox", slot_path(mailbox, run, slot), body, tid, now))
        self._outbox.set()
