"""The four parties together: phones and their owners, the heap between all of them, and what must always hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tests.transfer_kit import NOW, PAIR, PAIR2, R2, S, stream
from tests.transfer_world.receiver import Receiver
from tests.transfer_world.sender import Crash, Send, Sender
from tests.transfer_world.wire import Letter, Pack, Post, Relay
from transfer import jws, tries
from transfer.door import Asked, PhoneDoor
from transfer.encoding import b64
from transfer.errors import LocalError, PeerError
from transfer.ids import ContentKey, Digest, PublicKey, Tid
from transfer.links import mailbox_of
from transfer.messages import Offer, Receipt, Release, encode, name_of, peek
from transfer.release import NO_RUN, Pin
from transfer.states import TERMINAL


class Tab:
    """A phone page, and what its owner means to do."""

    def __init__(self, row: Send, code: str, random: Callable[[int], bytes]) -> None:
        self.tid, self.mb, self.knows = row.tid, mailbox_of(row.q), code == row.pin
        self.door = PhoneDoor(row.q, code, random)
        self.asked: Asked | None = None
        self.sent: list[Letter] = []

    def say(self, slot: int, body: bytes) -> Letter:
        self.sent.append(Letter(slot, self.mb, self.door.run, body))
        return self.sent[-1]


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
        self.tabs: list[Tab] = []
        self.random = stream("phones")
        self.approved: set[tuple[Digest, PublicKey, str]] = set()
        self.denied: set[tuple[Digest, PublicKey, str]] = set()
        self.keys: dict[Tid, ContentKey] = {}
        self.ended: dict[tuple[str, Tid], str] = {}
        self.looked = 0
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

    def scan(self, row: Send, code: str, hello: bytes | None = None) -> Tab:
        tab = Tab(row, code, self.random)
        self.tabs.append(tab)
        if hello is None:
            hello = [body for mb, body in self.relay.hellos if mb == tab.mb][-1]
        try:
            self.relay.letters.append(tab.say(1, encode(tab.door.hello(hello))))
        except PeerError:
            pass
        return tab

    def to_site(self, letter: Letter) -> None:
        try:
            self.s.letter(letter)
        except Crash:
            self.s.crash()

    def to_phone(self, letter: Letter, tab: Tab) -> None:
        """The page reads one body in the state it is in; what it refuses ends the run."""
        try:
            if letter.slot == 2:
                self.relay.letters.append(tab.say(3, encode(tab.door.point(letter.body))))
            elif letter.slot == 4:
                tab.asked = tab.door.answer(letter.body)
                assert tab.knows, "a question was shown to somebody who did not know the PIN"
                assert tab.asked.offer.tid == tab.tid, "a question about another transfer was shown"
                assert tab.asked.summary.person == f"P{[row.tid for row in self.rows].index(tab.tid) + 1}"
            elif letter.slot == 6:
                tab.door.status(letter.body)
        except (PeerError, LocalError):
            return

    def decide(self, tab: Tab, d: str) -> None:
        assert tab.asked is not None
        box = tab.door.decide(d, by="patient", name="", rel="self", lang="en", t=0)
        meant = (jws.digest(self.s.rows[tab.tid].offer), tab.door.vp, "patient")
        (self.approved if d == "approve" else self.denied).add(meant)
        self.relay.letters.append(tab.say(5, encode(box)))

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
        else:
            for tab in self.tabs:
                if tab.door.run == letter.run:
                    self.to_phone(letter, tab)

    def deliver_post(self, post: Post) -> None:
        self.sites[post.to].post(post.text)

    def settle(self) -> None:
        """An honest stretch: what was not delivered yet, in order, until nothing new is said."""
        for _ in range(12):
            self.flush()
            letters, posts, packs = (getattr(self.relay, name)[self.at[name] :] for name in self.at)
            self.at = {name: len(getattr(self.relay, name)) for name in self.at}
            if not (letters or posts or packs):
                return
            for letter in letters:
                self.deliver(letter)
            for post in posts:
                self.deliver_post(post)
            for pack in packs:
                self.r.pack(pack)
                self.r2.pack(pack)

    # the promises

    def check(self) -> None:
        self._openings()
        self._ends()
        self._tries()
        self._keys()
        self._complete()

    def _openings(self) -> None:
        openings = [*self.r.openings, *self.r2.openings]
        for opening in openings:
            row = self.s.rows[opening.tid]
            meant = (opening.granted, opening.vp, opening.kind)
            assert meant in self.approved, "opened without a yes to this very offer"
            assert opening.yes
            assert opening.kind in ("patient", *self.allow), "opened by a type that R has not allowed"
            assert (opening.offer, opening.at) == (jws.digest(row.offer), row.to)
            if opening.granted != opening.offer:
                self._covered(row, opening.granted)
        assert len({o.tid for o in openings}) == len(openings), "one offer was opened twice"
        own = [(o.offer, o.vp) for o in openings if o.granted == o.offer]
        assert len(set(own)) == len(own), "one yes opened twice"
        for row in self.rows:
            if row.state == "DENIED" or (row.decided and row.decided.d == "deny"):
                assert not row.release, "a no became a release"
                assert all(jws.digest(row.offer) not in (o.offer, o.granted) for o in openings), "a no opened"
            if row.replaces is not None and row.state == "RELEASED":
                assert self.s.rows[row.replaces].state in TERMINAL, "one study is on its way to two places"
        for name, site in (("R", self.r), ("R2", self.r2)):
            for tid, received in site.rows.items():
                assert all(data == self.s.rows[tid].items[no] for no, data in received.delivered.items())
                if received.delivered:
                    assert any((o.tid, o.at) == (tid, name) for o in openings), "delivered without an opening"

    def _covered(self, row: Send, granted: Digest) -> None:
        """What a yes to the parent reaches (protocol s. 7), said again without the protocol's code."""
        assert row.root is not None
        root = self.s.rows[row.root]
        assert granted == jws.digest(root.offer), "a yes to something else"
        assert root.root is None, "a child of a child"
        if row.kind == "divert":
            assert row.to in root.alt, "sent where nobody agreed to"
            assert peek(Release, row.release).iat < root.exp, "diverted when the question was over"
        else:
            assert (row.to, row.cid != root.cid) == (root.to, True)
            assert root.add
            assert peek(Offer, row.offer).iat <= peek(Offer, root.offer).iat + root.add
            assert any(o.offer == granted for o in self.r.openings), "added to what was never opened"

    def _ends(self) -> None:
        states = {("S", row.tid): row.state for row in self.rows} | {
            (name, tid): row.state
            for name, site in (("R", self.r), ("R2", self.r2))
            for tid, row in site.rows.items()
        }
        for at, state in states.items():
            assert self.ended.get(at, state) == state, "an end was taken back"
            if state in TERMINAL:
                self.ended[at] = state

    def _tries(self) -> None:
        for row in self.rows:
            assert self.s.wrong.get(row.tid, 0) <= tries.limit(row.reopens) <= tries.limit(tries.REOPENS)
            assert row.spent <= tries.limit(row.reopens)
            assert len(row.runs) <= tries.RUNS_EVER * (1 + row.reopens)

    def _keys(self) -> None:
        wires = [*self.relay.letters[self.looked :]]
        self.looked = len(self.relay.letters)
        bodies = [letter.body for letter in wires]
        bodies += [_opened(post.text) for post in self.relay.posts]
        for key in self.keys.values():
            for body in bodies:
                for form in (bytes(key), b64(key).encode(), key.hex().encode()):
                    assert form not in body, "a content key on the wire"
        for row in self.rows:
            assert (row.key is None) == (row.state in TERMINAL), "S keeps a key past the end"
        for tid, received in (*self.r.rows.items(), *self.r2.rows.items()):
            assert (received.key is not None) == (received.state == "OPENED"), (
                "R has a key without an open study"
            )
            if received.key is not None:
                assert received.key == self.keys[tid]

    def _complete(self) -> None:
        for row in self.rows:
            if row.state == "COMPLETE":
                receipt = peek(Receipt, row.receipt)
                site = self.r if row.to == "R" else self.r2
                mine = [said for said in site.said if said.tid == row.tid and said.state == "COMPLETE"]
                assert mine, "COMPLETE, and R never said so"
                assert {said.manifest for said in mine} <= row.manifests
                assert receipt in site.said
                received = site.rows[row.tid]
                assert received.state == "COMPLETE"
                assert sorted(received.delivered) == list(range(len(row.items)))


def _opened(text: str) -> bytes:
    return jws.unverified_payload(name_of(text), text, 2**22)
