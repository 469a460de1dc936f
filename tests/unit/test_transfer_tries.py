from __future__ import annotations

import pytest

from transfer import tries
from transfer.links import VOICE_DIGITS
from transfer.tries import left, limit, may_start


def test_the_numbers_of_the_text() -> None:
    assert (tries.MAX, tries.MAX_VOICE, tries.REOPENS) == (5, 3, 3)
    assert (tries.RUNS_OPEN, tries.RUNS_EVER, tries.RUN_SECONDS) == (8, 50, 60)
    assert tries.ANSWER_DELAY == 0.05
    assert tries.AFTER_END == 86400
    assert tries.VOICE_SECONDS == 600


@pytest.mark.parametrize(("reopens", "qr", "voice"), [(0, 5, 3), (1, 10, 6), (3, 20, 12)])
def test_each_reopening_adds_the_maximum_once(reopens: int, qr: int, voice: int) -> None:
    assert limit(reopens) == qr
    assert limit(reopens, voice=True) == voice


def test_what_is_left_never_goes_below_none() -> None:
    assert [left(spent, 0) for spent in range(7)] == [5, 4, 3, 2, 1, 0, 0]
    assert [left(spent, 1) for spent in (5, 9, 10, 11)] == [5, 1, 0, 0]
    assert left(3, 0, voice=True) == 0


def test_a_reopening_gives_back_nothing_that_was_spent() -> None:
    """The limit is for the life of the offer: 4 of 5 spent and one re-opening leaves 6, not 10."""
    assert left(4, 1) == 6


def test_odds_of_a_guesser_with_the_qr() -> None:
    """5e-6 for one opening, 2e-5 with all re-openings (protocol s. 4)."""
    assert limit(0) / 10**6 == 5e-6
    assert limit(tries.REOPENS) / 10**6 == 2e-5


def test_odds_of_a_guesser_at_a_voice_door() -> None:
    """3e-8 for one opening, 1.2e-7 with all re-openings (protocol s. 4)."""
    assert limit(0, voice=True) / 10**VOICE_DIGITS == 3e-8
    assert limit(tries.REOPENS, voice=True) / 10**VOICE_DIGITS == 1.2e-7


@pytest.mark.parametrize(
    ("now", "ever", "reopens", "may"),
    [
        (0, 0, 0, True), (7, 49, 0, True), (8, 8, 0, False), (0, 50, 0, False), (0, 50, 1, True), (7, 99, 1, True),
        (0, 100, 1, False),
    ],
)  # fmt: skip
def test_runs_are_bounded_at_once_and_ever(now: int, ever: int, reopens: int, may: bool) -> None:
    assert may_start(now, ever, reopens) is may
