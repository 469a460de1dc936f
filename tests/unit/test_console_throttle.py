from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.console.throttle import (
    FORGET,
    FREE_BY_ADDRESS,
    FREE_BY_NAME,
    LONGEST,
    Throttle,
)
from tests.console_kit import HandClock

DAY = 24 * 3600


def test_the_first_tries_are_free_and_the_next_waits_twice_as_long_each_time() -> None:
    clock = HandClock()
    throttle = Throttle(clock)
    waits = []
    for _ in range(FREE_BY_NAME + 4):
        waits.append(throttle.wait("desk1", "10.0.0.1"))
        clock.time += waits[-1]
        throttle.count("desk1", "10.0.0.1")
    assert waits == [0] * FREE_BY_NAME + [2, 4, 8, 16]


def test_one_name_takes_fewer_than_a_hundred_wrong_tries_a_day_from_all_the_world() -> None:
    clock = HandClock()
    throttle = Throttle(clock)
    end, tries = clock.time + DAY, 0
    while True:
        clock.time += throttle.wait("desk1", f"10.0.{tries}.1")
        if clock.time >= end:
            break
        throttle.count("desk1", f"10.0.{tries}.1")
        tries += 1
    assert tries < 100
    assert throttle.wait("desk1", "10.99.0.1") <= LONGEST


def test_one_address_that_tries_many_names_waits_too() -> None:
    throttle = Throttle(HandClock())
    for i in range(FREE_BY_ADDRESS):
        assert throttle.wait(f"user{i}", "10.0.0.1") == 0
        throttle.count(f"user{i}", "10.0.0.1")
    assert throttle.wait("user-new", "10.0.0.1") == 2
    assert throttle.wait("user-new", "10.0.0.2") == 0


def test_a_right_password_forgets_the_name_but_not_what_else_the_address_tried() -> None:
    throttle = Throttle(HandClock())
    for i in range(FREE_BY_ADDRESS):
        throttle.count(f"user{i}", "10.0.0.1")
    throttle.count("own", "10.0.0.1")
    throttle.right("own", "10.0.0.1")
    assert throttle.wait("own", "10.0.0.1") == 2
    for _ in range(FREE_BY_NAME - 1):
        throttle.count("desk1", "10.0.0.9")
    throttle.count("desk1", "10.0.0.9")
    throttle.right("desk1", "10.0.0.9")
    assert throttle.wait("desk1", "10.0.0.9") == 0


def test_a_stranger_cannot_lock_a_clerk_out_of_the_desk_they_always_use() -> None:
    throttle = Throttle(HandClock())
    throttle.count("desk1", "10.0.0.9")
    throttle.right("desk1", "10.0.0.9")
    for i in range(50):
        throttle.count("desk1", f"10.1.{i}.1")
    assert throttle.wait("desk1", "10.1.99.1") > 0
    assert throttle.wait("desk1", "10.0.0.9") == 0
    for _ in range(FREE_BY_NAME):
        throttle.count("desk1", "10.0.0.9")
    assert throttle.wait("desk1", "10.0.0.9") == 2


def test_what_is_long_ago_is_forgotten() -> None:
    clock = HandClock()
    throttle = Throttle(clock)
    for _ in range(30):
        throttle.count("desk1", "10.0.0.1")
    clock.time += FORGET + 1
    assert throttle.wait("desk1", "10.0.0.1") == 0
    throttle.count("desk1", "10.0.0.1")
    assert throttle.wait("desk1", "10.0.0.1") == 0


@given(st.lists(st.tuples(st.text(max_size=8), st.ip_addresses().map(str), st.booleans()), max_size=200))
def test_memory_is_bounded_whatever_is_tried(tries: list[tuple[str, str, bool]]) -> None:
    throttle = Throttle(HandClock(), size=10)
    for name, address, right in tries:
        assert throttle.wait(name, address) >= 0
        throttle.count(name, address)
        if right:
            throttle.right(name, address)
    assert len(throttle) <= 30
