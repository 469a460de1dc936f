"""S, R, phones and a lying relay, driven at random, with the real protocol code (see `tests.transfer_world`).

The relay drops, repeats, reorders, swaps between two transfers and invents; S and R crash; their clocks differ;
strangers who photographed the QR, or know a number, guess codes; the desk changes the door while phones are at it.
After every step the promises of docs/spec/protocol.md must hold (`World.check`), and in the end everybody can get to
one (`World.finish`). `make soak` plays ten thousand of these days (`RUNS=n` for another number).
"""

from __future__ import annotations

import os
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.transfer_kit import OTHER, PAIR, R, S, fixed
from tests.transfer_world.phone import Phone, another
from tests.transfer_world.send import Code, Send
from tests.transfer_world.wire import Letter, Pack, Post
from tests.transfer_world.world import World
from transfer import jws
from transfer.encoding import b64
from transfer.errors import HeaderError
from transfer.ids import BlobKey, PublicKey
from transfer.links import PATHS, Door, spoken
from transfer.messages import Close, Receipt, Release, sign_message

_RUNS = int(os.environ.get("RUNS", "10000")) if os.environ.get("SOAK") else 200
PINS = [(), ("attest",), ("attest", "override")]
"""What R's pin of S may allow."""
SKEWS = [0, 0, 0, -599, -601, 599, 601, 3600]


class Transfers(RuleBasedStateMachine):
    """The world under Hypothesis' hand. Numbers pick from the heap, modulo its size."""

    PICK = st.integers(0, 10**6)

    @initialize(s=st.sampled_from(SKEWS), r=st.sampled_from(SKEWS), allow=st.sampled_from(PINS))
    def begin(self, s: int, r: int, allow: tuple[str, ...]) -> None:
        self.w = World(s, r, allow=allow)

    def _one(self, heap: list[Any], pick: int) -> Any:
        return heap[pick % len(heap)]

    def _code(self, row: Send, pick: int) -> Code:
        """The code that the desk has now, or one of those before it."""
        return row.code if pick % 3 else self._one(row.codes, pick // 3)

    def _knock(self, row: Send, code: Code, right: bool) -> None:
        """Somebody comes, where the relay knows of that mailbox."""
        if self.w.says(code.mb):
            self.w.come(row, code, right=right)

    @rule(pick=PICK, which=PICK, right=st.sampled_from([True, True, False]), online=st.booleans())
    def come(self, pick: int, which: int, right: bool, online: bool) -> None:
        """Somebody opens a page; `online`: and the network is good until they see the question."""
        row = self._one(self.w.rows, pick)
        self._knock(row, self._code(row, which), right)
        if online:
            self.w.settle()

    @rule(pick=PICK, which=PICK, guesses=st.integers(1, 12))
    def a_stranger_guesses(self, pick: int, which: int, guesses: int) -> None:
        """With a photo of a QR, or a number: one guess after another."""
        row = self._one(self.w.rows, pick)
        for _ in range(guesses):
            self._knock(row, self._code(row, which), right=False)
            self.w.settle()

    @rule(pick=PICK, which=PICK, lie=PICK, own=st.booleans())
    def come_under_a_lie(self, pick: int, which: int, lie: int, own: bool) -> None:
        """The relay shows what another mailbox says, or what this one said before."""
        row = self._one(self.w.rows, pick)
        code = self._code(row, which)
        lies = self.w.says(code.mb) if own else [body for _, body in self.w.relay.hellos]
        if lies:
            self.w.come(row, code, hello=self._one(lies, lie))

    @rule(pick=PICK, at=st.integers(0, 8), by=st.integers(1, 9))
    def a_slip_at_the_telephone(self, pick: int, at: int, by: int) -> None:
        """One digit is heard wrong: nothing leaves the page."""
        row = self._one(self.w.rows, pick)
        if row.code.door == "voice":
            told = spoken(row.code.pin)
            with pytest.raises(HeaderError):
                Phone(row.tid, row.code, told[:at] + another(told[at], by) + told[at + 1 :], self.w.random)

    # the desk's doors

    @rule()
    def a_phone_shows_its_code(self) -> None:
        self.w.show()

    @rule(pick=PICK, door=st.sampled_from([*PATHS, "scan"]), text=PICK, rubbish=st.integers(0, 11))
    def staff_switch(self, pick: int, door: Door, text: int, rubbish: int) -> None:
        """A code of a phone that may be another's, an old one, or none at all."""
        row = self._one(self.w.rows, pick)
        texts = self.w.rubbish(row)
        self.w.switch(
            row, door, texts[rubbish] if rubbish < len(texts) else self._one(self.w.shown or texts, text)
        )

    @rule(pick=PICK)
    def a_letter_of_an_old_code_under_the_new_name(self, pick: int) -> None:
        """Whoever came by an old code, or the relay, goes on where the desk is now."""
        codes = {code.mb: row.code.mb for row in self.w.rows for code in row.codes[:-1]}
        if late := [letter for letter in self.w.relay.letters if letter.mb in codes and letter.slot % 2]:
            letter = self._one(late, pick)
            self.w.deliver(letter._replace(mb=codes[letter.mb]))

    @rule(
        pick=PICK, door=st.sampled_from([*PATHS]), rounds=st.integers(0, 5), crash=st.booleans(), lie=st.booleans(),
        d=st.lists(st.sampled_from(["approve", "deny"]), min_size=3, max_size=3),
    )  # fmt: skip
    def two_phones_at_two_doors(
        self, pick: int, door: Door, rounds: int, crash: bool, lie: bool, d: list[str]
    ) -> None:
        """The desk changes the door while somebody is at the old one, anywhere between m1 and their answer; `lie`: what
        they sent last comes late, under the new mailbox's name.
        """
        row = self._one(self.w.rows, pick)
        self.w.settle()
        first = self.w.come(row)
        for _ in range(rounds):
            self.w.round()
        if rounds == 5 and first.door.state == "ASKED":
            self.w.decide(first, d[0])
        self.w.show()
        self.w.switch(row, door, self.w.shown[-1])
        if crash:
            self.w.s.crash()
        self.w.flush()
        second = self.w.come(row)
        if lie and first.last is not None:
            self.w.deliver(first.last._replace(mb=row.code.mb))
        self.w.settle()
        for phone, answer in ((first, d[1]), (second, d[2])):
            if phone.door.state == "ASKED":
                self.w.decide(phone, answer)

    @rule(pick=PICK, before=st.sampled_from([0, 540, 599, 600]), after=st.sampled_from([1, 59, 60, 120, 660]))
    def a_number_runs_out(self, pick: int, before: int, after: int) -> None:
        """Ten minutes at the telephone: somebody may come in them, at their end or too late."""
        row = self._one(self.w.rows, pick)
        if self.w.switch(row, "voice"):
            self.w.flush()
            self.w.tick(before)
            self.w.come(row)
            self.w.round()
            self.w.tick(after)
            self.w.settle()

    # the wire

    @rule()
    def everything_arrives(self) -> None:
        self.w.settle()

    @rule()
    def flush(self) -> None:
        self.w.flush()

    @rule(pick=PICK)
    def any_letter_any_time(self, pick: int) -> None:
        if self.w.relay.letters:
            self.w.deliver(self._one(self.w.relay.letters, pick))

    @rule(pick=PICK, other=PICK)
    def a_letter_under_another_address(self, pick: int, other: int) -> None:
        if not self.w.relay.letters:
            return
        letter, to = self._one(self.w.relay.letters, pick), self._one(self.w.relay.letters, other)
        self.w.deliver(Letter(letter.slot, to.mb, to.run, letter.body))
        self.w.deliver(Letter(letter.slot, to.mb, letter.run, letter.body))

    @rule(pick=PICK)
    def any_post_any_time(self, pick: int) -> None:
        self.w.deliver_post(self._one(self.w.relay.posts, pick))

    @rule(pick=PICK)
    def a_post_to_the_other_site(self, pick: int) -> None:
        post = self._one(self.w.relay.posts, pick)
        for to in {"S", "R", "R2"} - {post.to}:
            self.w.deliver_post(Post(to, post.text))

    @rule(pick=PICK, as_pick=PICK)
    def a_pack_as_itself_or_as_another(self, pick: int, as_pick: int) -> None:
        pack: Pack = self._one(self.w.relay.packs, pick)
        to: Pack = self._one([pack, *self.w.relay.packs], as_pick % (2 * len(self.w.relay.packs)))
        for site in (self.w.r, self.w.r2):
            site.pack(Pack(to.cid, to.n, to.kind, pack.ct))

    @rule(pick=PICK, kind=st.sampled_from(["release", "receipt", "close-S", "close-R", "m5"]))
    def something_invented(self, pick: int, kind: str) -> None:
        row: Send = self._one(self.w.rows, pick)
        h = jws.digest(row.offer)
        if kind == "release":
            forged = Release(
                v=1, tid=row.tid, offer=h, grant=h, pk=PublicKey(bytes(32)), type="override", r=R.site, kid=PAIR.kid,
                sealed=BlobKey(bytes(1300)), iat=self.w.now,
            )  # fmt: skip
            self.w.r.post(sign_message(forged, OTHER.key))
        elif kind == "receipt":
            lie = Receipt(
                v=1, tid=row.tid, offer=h, grant=jws.digest(row.grant), manifest=min(row.manifests), state="COMPLETE",
                proof="store", gaps=[], iat=self.w.now,
            )  # fmt: skip
            for key in (OTHER.key, S.key):
                self.w.s.post(sign_message(lie, key))
        elif kind == "m5" and self.w.phones:
            phone = self._one([*self.w.phones.values()], pick)
            self.w.to_site(phone.say(5, b'{"v":1,"box":"%s"}' % b64(fixed("box", 60)).encode()))
        else:
            close = Close(
                v=1, tid=row.tid, offer=h, state="DENIED" if kind == "close-S" else "DECLINED", why="", iat=0
            )
            (self.w.r if kind == "close-S" else self.w.s).post(sign_message(close, OTHER.key))

    @rule(pick=PICK, d=st.sampled_from(["approve", "approve", "deny"]), online=st.booleans())
    def a_person_decides(self, pick: int, d: str, online: bool) -> None:
        """From the scan to the answer in one go; `online`: and the answer arrives at once."""
        row = self._one(self.w.rows, pick)
        self.w.settle()
        phone = self.w.come(row)
        self.w.settle()
        if phone.door.state == "ASKED":
            self.w.decide(phone, d)
        if online:
            self.w.settle()

    def _phones(self, *states: str) -> list[Phone]:
        return [phone for phone in self.w.phones.values() if phone.door.state in states]

    @rule(pick=PICK, d=st.sampled_from(["approve", "approve", "approve", "deny"]))
    def decide(self, pick: int, d: str) -> None:
        if asked := self._phones("ASKED"):
            self.w.decide(self._one(asked, pick), d)

    @rule(pick=PICK)
    def stop_sharing(self, pick: int) -> None:
        if phones := self._phones("ASKED", "DECIDED"):
            self.w.relay.letters.append(self._one(phones, pick).wish_to_stop())

    # the rest of the world

    @rule(who=st.sampled_from(["S", "R", "R2"]))
    def crash(self, who: str) -> None:
        self.w.sites[who].crash()

    @rule()
    def crash_after_the_next_try_is_spent(self) -> None:
        self.w.s.crash_after_spending = True

    @rule(seconds=st.sampled_from([1, 1, 60, 60, 540, 600, 600, 3600, 7100, 50 * 3600]))
    def time_passes(self, seconds: int) -> None:
        self.w.tick(seconds)

    @rule(pick=PICK, sure=st.integers(0, 3))
    def staff_stop(self, pick: int, sure: int) -> None:
        if (rows := self.w.s.open_rows()) and sure == 0:
            self.w.s.stop(self._one(rows, pick))

    @rule(pick=PICK, kind=st.sampled_from(["attest", "override"]))
    def staff_decide(self, pick: int, kind: Literal["attest", "override"]) -> None:
        """Before, after and beside whatever the person says."""
        self.w.staff_decide(self._one(self.w.rows, pick), kind)

    @rule(pick=PICK)
    def staff_reopen(self, pick: int) -> None:
        if rows := [row for row in self.w.rows if row.state == "OFFERED"]:
            self.w.s.reopen(self._one(rows, pick))

    @rule(pick=PICK, to=st.sampled_from(["R2", "R2", "R"]), sure=st.integers(0, 1))
    def staff_divert(self, pick: int, to: str, sure: int) -> None:
        if (rows := self.w.s.open_rows()) and sure == 0:
            self.w.spread(self.w.s.divert(self._one(rows, pick), to))

    @rule(pick=PICK)
    def something_late(self, pick: int) -> None:
        if len(self.w.rows) < 8:
            self.w.spread(self.w.s.add(self._one(self.w.rows, pick)))

    @rule(pick=PICK)
    def r_gives_up(self, pick: int) -> None:
        for site in (self.w.r, self.w.r2):
            if tids := [tid for tid, row in site.rows.items() if row.state == "OPENED"]:
                site.give_up(self._one(tids, pick))

    @invariant()
    def promises(self) -> None:
        if hasattr(self, "w"):
            self.w.check()

    def teardown(self) -> None:
        """Whatever happened: nobody is stranded."""
        if hasattr(self, "w"):
            self.w.finish()
            self.w.check()


TestTransfers = pytest.mark.timeout(7200 if os.environ.get("SOAK") else 180)(Transfers.TestCase)
TestTransfers.settings = settings(
    max_examples=_RUNS, stateful_step_count=50, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
