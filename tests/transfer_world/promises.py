"""What must always hold, asked of the parties after every step (docs/spec/protocol.md s. 0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.transfer_world.send import Send
from tests.transfer_world.wire import Letter, Post
from transfer import jws
from transfer.encoding import b64
from transfer.ids import Digest, Tid
from transfer.messages import Offer, Receipt, Release, name_of, peek
from transfer.states import TERMINAL

if TYPE_CHECKING:
    from tests.transfer_world.world import World


class Promises:
    """Of one world; it remembers what it has seen."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ended: dict[tuple[str, Tid], str] = {}
        self.decided: set[Tid] = set()
        self.looked = 0
        self.heard = 0

    def check(self) -> None:
        """Asserts all of them."""
        self._openings()
        self._ends()
        self._complete()
        self._keys()
        self._tries()
        self._doors()
        self._steps()
        self._pages()

    def _openings(self) -> None:
        openings = [*self.world.r.openings, *self.world.r2.openings]
        for opening in openings:
            row = self.world.s.rows[opening.tid]
            meant = (opening.granted, opening.vp, opening.kind)
            assert meant in self.world.approved, "opened without a yes to this very offer"
            assert opening.yes
            assert opening.kind in ("patient", *self.world.allow), "opened by a type that R has not allowed"
            assert (opening.offer, opening.at) == (jws.digest(row.offer), row.to)
            if opening.granted != opening.offer:
                self._covered(row, opening.granted)
        assert len({o.tid for o in openings}) == len(openings), "one offer was opened twice"
        own = [(o.offer, o.vp) for o in openings if o.granted == o.offer]
        assert len(set(own)) == len(own), "one yes opened twice"
        for row in self.world.rows:
            if row.state == "DENIED" or (row.decided and row.decided.d == "deny"):
                assert not row.release, "a no became a release"
                assert all(jws.digest(row.offer) not in (o.offer, o.granted) for o in openings), "a no opened"
            if row.replaces is not None and row.state == "RELEASED":
                assert self.world.s.rows[row.replaces].state in TERMINAL, (
                    "one study is on its way to two places"
                )
        for name, site in (("R", self.world.r), ("R2", self.world.r2)):
            for tid, received in site.rows.items():
                assert all(
                    data == self.world.s.rows[tid].items[no] for no, data in received.delivered.items()
                )
                if received.delivered:
                    assert any((o.tid, o.at) == (tid, name) for o in openings), "delivered without an opening"

    def _covered(self, row: Send, granted: Digest) -> None:
        """What a yes to the parent reaches (protocol s. 7), said again without the protocol's code."""
        assert row.root is not None
        root = self.world.s.rows[row.root]
        assert granted == jws.digest(root.offer), "a yes to something else"
        assert root.root is None, "a child of a child"
        if row.kind == "divert":
            assert row.to in root.alt, "sent where nobody agreed to"
            assert peek(Release, row.release).iat < root.exp, "diverted when the question was over"
        else:
            assert (row.to, row.cid != root.cid) == (root.to, True)
            assert root.add
            assert peek(Offer, row.offer).iat <= peek(Offer, root.offer).iat + root.add
            assert any(o.offer == granted for o in self.world.r.openings), "added to what was never opened"

    def _ends(self) -> None:
        states = {("S", row.tid): row.state for row in self.world.rows} | {
            (name, tid): row.state
            for name, site in (("R", self.world.r), ("R2", self.world.r2))
            for tid, row in site.rows.items()
        }
        for at, state in states.items():
            assert self.ended.get(at, state) == state, "an end was taken back"
            if state in TERMINAL:
                self.ended[at] = state

    def _tries(self) -> None:
        """Over all doors and all codes; said again without the protocol's code."""
        for row in self.world.rows:
            doors = {code.door for code in row.codes}
            most = (3 if "voice" in doors else 5) * (1 + row.reopens)
            assert row.reopens <= 3
            assert self.world.s.wrong.get(row.tid, 0) <= row.spent <= most, "more guesses than a transfer has"
            assert len(row.runs) <= 50 * (1 + row.reopens)

    def _doors(self) -> None:
        """One code at a time, used once; whoever comes by an older one is told that it has ended."""
        names = [code.mb for row in self.world.rows for code in row.codes]
        assert len(set(names)) == len(names), "a mailbox's name was used twice"
        said = dict(self.world.relay.hellos)
        said |= dict(out for out in self.world.s.outbox if not isinstance(out, (Letter, Post)))
        for row in self.world.rows:
            for code in row.codes:
                is_open = code == row.code and not row.shut
                assert (b'"ended"' not in said[code.mb]) == is_open, "a mailbox says what its door does not"
            late = self.world.s.clock() - row.code.exp if row.code.exp else -1
            if late >= 0 and not row.shut:
                assert b'"exp":0' in said[row.code.mb], "a number lets people wait past its time"
                inside = any(run.state == "ok" for run in row.runs.values() if run.mb == row.code.mb)
                assert inside or row.state != "OFFERED" or late < 60, "a number stays for nobody"
            if row.state == "OFFERED" and row.shut:
                assert row.code.door == "voice", "a door that waits is shut, and its time is not over"
            if row.state in TERMINAL and row.decided is None:
                assert row.shut, "a door to nothing is open"

    def _steps(self) -> None:
        """What S took for a phone's was of the code that the desk had then."""
        heard = self.world.s.heard
        for step in heard[self.heard :]:
            phone = self.world.phones[step.run]
            # At the voice door anybody may begin a run: it has no gate.
            if step.what != "began" or step.code.q:
                assert (phone.tid, phone.code) == (step.tid, step.code), "a code of before was good"
            assert phone.knows or step.what == "began", "a PIN was not asked for"
            if step.what == "began" and step.code.exp:
                assert step.at < min(step.code.exp, self.world.s.rows[step.tid].exp), "a run began too late"
            if step.what == "decided":
                assert step.tid not in self.decided, "two answers were taken"
                self.decided.add(step.tid)
        self.heard = len(heard)

    def _pages(self) -> None:
        """No page shows another end than S has, but for what nobody has proved: a tombstone, a refusal."""
        for phone in self.world.phones.values():
            state = self.world.s.rows[phone.tid].state
            for shown in (phone.status and phone.status.state, phone.asked and phone.asked.state):
                assert shown not in TERMINAL or shown == state, "a page says another end"

    def _keys(self) -> None:
        wires = [*self.world.relay.letters[self.looked :]]
        self.looked = len(self.world.relay.letters)
        bodies = [letter.body for letter in wires]
        bodies += [_opened(post.text) for post in self.world.relay.posts]
        for key in self.world.keys.values():
            for body in bodies:
                for form in (bytes(key), b64(key).encode(), key.hex().encode()):
                    assert form not in body, "a content key on the wire"
        for row in self.world.rows:
            assert (row.key is None) == (row.state in TERMINAL), "S keeps a key past the end"
        for tid, received in (*self.world.r.rows.items(), *self.world.r2.rows.items()):
            assert (received.key is not None) == (received.state == "OPENED"), (
                "R has a key without an open study"
            )
            if received.key is not None:
                assert received.key == self.world.keys[tid]

    def _complete(self) -> None:
        for row in self.world.rows:
            if row.state == "COMPLETE":
                receipt = peek(Receipt, row.receipt)
                site = self.world.r if row.to == "R" else self.world.r2
                mine = [said for said in site.said if said.tid == row.tid and said.state == "COMPLETE"]
                assert mine, "COMPLETE, and R never said so"
                assert {said.manifest for said in mine} <= row.manifests
                assert receipt in site.said
                received = site.rows[row.tid]
                assert received.state == "COMPLETE"
                assert sorted(received.delivered) == list(range(len(row.items)))


def _opened(text: str) -> bytes:
    return jws.unverified_payload(name_of(text), text, 2**22)
