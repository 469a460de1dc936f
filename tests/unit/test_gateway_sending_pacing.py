"""`clients.gateway.sending.pacing`: what flies is less than half a second's worth of any link, and the link is full."""

from __future__ import annotations

import pytest

from clients.gateway.sending.pacing import FEW, FLYING, LATE, MOST, QUICK, Pace
from transfer.packs import BUCKETS

SEAL, TRIP = 40, 0.05
"""What sealing adds to a bucket; a round trip of 40 ms and the relay's disk."""


class Way:
    """A link of `megabits` to a relay, `trip` seconds there and back, whose every answer `pace` hears of."""

    def __init__(self, pace: Pace, megabits: float, trip: float = TRIP) -> None:
        self.pace, self._speed, self._trip, self.now = pace, megabits * 125_000, trip, 1000.0

    def answer(self, flying: int, size: int = 0) -> None:
        began = self.now
        self.now += self._trip + flying / self._speed
        self.pace.answered((size or self.pace.bucket) + SEAL, began, self.now)

    def fill(self, packs: int = 60) -> None:
        """One pack alone, then as many at once as may fly."""
        self.answer(BUCKETS[0], BUCKETS[0])
        for _ in range(packs):
            self.answer(self.pace.streams * self.pace.bucket)


@pytest.mark.parametrize("trip", [0.01, TRIP, 0.25, 0.7])
@pytest.mark.parametrize(
    ("megabits", "streams", "bucket"),
    [
        (1, FEW, BUCKETS[0]), (10, FEW, BUCKETS[0]), (50, MOST, BUCKETS[1]), (200, MOST, BUCKETS[3]),
        (10_000, MOST, BUCKETS[4]),
    ],
)  # fmt: skip
def test_each_link_finds_its_packs(megabits: int, streams: int, bucket: int, trip: float) -> None:
    pace = Pace()
    Way(pace, megabits, trip).fill()
    assert (pace.streams, pace.bucket) == (streams, bucket)
    assert streams * bucket <= FLYING
    assert bucket == BUCKETS[0] or streams * bucket <= megabits * 125_000 / 2


def test_a_link_that_slows_down_gets_smaller_packs_and_larger_ones_again() -> None:
    pace = Pace()
    Way(pace, 200).fill()
    large = pace.bucket
    Way(pace, 10).fill()
    assert (pace.streams, pace.bucket) == (FEW, BUCKETS[0])
    Way(pace, 200).fill()
    assert pace.bucket == large


def test_a_way_that_became_longer_is_measured_anew_after_a_rest() -> None:
    pace, way = Pace(), None
    Way(pace, 200, 0.01).fill()
    large = pace.bucket
    way = Way(pace, 200, 0.6)
    way.now += 100.0
    way.fill()
    assert pace.bucket == large


def test_between_the_bounds_nothing_changes() -> None:
    pace = Pace()
    pace.answered(BUCKETS[-1] + SEAL, 100.0, 100.0)
    before = pace.bucket
    for seconds in (QUICK + 0.01, (QUICK + LATE) / 2, LATE - 0.01):
        pace.answered(pace.bucket + SEAL, 100.0, 100.0 + seconds)
    assert pace.bucket == before


def test_packs_of_another_size_change_nothing() -> None:
    pace = Pace()
    Way(pace, 200).fill()
    now = pace.bucket
    for size in (BUCKETS[0], now // 2, now * 2):
        pace.answered(size + SEAL, 100.0, 100.0)
        pace.answered(size + SEAL, 100.0, 160.0)
    assert pace.bucket == now


def test_the_first_pack_goes_alone_and_a_way_is_taken_for_slow_until_it_is_known() -> None:
    """Four or eight at once answer together, and nobody knows how long one takes: at 10 Mb/s a phone's first message
    waited for half a second then.
    """
    pace = Pace()
    assert pace.flying(1000.0) == 1
    way = Way(pace, 10)
    way.answer(BUCKETS[0], BUCKETS[0])
    assert (pace.flying(way.now), pace.bucket) == (FEW, BUCKETS[0])
    for _ in range(20):
        way.answer(pace.flying(way.now) * pace.bucket)
        assert pace.flying(way.now) * pace.bucket <= 0.5 * 10 * 125_000, "at most half a second of the link"


@pytest.mark.parametrize(("megabits", "beside"), [(10, 2), (50, 4), (200, 4)])
def test_a_phone_gets_half_of_the_way_or_more_for_as_long_as_it_talks(megabits: int, beside: int) -> None:
    pace = Pace()
    way = Way(pace, megabits)
    way.fill()
    full = pace.streams
    pace.make_way(way.now)
    assert (pace.flying(way.now), pace.streams) == (beside, full)
    assert pace.flying(way.now) * pace.bucket >= megabits * 125_000 * TRIP * 0.8, "the link is still full"
    pace.make_way(way.now + 1.0)
    assert pace.flying(way.now + 2.9) == beside
    assert pace.flying(way.now + 3.0) == full
