"""The code that opens a transfer's door, and how another one takes its place (protocol s. 1, 3, 4).

A transfer is open at one door at a time, with one code:

    qr      q and a PIN of ours: the desk shows q as a QR and tells the PIN
    voice   no q; a public number and eight digits, both read out; the code begins runs for ten minutes
    scan    q of the phone, which the staff scanned, and a PIN of ours

Whatever replaces a code closes the mailbox of the old one for good, so that a late phone gets a page of its own, and
gives no try back: tries are counted for the life of the transfer. A mailbox's name is used once.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

from clients.gateway.errors import GatewayError
from clients.gateway.peers.outbox import forget, post
from clients.gateway.peers.relay import hello_path
from clients.gateway.sending.ends import Ends
from clients.gateway.sending.scans import OldScanError, UsedScanError, read_scanned
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows, value
from transfer import tries
from transfer.errors import StateError
from transfer.ids import Mailbox, Tid, stored_mailbox
from transfer.links import PATHS, Q_SIZE, VOICE_DIGITS, Door, mailbox_of, make_nameplate, make_pin
from transfer.mailbox import Tombstone
from transfer.messages import encode
from transfer.states import SENDER, step

REOPENED = "REOPENED"
"""What the mailbox of a code says that another one took the place of."""
_INSIDE = (
    "(s.state<>'OFFERED' OR EXISTS (SELECT 1 FROM tries t WHERE t.tid=s.tid AND t.mailbox=s.mailbox"
    " AND (t.state='ok' OR t.at>?2)))"
)
"""Somebody has come in by this code: a question is on their screen, a run began a moment ago, or they have answered."""
_OVER = f"""
SELECT s.*, {_INSIDE} AS stays FROM sends s WHERE s.code_exp>0 AND s.code_exp<=?1 AND s.q_sealed IS NOT NULL
AND (s.pin_sealed IS NOT NULL OR NOT {_INSIDE})
"""
"""Voice codes whose time is over (?1: now; ?2: when the oldest run began that still lives), but those that say so."""


class Code(msgspec.Struct, frozen=True):
    """What opens a door. Secret, but for the mailbox."""

    door: Door
    q: bytes
    pin: str
    mailbox: Mailbox
    exp: int
    """When it stops beginning runs; 0: with the offer."""

    def __repr__(self) -> str:
        return "Code(...)"


class Codes(Ends):
    """The part of `Offers` that makes and replaces codes."""

    async def reopen(self, tid: Tid, actor: str) -> None:
        """`reopen`: a new code and new tries after too many wrong ones; the same offer, at most three times. At the
        same door, but a phone whose own code is spent has to be scanned anew, so that one gets a QR.
        """
        now = self._clock.now()

        def work(con: Con) -> None:
            row = self._row(con, tid)
            step(SENDER, row["state"], "reopen")
            if row["reopens"] >= tries.REOPENS:
                raise GatewayError(
                    "This offer was re-opened three times. Stop it and send the study again.",
                    code="reopen-limit",
                )
            con.execute("UPDATE sends SET reopens=reopens+1 WHERE tid=?", (tid,))
            self._replace(con, row, self._new(con, row, "voice" if row["door"] == "voice" else "qr"), now)
            audit.record(con, actor, "transfer.reopen", tid.hex(), str(row["reopens"] + 1), now)

        await self._commit(work, erased=True)

    async def switch(self, tid: Tid, door: str, scanned: str, actor: str) -> None:
        """`switch`: a new code at this door; `scanned` is what the staff scanned at the scan door. Raises
        `GatewayError` with what to do next; then nothing changed.
        """
        if door not in PATHS:
            raise GatewayError("The door is one of qr, voice, scan. Choose one.", code="door")
        now = self._clock.now()
        q = read_scanned(scanned) if door == "scan" else b""

        def work(con: Con) -> None:
            row = self._row(con, tid)
            step(SENDER, row["state"], "switch")
            if row["kind"] == "add":
                raise StateError  # it follows a yes that was given, and asks nobody
            if locked_by(con, row):
                raise LockedDoorError
            if door == "voice" and tries_left(con, row, voice=True) == 0:
                raise TooFewTriesError
            if door == "scan" and self._scanned_twice(con, row, q):
                return
            self._replace(con, row, self._new(con, row, door, q), now)
            audit.record(con, actor, "transfer.door", tid.hex(), door, now)

        await self._commit(work, erased=True)

    def run_out(self, con: Con, now: int) -> bool:
        """`run-out`: closes the voice doors whose time is over. Where somebody came in by then the mailbox stays for
        them (a tombstone would take it away), and its m0 tells a latecomer that the code is over. True if a code was
        erased.
        """
        over = rows(con, _OVER, (now, now - tries.RUN_SECONDS))
        for row in over:
            if row["state"] == "OFFERED":
                step(SENDER, row["state"], "run-out")
            if row["stays"]:
                con.execute("UPDATE sends SET pin_sealed=NULL WHERE tid=?", (row["tid"],))
                forget(con, "mailbox", hello_path(stored_mailbox(row["mailbox"])))
                self._say_hello(con, self._row(con, row["tid"]), now)
            else:
                self._shut(con, row, "EXPIRED", now)
        return bool(over)

    def refused(self, con: Con, path: str) -> None:
        """The relay does not take the hello at `path`: its name is another site's, or was used before. A number is
        drawn anew, nobody has been told it yet; a phone has to make a new code.
        """
        now = self._clock.now()
        for row in rows(
            con, "SELECT * FROM sends WHERE state='OFFERED' AND door<>'qr' AND pin_sealed IS NOT NULL"
        ):
            if hello_path(stored_mailbox(row["mailbox"])) != path:
                continue
            if row["door"] == "voice":
                number = self._number(con)
                con.execute("UPDATE sends SET mailbox=? WHERE tid=?", (number, row["tid"]))
                self._keep(con, number, Tid(row["tid"]), now)
                self._say_hello(con, self._row(con, row["tid"]), now)
            else:
                self._shut(con, row, REOPENED, now)
                audit.alarm(con, row["tid"], OldScanError.code, OldScanError().sentence, now)

    # Inside the transaction of an event

    def _new(self, con: Con, row: sqlite3.Row | None, door: Door | str, q: bytes = b"") -> Code:
        """A fresh code for a door; at the scan door with the phone's `q`."""
        match door:
            case "voice":
                exp = min(self._clock.now() + tries.VOICE_SECONDS, row["exp"] if row else 2**40)
                return Code("voice", b"", make_pin(self._random, VOICE_DIGITS), self._number(con), exp)
            case "scan":
                return Code("scan", q, make_pin(self._random), mailbox_of(q), 0)
            case _:
                q = self._random(Q_SIZE)
                return Code("qr", q, make_pin(self._random), mailbox_of(q), 0)

    def _number(self, con: Con) -> Mailbox:
        """A nameplate that this site never used. The relay says whether another one does."""
        while True:
            number = make_nameplate(self._random)
            if one(con, "SELECT 1 FROM codes WHERE mailbox=?", (number,)) is None:
                return number

    def _replace(self, con: Con, row: sqlite3.Row, code: Code, now: int, said: str = REOPENED) -> None:
        """`said`: what a phone at the old code hears."""
        tid = Tid(row["tid"])
        self._shut(con, row, said, now)
        con.execute(
            "UPDATE sends SET door=?, q_sealed=?, pin_sealed=?, mailbox=?, code_exp=?, voice=max(voice, ?),"
            " joined_at=0, check_code='' WHERE tid=?",
            (code.door, self._vault.seal("q", code.q), self._vault.seal("pin", code.pin.encode()), code.mailbox,
             code.exp, code.door == "voice", tid),
        )  # fmt: skip
        self._keep(con, code.mailbox, tid, now)
        con.execute("DELETE FROM alarms WHERE tid=? AND code=?", (tid, OldScanError.code))
        self._say_hello(con, self._row(con, tid), now)

    def _shut(self, con: Con, row: sqlite3.Row, said: str, now: int) -> None:
        """Nobody comes in by this code any more, and a late phone hears what is `said`."""
        path = hello_path(stored_mailbox(row["mailbox"]))
        forget(con, "mailbox", path)
        post(con, "mailbox", path, encode(Tombstone(v=1, ended=said)), Tid(row["tid"]), now)
        con.execute("UPDATE sends SET q_sealed=NULL, pin_sealed=NULL WHERE tid=?", (row["tid"],))

    def _scanned_twice(self, con: Con, row: sqlite3.Row, q: bytes) -> bool:
        """Whether this very code of a phone is open here already. Raises what is wrong with one used before."""
        known = one(
            con,
            "SELECT s.tid, s.state, s.mailbox, s.pin_sealed FROM codes c JOIN sends s ON s.tid=c.tid WHERE c.mailbox=?",
            (mailbox_of(q),),
        )
        if known is None:
            return False
        here = bytes(known["mailbox"]) == mailbox_of(q) and known["pin_sealed"] is not None
        if not here or known["state"] != "OFFERED":
            raise OldScanError
        if known["tid"] != row["tid"]:
            raise UsedScanError
        return True

    @staticmethod
    def _keep(con: Con, mailbox: Mailbox, tid: Tid, now: int) -> None:
        con.execute("INSERT INTO codes (mailbox, tid, at) VALUES (?,?,?)", (mailbox, tid, now))


class LockedDoorError(GatewayError):
    """Too many codes were tried here. Re-open the transfer for a new code and new tries; then change the door."""

    code = "locked"


class TooFewTriesError(GatewayError):
    """Too many tries are spent for the telephone, which allows three. Re-open the transfer first, or stay here."""

    code = "door-tries"


def tries_left(con: Con, row: sqlite3.Row, *, voice: bool = False) -> int:
    """Wrong codes that may still be typed for a transfer, over all its codes; `voice`: if the voice door were used."""
    spent = value(con, "SELECT count(*) FROM tries WHERE tid=? AND state='spent'", (row["tid"],))
    return tries.left(spent, row["reopens"], voice=voice or bool(row["voice"]))


def locked_by(con: Con, row: sqlite3.Row) -> Literal["", "locked", "crowded"]:
    """Why no code of a transfer leads to its question until staff re-open it: no try is left, or so many phones came
    that no more are answered (protocol s. 4); "" where one does.
    """
    if tries_left(con, row) == 0:
        return "locked"
    ever = value(con, "SELECT count(*) FROM tries WHERE tid=?", (row["tid"],))
    return "" if tries.may_start(0, ever, row["reopens"]) else "crowded"
