"""One line for each figure: what, measured, gate, goal."""

from __future__ import annotations

import statistics
from collections.abc import Callable

ROUNDS = 3


def line(what: str, measured: str, gate: str = "", goal: str = "") -> None:
    """Prints a row."""
    print(f"  {what:<72} {measured:>18}   gate {gate or '-':<10} goal {goal or '-'}")


def median(work: Callable[[], float]) -> float:
    """The median of a few runs."""
    return statistics.median(work() for _ in range(ROUNDS))
