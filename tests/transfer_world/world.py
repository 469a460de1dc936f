"""The four parties together: phones and their owners, the heap between all of them, and what really happened."""

from __future__ import annotations

from typing import Literal

from tests.transfer_kit import NOW, PAIR, PAIR2, R2, S, stream
from tests.transfer_world.doors import Crash
from tests.transfer_world.phone import PAGE, Phone
from tests.transfer_world.promises import Promises
from tests.transfer_world.receiver import Receiver
from tests.transfer_world.send import Code, Send
from tests.transfer_world.sender import Sender
from tests.transfer_world.wire import Letter, Pack, Post, Relay
from transfer import jws, tries
from transfer.errors import LocalError, TransferError
from transfer.ids import ContentKey, Digest, Mailbox, PublicKey, RunId, Tid
from transfer.links import Door, make_address, make_link, make_scan
from transfer.messages import Close, encode, name_of, peek
from transfer.release import NO_RUN, Pin

ENDS = {
    "COMPLETE": {"COMPLETE"},
    "PARTIAL": {"PARTIAL", "DECLINED", "COMPLETE", "REVOKED", "EXPIRED"},
    "DENIED": {"DENIED", "EXPIRED"},
    "EXPIRED": {"EXPIRED"},
    "REVOKED": {"REVOKED", "DECLINED", "COMPLETE", "PARTIAL", "EXPIRED"},
    "DIVERTED": {"DIVERTED", "DECLINED", "COMPLETE", "PARTIAL", "EXPIRED"},
}
"""What R may end with, by S's end. Where they differ, R was done or had refused before the word of S came (its receipt
is kept beside the end, protocol s. 10), was asked too late by its own clock, or said nothing for a week.
"""


class World:
    """The parties, the heap between them, and what really happened."""

    def __init__(
        self,
        s_skew: int = 0,
        r_skew: int = 0,
        *,
        allow: tuple[str, ...] = (),
        sender: type[Sender] = Sender,
        receiver: type[Receiver] = Receiver,
    ) -> None:
        self.now = NOW
        self.relay = Relay()
        self.s = sender(lambda: self.now + s_skew, stream("S"))
        pin = Pin(S.site, attest="attest" in allow, override="override" in allow)
        self.r = receiver(lambda: self.now + r_skew, PAIR, pin)
        self.r2 = receiver(lambda: self.now, PAIR2, pin, R2, "R2")
        self.sites = {"S": self.s, "R": self.r, "R2": self.r2}
        self.allow = allow
        self.phones: dict[RunId, Phone] = {}
        self.shown: list[str] = []
        """What a scanner may be pointed at."""
        self.random = stream("phones")
        self.approved: set[tuple[Digest, PublicKey, str]] = set()
        self.denied: set[tuple[Digest, PublicKey, str]] = set()
        self.keys: dict[Tid, ContentKey] = {}
        self.promises = Promises(self)
        self.at = {"letters": 0, "posts": 0, "packs": 0}
        self.spread(self.s.create(alt=("R2",), add=3600))
        self.spread(self.s.create())
        self.flush()

    def spread(self, packs: list[Pack]) -> None:
        """What S has just made: its packs, and its key for the checks to look for."""
        self.relay.packs += packs
        for row in self.rows:
            if row.key is not None:
                self.keys[row.tid] = row.key

    @property
    def rows(self) -> list[Send]:
        return list(self.s.rows.values())

    # the wire

    def flush(self) -> None:
        """Both outboxes onto the wire. Before that nothing of them exists for anybody else."""
        for out in self.s.outbox:
            if isinstance(out, Letter):
                self.relay.letters.append(out)
            elif isinstance(out, Post):
                self.relay.posts.append(out)
            else:
                self.relay.hellos.append(out)
        self.s.outbox = []
        for site in (self.r, self.r2):
            self.relay.posts += site.outbox
            site.outbox = []

    # people

    def says(self, mb: Mailbox) -> list[bytes]:
        """What the relay has ever shown under a mailbox's name; an honest one shows the last."""
        return [body for name, body in self.relay.hellos if name == mb]

    def come(
        self, row: Send, code: Code | None = None, *, right: bool = True, hello: bytes | None = None
    ) -> Phone:
        """Somebody opens the page of a code, or of the one that the desk has now, and types what they were told, or a
        guess; `hello`: the relay's lie.
        """
        phone = Phone.of(row.tid, code or row.code, self.random, right=right)
        self.phones[phone.door.run] = phone
        hellos = self.says(phone.code.mb)
        if hello is None and not hellos:
            return phone  # no such mailbox yet
        if (m1 := phone.hello(hello or hellos[-1])) is not None:
            self.relay.letters.append(m1)
        return phone

    def show(self) -> None:
        """A phone at a poster's address makes a code of its own."""
        self.shown.append(make_scan(self.random(16)))

    def rubbish(self, row: Send) -> list[str]:
        """What else a scanner at the desk may see."""
        return [make_address(PAGE, "scan"), make_link(PAGE, row.code.q), "4711", ""]

    def switch(self, row: Send, door: Door, scanned: str = "") -> bool:
        """The desk opens another door; whether it did. A refusal changes nothing."""
        before = (row.codes[:], row.shut, len(self.s.outbox))
        try:
            self.s.switch(row, door, scanned)
        except TransferError:
            assert (row.codes, row.shut, len(self.s.outbox)) == before, "a door was half opened"
            return False
        return True

    def to_site(self, letter: Letter) -> None:
        try:
            self.s.letter(letter)
        except Crash:
            self.s.crash()

    def to_phone(self, letter: Letter, phone: Phone) -> None:
        """The page reads one body in the state it is in; what it refuses ends the run."""
        try:
            answer = phone.hear(letter)
        except TransferError:
            return
        if answer is not None:
            self.relay.letters.append(answer)
        if letter.slot == 4 and phone.asked is not None:
            assert phone.knows, "a question was shown to somebody who did not know the PIN"
            assert phone.asked.offer.tid == phone.tid, "a question about another transfer was shown"
            n = [row.tid for row in self.rows].index(phone.tid) + 1
            assert phone.asked.summary.person == f"P{n}"

    def decide(self, phone: Phone, d: str) -> None:
        assert phone.asked is not None
        box = phone.door.decide(d, by="patient", name="", rel="self", lang="en", t=0)
        meant = (jws.digest(self.s.rows[phone.tid].offer), phone.door.vp, "patient")
        (self.approved if d == "approve" else self.denied).add(meant)
        self.relay.letters.append(phone.say(5, encode(box)))

    def say_yes(self, n: int = 0, d: str = "approve") -> Phone:
        """From the page to the answer of the n-th transfer's person, and all of it arrives."""
        self.settle()
        phone = self.come(self.rows[n])
        self.settle()
        self.decide(phone, d)
        self.settle()
        return phone

    def take_packs(self) -> list[Pack]:
        """Takes the packs off the wire, so that nobody can be done; they are given back with `spread`."""
        packs, self.relay.packs = self.relay.packs, []
        return packs

    def staff_decide(self, row: Send, kind: Literal["attest", "override"]) -> None:
        """Two of S's staff attest, or one overrides."""
        meant = (jws.digest(row.offer), NO_RUN, kind)
        try:
            self.s.staff_decide(row, kind)
        except LocalError:
            return
        self.approved.add(meant)

    def deliver(self, letter: Letter) -> None:
        if letter.slot % 2:
            self.to_site(letter)
        elif (phone := self.phones.get(letter.run)) is not None:
            self.to_phone(letter, phone)

    def deliver_post(self, post: Post) -> None:
        self.sites[post.to].post(post.text)

    def settle(self) -> None:
        """An honest stretch: what was not delivered yet, in order, until nothing new is said."""
        for _ in range(16):
            if not self.round():
                return

    def round(self) -> bool:
        """One step of it; whether there was anything."""
        self.flush()
        letters, posts, packs = (getattr(self.relay, name)[self.at[name] :] for name in self.at)
        self.at = {name: len(getattr(self.relay, name)) for name in self.at}
        for letter in letters:
            self.deliver(letter)
        for post in posts:
            self.deliver_post(post)
        for pack in packs:
            self.r.pack(pack)
            self.r2.pack(pack)
        return bool(letters or posts or packs)

    def tick(self, seconds: int) -> None:
        """Time passes, for all."""
        self.now += seconds
        for site in (self.s, self.r, self.r2):
            site.tick()

    def check(self) -> None:
        """Asserts the promises, after any step."""
        self.promises.check()

    # the end of the day

    def finish(self) -> None:
        """Everybody is honest from here on. What is on its way arrives, people and staff answer what is asked, and time
        passes: asserts that each transfer gets to its end at S, at R and for whoever opens a page.
        """
        self.settle()
        self.tick(tries.RUN_SECONDS)
        for row in self.rows:
            if row.state == "OFFERED":
                self._answer(row)
        for _ in range(6):  # what the relay had swapped is fetched again
            self.at["packs"] = 0
            self.settle()
        self.tick(8 * 86400)
        for site in (self.r, self.r2):
            for tid in [tid for tid, received in site.rows.items() if received.state == "OPENED"]:
                site.give_up(tid)
        self.settle()
        for phone in self.phones.values():
            if phone.door.state == "DECIDED" and phone.status is not None:
                told, state = phone.status.state, self.s.rows[phone.tid].state
                assert told == state or self.s.rows[phone.tid].runs[phone.door.run].channel is None, (
                    "a page never hears the end"
                )
        self.tick(tries.AFTER_END)
        closes = [peek(Close, post.text) for post in self.relay.posts if name_of(post.text) == Close.NAME]
        refused = {close.tid for close in closes if close.state == "DECLINED"}
        for row in self.rows:
            received = (self.r if row.to == "R" else self.r2).rows.get(row.tid)
            if received is None:
                assert row.tid in refused, "R never heard of it"
            else:
                assert received.state in ENDS[row.state], f"{row.state} here, {received.state} there"
            assert row.shut, "a late phone waits at a door to nothing"

    def _answer(self, row: Send) -> None:
        """Somebody comes with the right code; where that leads nowhere, staff have a way on."""
        while row.state == "OFFERED":
            phone = self.come(row)
            self.settle()
            if phone.door.state == "PROVING" and phone.last is not None:  # S had a crash: the same m3 again
                self.deliver(phone.last)
                self.settle()
            if phone.door.state == "ASKED":
                self.decide(phone, "deny")
                self.settle()
                assert row.state == "DENIED"
            elif not row.left() or not tries.may_start(0, len(row.runs), row.reopens):
                (self.s.reopen if row.reopens < tries.REOPENS else self.s.stop)(row)
            else:
                assert row.code.exp, "the right code, and nobody comes in"
                assert self.switch(row, "qr"), "there is no way in"
            self.flush()
