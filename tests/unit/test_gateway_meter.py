"""`clients.gateway.meter`: speed over the last seconds, by a clock that the test holds."""

from __future__ import annotations

import pytest

from clients.gateway import meter
from clients.gateway.meter import WINDOW, Meter


class Monotonic:
    """`time.monotonic` that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(meter.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    return Monotonic(monkeypatch)


def test_a_steady_stream(clock: Monotonic) -> None:
    m = Meter()
    for _ in range(200):
        clock.now += 0.1
        m.add(1000)
    assert m.speed() == pytest.approx(10_000, rel=0.05)
    assert m.total == 200_000


def test_the_first_bytes_are_not_a_burst_of_infinite_speed(clock: Monotonic) -> None:
    m = Meter()
    m.add(1_000_000)
    assert m.speed() <= 4_000_000


def test_nothing_is_no_speed(clock: Monotonic) -> None:
    m = Meter()
    assert m.speed() == 0
    m.add(1000)
    clock.now += WINDOW + 1
    assert m.speed() == 0
    assert m.idle == WINDOW + 1
    assert m.total == 1000


def test_a_pause_is_not_slowness(clock: Monotonic) -> None:
    """A study that arrives an hour later starts its own measure."""
    m = Meter()
    m.add(1000)
    clock.now += 3600
    m.add(1000)
    clock.now += 1
    m.add(1000)
    assert m.speed() == pytest.approx(2000)
    assert m.idle == 0


def test_its_memory_is_that_of_the_window(clock: Monotonic) -> None:
    m = Meter()
    for _ in range(10_000):
        clock.now += 0.1
        m.add(1)
    assert len(m._marks) <= WINDOW / 0.1 + 1
