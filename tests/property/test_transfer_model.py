"""S, R, phones and a lying relay, driven at random, with the real protocol code (see `tests.transfer_world`).

The relay drops, repeats, reorders, swaps between two transfers and invents; S and R crash; their clocks differ;
strangers who photographed the QR guess PINs. After every step the promises of docs/spec/protocol.md must hold
(`World.check`). `make soak` plays ten thousand of these days (`RUNS=n` for another number).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.transfer_kit import OTHER, PAIR, R, S, fixed
from tests.transfer_world.receiver import Receiver
from tests.transfer_world.sender import Send, Sender
from tests.transfer_world.wire import Letter, Pack, Post
from tests.transfer_world.world import Tab, World
from transfer import jws
from transfer.encoding import b64
from transfer.ids import BlobKey, ContentKey, PublicKey
from transfer.messages import Close, Receipt, Release, encode, peek, sign_message
from transfer.release import Pin

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

    @rule(pick=PICK, right=st.sampled_from([True, True, False]), online=st.booleans())
    def scan(self, pick: int, right: bool, online: bool) -> None:
        """Somebody opens the link; `online`: and the network is good until they see the question."""
        row = self._one(self.w.rows, pick)
        if any(mb == row.mb for mb, _ in self.w.relay.hellos):
            self.w.scan(row, row.pin if right else "999999")
            if online:
                self.w.settle()

    @rule(pick=PICK, guesses=st.integers(1, 12))
    def a_stranger_guesses(self, pick: int, guesses: int) -> None:
        """With a photo of the QR, one guess after another."""
        row = self._one(self.w.rows, pick)
        if any(mb == row.mb for mb, _ in self.w.relay.hellos):
            for _ in range(guesses):
                self.w.scan(row, "999999")
                self.w.settle()

    @rule(pick=PICK, lie=PICK)
    def scan_under_a_lie(self, pick: int, lie: int) -> None:
        row = self._one(self.w.rows, pick)
        self.w.scan(row, row.pin, self._one(self.w.relay.hellos, lie)[1])

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
        elif kind == "m5" and self.w.tabs:
            tab = self._one(self.w.tabs, pick)
            self.w.to_site(
                Letter(5, tab.mb, tab.door.run, b'{"v":1,"box":"%s"}' % b64(fixed("box", 60)).encode())
            )
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
        tab = self.w.scan(row, row.pin)
        self.w.settle()
        if tab.door.state == "ASKED":
            self.w.decide(tab, d)
        if online:
            self.w.settle()

    def _tabs(self, *states: str) -> list[Tab]:
        return [tab for tab in self.w.tabs if tab.door.state in states]

    @rule(pick=PICK, d=st.sampled_from(["approve", "approve", "approve", "deny"]))
    def decide(self, pick: int, d: str) -> None:
        if asked := self._tabs("ASKED"):
            self.w.decide(self._one(asked, pick), d)

    @rule(pick=PICK)
    def stop_sharing(self, pick: int) -> None:
        if tabs := self._tabs("ASKED", "DECIDED"):
            tab: Tab = self._one(tabs, pick)
            self.w.relay.letters.append(tab.say(5, encode(tab.door.stop())))

    @rule(who=st.sampled_from(["S", "R", "R2"]))
    def crash(self, who: str) -> None:
        self.w.sites[who].crash()

    @rule()
    def crash_after_the_next_try_is_spent(self) -> None:
        self.w.s.crash_after_spending = True

    @rule(seconds=st.sampled_from([1, 1, 60, 60, 600, 600, 3600, 7100, 50 * 3600]))
    def time_passes(self, seconds: int) -> None:
        self.w.now += seconds
        self.w.s.tick()
        self.w.r.tick()
        self.w.r2.tick()

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


TestTransfers = pytest.mark.timeout(7200 if os.environ.get("SOAK") else 180)(Transfers.TestCase)
TestTransfers.settings = settings(
    max_examples=_RUNS, stateful_step_count=50, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


# The same world by hand: that good days end well, and that the promises notice when a party breaks its word.


def _yes(world: World, n: int = 0, d: str = "approve") -> Tab:
    world.settle()
    tab = world.scan(world.rows[n], world.rows[n].pin)
    world.settle()
    world.decide(tab, d)
    world.settle()
    return tab


def test_a_good_day_ends_complete_and_again_changes_nothing() -> None:
    world = World()
    _yes(world)
    for _ in range(2):
        assert world.rows[0].state == world.r.rows[world.rows[0].tid].state == "COMPLETE"
        assert world.rows[1].state == "OFFERED"
        for letter in reversed([*world.relay.letters]):
            world.deliver(letter)
        for post in reversed([*world.relay.posts]):
            world.deliver_post(post)
        world.settle()
        world.check()


def _without_packs(world: World) -> list[Pack]:
    """Takes the packs off the wire, so that nobody can be done; they are given back with `spread`."""
    packs, world.relay.packs = world.relay.packs, []
    return packs


def _state_at(world: World, row: Send) -> str:
    return (world.r if row.to == "R" else world.r2).rows[row.tid].state


def test_before_the_answer_an_old_yes_follows_to_a_place_that_it_named() -> None:
    world = World()
    world.settle()
    tab = world.scan(world.rows[0], world.rows[0].pin)
    world.settle()
    assert not world.s.divert(world.rows[0], "R2"), "a byte was sealed again"
    world.settle()
    assert world.rows[0].state == "OFFERED"
    world.decide(tab, "approve")
    world.settle()
    parent, child = world.rows[0], world.rows[-1]
    assert (parent.state, child.state) == ("DIVERTED", "COMPLETE")
    assert (_state_at(world, parent), _state_at(world, child)) == ("DIVERTED", "COMPLETE")
    assert not parent.release
    world.check()


def test_before_the_answer_a_place_that_nobody_named_is_asked_about_anew() -> None:
    world = World()
    world.settle()
    assert not world.s.divert(world.rows[1], "R2")
    late = world.scan(world.rows[1], world.rows[1].pin)
    world.settle()
    assert (world.rows[1].state, late.asked) == ("DIVERTED", None), (
        "the old question still opens the old place"
    )
    assert not world.r2.openings
    _yes(world, 2)
    assert (world.rows[2].state, _state_at(world, world.rows[1])) == ("COMPLETE", "DIVERTED")
    world.check()


@pytest.mark.parametrize(("n", "asked"), [(0, False), (1, True)])
def test_in_mid_delivery_the_first_place_stops_once_the_second_has_its_release(n: int, asked: bool) -> None:
    world = World()
    packs = _without_packs(world)
    _yes(world, n)
    assert world.rows[n].state == "RELEASED"
    fresh = world.s.divert(world.rows[n], "R2")
    assert fresh
    assert not {pack.cid for pack in fresh} & {pack.cid for pack in packs}, "R could read on"
    assert not world.s.divert(world.rows[n], "R2"), "twice"
    world.spread(fresh)
    world.settle()
    if asked:
        assert world.rows[n].state == "RELEASED"
        _yes(world, 2)
    assert (world.rows[n].state, _state_at(world, world.rows[n])) == ("DIVERTED", "DIVERTED")
    assert world.rows[-1].state == _state_at(world, world.rows[-1]) == "COMPLETE"
    world.check()


def test_what_is_complete_is_not_diverted_and_what_comes_late_leaves_it_complete() -> None:
    world = World()
    _yes(world)
    assert not world.s.divert(world.rows[0], "R2")
    world.now += 3600
    world.spread(world.s.add(world.rows[0]))
    world.settle()
    world.now += 1
    world.spread(world.s.add(world.rows[0]))
    world.settle()
    assert [row.state for row in world.rows] == ["COMPLETE", "OFFERED", "COMPLETE", "OFFERED"]
    assert world.r.rows[world.rows[2].tid].delivered == {0: b"late"}
    world.check()


def test_a_no_and_a_stop_reach_what_was_diverted() -> None:
    world = World()
    world.settle()
    world.s.divert(world.rows[0], "R2")
    _yes(world, d="deny")
    assert [world.rows[n].state for n in (0, 2)] == ["DENIED", "DENIED"]
    world = World()
    _without_packs(world)
    tab = _yes(world)
    world.s.divert(world.rows[0], "R2")
    world.settle()
    world.relay.letters.append(tab.say(5, encode(tab.door.stop())))
    world.settle()
    assert [world.rows[n].state for n in (0, 2)] == ["DIVERTED", "REVOKED"]
    assert _state_at(world, world.rows[2]) == "REVOKED"
    world.check()


def test_a_wish_to_stop_after_the_end_takes_nothing_back() -> None:
    world = World()
    tab = _yes(world)
    assert world.rows[0].state == "COMPLETE"
    world.relay.letters.append(tab.say(5, encode(tab.door.stop())))
    world.settle()
    assert (world.rows[0].state, _state_at(world, world.rows[0])) == ("COMPLETE", "COMPLETE")
    world.check()


def test_a_no_is_final() -> None:
    world = World()
    _yes(world, d="deny")
    _yes(world, d="approve")
    assert world.rows[0].state == world.r.rows[world.rows[0].tid].state == "DENIED"
    world.check()


@pytest.mark.parametrize("kind", ["attest", "override"])
def test_staff_s_word_opens_where_r_allows_it_and_never_after_a_no(
    kind: Literal["attest", "override"],
) -> None:
    world = World(allow=(kind,))
    world.settle()
    row = world.rows[0]
    world.staff_decide(row, kind)
    world.settle()
    assert row.state == world.r.rows[row.tid].state == "COMPLETE"
    _yes(world, 1, "deny")
    world.staff_decide(world.rows[1], kind)
    world.settle()
    assert world.rows[1].state == world.r.rows[world.rows[1].tid].state == "DENIED"
    world.check()


def test_staff_s_word_is_declined_where_r_does_not_allow_it() -> None:
    world = World(allow=("attest",))
    world.settle()
    row = world.rows[0]
    world.staff_decide(row, "override")
    world.settle()
    assert world.r.rows[row.tid].state == "DECLINED"
    assert (row.state, row.key) == ("PARTIAL", None)
    world.check()


def test_five_guesses_lock_and_a_new_code_opens_again() -> None:
    world = World()
    world.settle()
    row = world.rows[0]
    for _ in range(7):
        world.scan(row, "999999")
        world.settle()
    assert (world.s.wrong[row.tid], row.spent) == (5, 5)
    assert world.scan(row, row.pin).door.state == "STARTED"
    world.settle()
    assert all(tab.asked is None for tab in world.tabs)
    world.s.reopen(row)
    _yes(world)
    assert row.state == "COMPLETE"
    world.check()


class _ForgetsTries(Sender):
    def crash(self) -> None:
        super().crash()
        for row in self.rows.values():
            row.runs.clear()


class _ForgetsUsed(Receiver):
    def crash(self) -> None:
        self.used.clear()
        for row in self.rows.values():
            row.state = "SEEN"


class _ForgetsTheNo(Sender):
    def staff_decide(self, row: Send, kind: Literal["attest", "override"]) -> None:
        row.state, row.key = "OFFERED", ContentKey(bytes(32))
        super().staff_decide(row, kind)


class _AllowsAll(Receiver):
    def post(self, text: str) -> None:
        self.pin = Pin(S.site, attest=True, override=True)
        super().post(text)


class _TrustsReceipts(Sender):
    def _receipt(self, text: str) -> None:
        row = self.rows[peek(Receipt, text).tid]
        row.receipt, row.key, row.state = text, None, "COMPLETE"


class _LeavesTheFirst(Sender):
    def _end(self, row: Send, event: str) -> None:
        if event != "divert":
            super()._end(row, event)


def _in_mid_delivery(world: World) -> None:
    _without_packs(world)
    _yes(world)
    world.s.divert(world.rows[0], "R2")
    world.spread([])
    world.settle()


def _guess(world: World) -> None:
    world.settle()
    for n in range(6):
        if n == 5:
            world.s.crash()
        world.scan(world.rows[0], "999999")
        world.settle()


def _replay(world: World) -> None:
    _yes(world)
    world.r.crash()
    for post in list(world.relay.posts):
        world.deliver_post(post)


def _attest_after_no(world: World) -> None:
    _yes(world, d="deny")
    world.staff_decide(world.rows[0], "attest")


def _override(world: World) -> None:
    world.settle()
    world.staff_decide(world.rows[0], "override")
    world.settle()


def _invent(world: World) -> None:
    row = world.rows[0]
    lie = Receipt(
        v=1, tid=row.tid, offer=jws.digest(row.offer), grant=jws.digest(row.offer), manifest=min(row.manifests),
        state="COMPLETE", proof="store", gaps=[], iat=world.now,
    )  # fmt: skip
    world.s.post(sign_message(lie, OTHER.key))


@pytest.mark.parametrize(
    ("broken", "day"),
    [
        ({"sender": _ForgetsTries}, _guess),
        ({"receiver": _ForgetsUsed}, _replay),
        ({"sender": _ForgetsTheNo}, _attest_after_no),
        ({"receiver": _AllowsAll}, _override),
        ({"sender": _TrustsReceipts}, _invent),
        ({"sender": _LeavesTheFirst}, _in_mid_delivery),
    ],
)
def test_the_promises_notice_a_party_that_breaks_its_word(
    broken: dict[str, Any], day: Callable[[World], None]
) -> None:
    """Models X10 and X08, and the tries of section 4: what the model would be worth without its checks."""
    honest = World()
    day(honest)
    honest.check()
    world = World(**broken)
    day(world)
    with pytest.raises(AssertionError):
        world.check()
