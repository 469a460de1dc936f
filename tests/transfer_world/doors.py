"""The part of S that keeps codes and answers phones, by the rules of protocol s. 1, 3 and 4, as a gateway does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from tests.transfer_kit import S
from tests.transfer_world.send import Code, Run, Send, make_code
from tests.transfer_world.wire import Letter, Post
from transfer import tries
from transfer.channel import Channel
from transfer.door import SiteDoor, read_wish
from transfer.errors import LockedError, PeerError, SignatureError, UsedError
from transfer.ids import BlobKey, Mailbox, PublicKey, RunId, Tid
from transfer.links import Door, mailbox_of, read_scan
from transfer.mailbox import (
    Hello,
    Proof,
    Question,
    Refusal,
    Sealed,
    Start,
    Status,
    Stop,
    Tombstone,
    read_body,
)
from transfer.messages import Grant, encode
from transfer.states import OPEN_SENDER, SENDER, TERMINAL, step


class Crash(Exception):
    """The power went at a chosen point."""


What = Literal["began", "proved", "decided", "stopped"]


class Heard(NamedTuple):
    """S took a step of a phone for what it is, by this code: what the checks ask about."""

    what: What
    tid: Tid
    run: RunId
    code: Code
    at: int


class Machine(NamedTuple):
    """S's side of a run between m1 and m3; in memory only."""

    door: SiteDoor
    m1: Start
    m2: bytes


class Doors:
    """The base of `Sender`."""

    def __init__(self, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self.clock, self.random = clock, random
        self.rows: dict[Tid, Send] = {}
        self.outbox: list[Letter | Post | tuple[Mailbox, bytes]] = []
        self.machines: dict[RunId, Machine] = {}
        self.crash_after_spending = False
        self.heard: list[Heard] = []
        self.wrong: dict[Tid, int] = {}
        """Comparisons that failed."""

    def crash(self) -> None:
        """What is in a row or in the outbox survives."""
        self.machines = {}

    # codes

    def open(self, row: Send, door: Door, q: bytes = b"") -> None:
        """A code for this door, and m0 in its mailbox."""
        until = min(self.clock() + tries.VOICE_SECONDS, row.exp)
        row.codes.append(make_code(door, self.random, until, q))
        row.shut = False
        self._hello(row, row.code.exp or row.exp)

    def _hello(self, row: Send, exp: int) -> None:
        """m0; `exp` 0: nobody else comes in, and who is inside may answer."""
        self.outbox.append((row.code.mb, encode(Hello(v=1, tid=row.tid, s=S.site, exp=exp))))

    def shut(self, row: Send, said: str) -> None:
        """Nobody comes in by the code of now, and a late phone hears what is `said`."""
        self.outbox.append((row.code.mb, encode(Tombstone(v=1, ended=said))))
        row.shut = True

    def switch(self, row: Send, door: Door, scanned: str = "") -> None:
        """Another door, or a new code at the same one. Raises a `TransferError`; then nothing changed."""
        step(SENDER, row.state, "switch")
        q = read_scan(scanned) if door == "scan" else b""
        if not row.left(voice=door == "voice") or not tries.may_start(0, len(row.runs), row.reopens):
            raise LockedError
        if q and any(mailbox_of(q) == code.mb for at in self.rows.values() for code in at.codes):
            if row.code.q == q and not row.shut:
                return  # the scanner beeped twice
            raise UsedError
        self.shut(row, "REOPENED")
        self.open(row, door, q)

    def reopen(self, row: Send) -> None:
        """A new code and new tries for the same offer; what was spent stays spent."""
        step(SENDER, row.state, "reopen")
        if row.reopens < tries.REOPENS:
            row.reopens += 1
            self.shut(row, "REOPENED")
            self.open(row, "voice" if row.code.door == "voice" else "qr")

    def run_out(self, row: Send) -> None:
        """Closes a voice door whose time is over; where somebody is inside, or may be yet, to latecomers alone."""
        now = self.clock()
        if row.shut or not row.code.exp or now < row.code.exp:
            return
        mine = [run for run in row.runs.values() if run.mb == row.code.mb]
        if row.state == "OFFERED":
            step(SENDER, row.state, "run-out")
            if not any(run.state == "ok" or now - run.at < tries.RUN_SECONDS for run in mine):
                self.shut(row, "EXPIRED")
                return
        self._hello(row, 0)

    def forget(self, row: Send) -> None:
        """Code and channels go; the mailbox says the end."""
        self.shut(row, row.state)
        for run in row.runs.values():
            run.channel, run.m4, run.kept = None, None, None

    # phones

    def letter(self, letter: Letter) -> None:
        """What lies in a mailbox. A stranger's message changes nothing."""
        row = next((row for row in self.rows.values() if row.code.mb == letter.mb and not row.shut), None)
        if row is None:
            return
        try:
            if letter.slot == 1:
                self._start(row, letter)
            elif letter.slot == 3:
                self._prove(row, letter)
            elif letter.slot == 5:
                self._wish(row, letter)
        except PeerError:
            return

    def run_of(self, row: Send, letter: Letter) -> Run | None:
        """The run that a letter is for; one of a code before this was dropped with that code."""
        run = row.runs.get(letter.run)
        return run if run is not None and run.mb == row.code.mb else None

    def _answers(self, row: Send) -> bool:
        now = self.clock()
        if row.code.exp and now >= row.code.exp:
            return False
        return row.state not in TERMINAL or (row.decided is not None and now < row.ended_at + tries.AFTER_END)

    def _start(self, row: Send, letter: Letter) -> None:
        m1 = read_body(letter.body, Start)
        known = self.machines.get(letter.run)
        if known is not None and known.m1 == m1 and self.run_of(row, letter) is not None:
            self._reply(letter, 2, known.m2)
        if m1.nP != letter.run or any(letter.run in at.runs for at in self.rows.values()):
            return
        now = self.clock()
        mine = [run for run in row.runs.values() if run.mb == row.code.mb and run.state == "open"]
        opened = sum(now - run.at < tries.RUN_SECONDS for run in mine)
        if not self._answers(row) or not tries.may_start(opened, len(row.runs), row.reopens):
            return
        code = row.code
        door = SiteDoor(
            q=code.q, code=code.pin, tid=row.tid, site=S.site, offer=row.offer, random=self.random
        )
        m2 = encode(door.start(m1))
        row.runs[letter.run] = Run(m1.vP, code.mb, now)
        self.machines[letter.run] = Machine(door, m1, m2)
        self._note("began", row, letter)
        self._reply(letter, 2, m2)

    def _prove(self, row: Send, letter: Letter) -> None:
        m3 = read_body(letter.body, Proof)
        run = self.run_of(row, letter)
        if run is None:
            return
        if run.m4 is not None:
            self._reply(letter, 4, run.m4)
            return
        door = self._door(run, letter, m3)
        if door is None:
            return
        if run.state == "open":
            if not row.left():
                self._reply(letter, 4, encode(Refusal(v=1, error="locked", left=0)))
                return
            run.state, run.kept = "spent", (door.pointed, m3.Ta)
            if self.crash_after_spending:
                self.crash_after_spending = False
                raise Crash
        self.machines.pop(letter.run, None)
        run.kept = None
        if door.prove(m3):
            self._ask(row, run, letter, door)
            return
        self.wrong[row.tid] = self.wrong.get(row.tid, 0) + 1
        left = row.left()
        self._reply(letter, 4, encode(Refusal(v=1, error="wrong" if left else "locked", left=left)))

    def _door(self, run: Run, letter: Letter, m3: Proof) -> SiteDoor | None:
        """In memory, for a minute; or from the disk, for the one m3 that a try was spent on before a crash."""
        known = self.machines.get(letter.run)
        if known is not None and self.clock() - run.at < tries.RUN_SECONDS:
            return known.door
        return SiteDoor.resume(run.kept[0]) if run.kept is not None and run.kept[1] == m3.Ta else None

    def _ask(self, row: Send, run: Run, letter: Letter, door: SiteDoor) -> None:
        question = Question(
            offer=row.offer, summary=row.summary, salt=row.salt, state=row.state, decided=row.decided, now=self.clock()
        )  # fmt: skip
        m4 = encode(door.answer(question))
        run.state, run.m4, run.channel = "ok", m4, door.channel.state
        self._note("proved", row, letter)
        self._reply(letter, 4, m4)

    def _wish(self, row: Send, letter: Letter) -> None:
        m5 = read_body(letter.body, Sealed)
        run = self.run_of(row, letter)
        if run is None or run.channel is None or m5.box in run.wishes:
            return
        channel = Channel(run.channel)
        try:
            plain = channel.open(m5.box)
        except SignatureError:  # a gap, a repeat or a bad tag ends the run
            run.channel = None
            return
        run.channel = channel.state
        run.wishes.append(m5.box)
        refused = self._apply(row, run, plain)
        if not refused:
            self._note("stopped" if plain.startswith(b"{") else "decided", row, letter)
        else:
            self.tell(row, run, refused)
        self.tell(row)

    def _apply(self, row: Send, run: Run, plain: bytes) -> str:
        try:
            wish: Any = read_wish(plain, vp=run.vp, tid=row.tid, offer=row.offer)
            if isinstance(wish, Stop):
                return self._stop(row)
            return self._decide(row, run.vp, *wish)
        except PeerError as why:
            return why.code

    def _stop(self, row: Send) -> str:
        if row.state in ("COMPLETE", "PARTIAL"):  # nothing is taken back: R is told of the wish
            self.close(row, "REVOKED")
        going = [at for at in (row, *self.children(row, *OPEN_SENDER)) if at.state in OPEN_SENDER]
        for at in going:
            self.end(at, "stop")
        return "" if going else "decided"

    def tell(self, row: Send, only: Run | None = None, refused: str = "") -> None:
        """m6 to every phone that has spoken and has not heard of this state; or to one, why its wish was refused."""
        status = Status(v=1, state=row.state, at=self.clock(), refused=refused, decided=row.decided, code="")
        for name, run in row.runs.items():
            if run.channel is None or not run.wishes:
                continue
            if run is only or (only is None and run.told != row.state):
                channel = Channel(run.channel)
                m6 = encode(Sealed(v=1, box=BlobKey(channel.seal(encode(status)))))
                run.channel, run.told = channel.state, row.state
                self.outbox.append(Letter(6, run.mb, name, m6))

    def _note(self, what: What, row: Send, letter: Letter) -> None:
        self.heard.append(Heard(what, row.tid, letter.run, row.code, self.clock()))

    def _reply(self, letter: Letter, slot: Literal[2, 4], body: bytes) -> None:
        self.outbox.append(Letter(slot, letter.mb, letter.run, body))

    # what `Sender` adds

    def _decide(self, row: Send, vp: PublicKey, grant: Grant, text: str) -> str:
        """A person's yes or no; "" or why it was refused."""
        raise NotImplementedError

    def end(self, row: Send, event: str) -> None:
        """An end by the table."""
        raise NotImplementedError

    def close(self, row: Send, state: str) -> None:
        """R hears of an end."""
        raise NotImplementedError

    def children(self, row: Send, *states: str) -> list[Send]:
        """Child offers of a transfer."""
        raise NotImplementedError
