"""The same world by hand (see `test_transfer_model`): that good days end well, and bad ones as they should."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.transfer_world.send import Send
from tests.transfer_world.world import World
from transfer.links import PATHS, Door


def test_a_good_day_ends_complete_and_again_changes_nothing() -> None:
    world = World()
    world.say_yes()
    for _ in range(2):
        assert world.rows[0].state == world.r.rows[world.rows[0].tid].state == "COMPLETE"
        assert world.rows[1].state == "OFFERED"
        for letter in reversed([*world.relay.letters]):
            world.deliver(letter)
        for post in reversed([*world.relay.posts]):
            world.deliver_post(post)
        world.settle()
        world.check()


def _state_at(world: World, row: Send) -> str:
    return (world.r if row.to == "R" else world.r2).rows[row.tid].state


def test_before_the_answer_an_old_yes_follows_to_a_place_that_it_named() -> None:
    world = World()
    world.settle()
    phone = world.come(world.rows[0])
    world.settle()
    assert not world.s.divert(world.rows[0], "R2"), "a byte was sealed again"
    world.settle()
    assert world.rows[0].state == "OFFERED"
    world.decide(phone, "approve")
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
    late = world.come(world.rows[1])
    world.settle()
    assert (world.rows[1].state, late.asked) == ("DIVERTED", None), (
        "the old question still opens the old place"
    )
    assert not world.r2.openings
    world.say_yes(2)
    assert (world.rows[2].state, _state_at(world, world.rows[1])) == ("COMPLETE", "DIVERTED")
    world.check()


@pytest.mark.parametrize(("n", "asked"), [(0, False), (1, True)])
def test_in_mid_delivery_the_first_place_stops_once_the_second_has_its_release(n: int, asked: bool) -> None:
    world = World()
    packs = world.take_packs()
    world.say_yes(n)
    assert world.rows[n].state == "RELEASED"
    fresh = world.s.divert(world.rows[n], "R2")
    assert fresh
    assert not {pack.cid for pack in fresh} & {pack.cid for pack in packs}, "R could read on"
    assert not world.s.divert(world.rows[n], "R2"), "twice"
    world.spread(fresh)
    world.settle()
    if asked:
        assert world.rows[n].state == "RELEASED"
        world.say_yes(2)
    assert (world.rows[n].state, _state_at(world, world.rows[n])) == ("DIVERTED", "DIVERTED")
    assert world.rows[-1].state == _state_at(world, world.rows[-1]) == "COMPLETE"
    world.check()


def test_what_is_complete_is_not_diverted_and_what_comes_late_leaves_it_complete() -> None:
    world = World()
    world.say_yes()
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
    world.say_yes(d="deny")
    assert [world.rows[n].state for n in (0, 2)] == ["DENIED", "DENIED"]
    world = World()
    world.take_packs()
    phone = world.say_yes()
    world.s.divert(world.rows[0], "R2")
    world.settle()
    world.relay.letters.append(phone.wish_to_stop())
    world.settle()
    assert [world.rows[n].state for n in (0, 2)] == ["DIVERTED", "REVOKED"]
    assert _state_at(world, world.rows[2]) == "REVOKED"
    world.check()


def test_a_wish_to_stop_after_the_end_takes_nothing_back() -> None:
    world = World()
    phone = world.say_yes()
    assert world.rows[0].state == "COMPLETE"
    world.relay.letters.append(phone.wish_to_stop())
    world.settle()
    assert (world.rows[0].state, _state_at(world, world.rows[0])) == ("COMPLETE", "COMPLETE")
    world.check()


def test_a_no_is_final() -> None:
    world = World()
    world.say_yes(d="deny")
    world.say_yes(d="approve")
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
    world.say_yes(1, "deny")
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
        world.come(row, right=False)
        world.settle()
    assert (world.s.wrong[row.tid], row.spent) == (5, 5)
    assert world.come(row).door.state == "STARTED"
    world.settle()
    assert all(phone.asked is None for phone in world.phones.values())
    world.s.reopen(row)
    world.say_yes()
    assert row.state == "COMPLETE"
    world.finish()


@pytest.mark.parametrize("door", [*PATHS])
def test_each_door_leads_to_the_question(door: Door) -> None:
    """At the scan door for the one phone that the staff scanned."""
    world = World()
    world.show()
    assert world.switch(world.rows[0], door, world.shown[0])
    assert world.rows[0].code.door == door
    world.say_yes()
    assert (world.rows[0].state, world.rows[1].state) == ("COMPLETE", "OFFERED")
    world.finish()


def test_what_a_scanner_sees_is_taken_once_and_else_nothing() -> None:
    world = World()
    first, second = world.rows
    world.show()
    for text in world.rubbish(first):
        assert not world.switch(first, "scan", text)
    assert world.switch(first, "scan", world.shown[0])
    codes = first.codes[:]
    assert world.switch(first, "scan", world.shown[0])
    assert first.codes == codes, "it beeped twice"
    assert not world.switch(second, "scan", world.shown[0]), "for one transfer"
    assert world.switch(first, "qr")
    assert not world.switch(first, "scan", world.shown[0]), "for once"
    world.finish()


def test_three_tries_at_the_telephone_whatever_door_follows() -> None:
    world = World()
    row = world.rows[0]
    for door in ("voice", "qr", "voice"):
        assert world.switch(row, door)
        world.flush()
        world.come(row, right=False)
        world.settle()
    assert (row.spent, row.left()) == (3, 0)
    assert not any(world.switch(row, door) for door in PATHS)
    world.s.reopen(row)
    world.say_yes()
    assert row.state == "COMPLETE"
    world.finish()


def test_ten_minutes_begin_a_run_and_do_not_cut_one_off() -> None:
    world = World()
    row = world.rows[0]
    world.switch(row, "voice")
    world.flush()
    world.tick(599)
    phone = world.come(row)
    world.round()
    world.tick(1)
    late = world.come(row)
    world.settle()
    assert (phone.door.state, late.door.state) == ("ASKED", "STARTED")
    later = world.come(row)
    assert (later.ended, later.door.state) == ("EXPIRED", "DEAD"), "m0 says so, and nobody waits"
    world.tick(60)
    world.flush()
    assert not row.shut, "somebody is at the question"
    world.decide(phone, "deny")
    world.settle()
    assert row.state == "DENIED"
    world.finish()


def test_the_desk_changes_the_door_and_an_answer_is_on_its_way() -> None:
    """Two phones at two doors. Whoever comes by the old code reads that there is a newer one; a yes opens nothing."""
    world = World()
    row = world.rows[0]
    world.settle()
    old = world.come(row)
    world.settle()
    world.decide(old, "approve")
    late = world.relay.letters[-1]
    world.switch(row, "voice")
    for mb in (old.code.mb, row.code.mb):
        world.deliver(late._replace(mb=mb))
    assert row.state == "OFFERED"
    world.say_yes(d="deny")
    again = world.come(row, old.code)
    assert (row.state, again.ended, again.door.state) == ("DENIED", "REOPENED", "DEAD")
    world.finish()
