"""How many guesses a stranger gets, as numbers and one decision (protocol s. 4).

The rows live in S's database (`tries(run, tid, state)`); the rules are here. A try is spent *before* the
comparison, in a transaction that is on disk, so a crash can cost the honest person a try but never give a
guesser one. The limit holds for the life of the offer, over every code that was re-issued.
"""

from __future__ import annotations

from typing import Literal

RunState = Literal["open", "spent", "ok"]

MAX = 5
MAX_VOICE = 3
REOPENS = 3
"""How often staff may re-open one offer; each adds the maximum once more."""
RUNS_OPEN = 8
RUNS_EVER = 50
"""Runs for one opening of an offer."""
RUN_SECONDS = 60
"""An open run older than this is dead."""
ANSWER_DELAY = 0.05
"""Seconds after m1 at which S sends m2, whatever the map took."""
VOICE_SECONDS = 600
"""How long a voice door's code begins runs."""
AFTER_END = 24 * 3600
"""Seconds past the end in which the receipt page still answers."""


def limit(reopens: int, *, voice: bool = False) -> int:
    """Tries in all after so many re-opens."""
    return (MAX_VOICE if voice else MAX) * (1 + reopens)


def left(spent: int, reopens: int, *, voice: bool = False) -> int:
    """Tries that are left; 0 is locked."""
    return max(0, limit(reopens, voice=voice) - spent)


def may_start(open_now: int, ever: int, reopens: int) -> bool:
    """Whether one more run may begin."""
    return open_now < RUNS_OPEN and ever < RUNS_EVER * (1 + reopens)
