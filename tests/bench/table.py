"""The rows of the bench: what was measured, what a peer did in the same run, and what was asked for.

A part of the bench prints its rows with `emit` (or `line`, for one figure that is there already) as it goes: as
JSON lines where `BENCH_LINES` is set, which is how `tests.bench` collects them from the process of each part,
else for a reader. `table` draws all of them.

A figure is the median of its rounds, with the least and the greatest beside it. A ratio is the median of the
ratios of pairs that were measured one right after the other, so that a machine that slows down slows down
both: ours by the peer's where more is better, the peer's by ours where less is. So 1 always means "as fast as
the peer", and more is better. A `Target` is a bound on either.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

ROUNDS = max(1, int(os.environ.get("BENCH_ROUNDS", "3")))
"""Rounds of each row. `BENCH_SIZE` makes a round smaller (`shrunk`)."""
_FIGURE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(.*)")


class Target(msgspec.Struct, frozen=True):
    """A bound: on the figure, or on its ratio to the peer's."""

    limit: float
    kind: Literal["least", "most"]
    of: Literal["figure", "ratio"] = "figure"

    def met(self, value: float) -> bool:
        """Whether `value` keeps it."""
        return value >= self.limit if self.kind == "least" else value <= self.limit

    def missed_by(self, value: float) -> float:
        """By what part of the limit `value` is on the wrong side of it; infinite for a limit of nothing at all."""
        distance = self.limit - value if self.kind == "least" else value - self.limit
        return distance / self.limit if self.limit else float("inf")


def at_least(limit: float) -> Target:
    """The figure is this or more."""
    return Target(limit, "least")


def at_most(limit: float) -> Target:
    """The figure is this or less."""
    return Target(limit, "most")


def ratio(limit: float) -> Target:
    """At least this part of what the peer does."""
    return Target(limit, "least", "ratio")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. Without `values` there is no figure, and `note` says why."""

    what: str
    unit: str = ""
    values: list[float] = []
    """One for each round."""
    peer: str = ""
    """What the peer's figures were made with."""
    beside: list[float] = []
    """The peer's, each measured right beside ours."""
    gate: Target | None = None
    goal: Target | None = None
    better: Literal["more", "less"] = "more"
    note: str = ""

    @property
    def figure(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """How fast we are beside the peer; None without pairs."""
        if len(self.values) != len(self.beside) or not self.values:
            return None
        pairs = list(zip(self.values, self.beside, strict=True))
        if self.better == "less":
            pairs = [(theirs, ours) for ours, theirs in pairs]
        if not all(below for _, below in pairs):
            return None
        return statistics.median(above / below for above, below in pairs)

    def of(self, target: Target) -> float | None:
        """What `target` is about."""
        if not self.values:
            return None
        return self.figure if target.of == "figure" else self.ratio

    def meets(self, target: Target | None) -> bool | None:
        """None: nothing was asked for, or nothing was measured."""
        value = None if target is None else self.of(target)
        return None if target is None or value is None else target.met(value)

    @property
    def verdict(self) -> str:
        """`goal`, `gate`, `met` (there is no goal beyond), or `MISSED by` so much of the gate; "-": not judged."""
        if not self.values:
            return "no figure"
        gate, goal = self.meets(self.gate), self.meets(self.goal)
        if gate is False:
            assert self.gate is not None
            value = self.of(self.gate)
            assert value is not None
            part = self.gate.missed_by(value)
            return "MISSED" if part == float("inf") else f"MISSED by {part:.1%}"
        if goal is True:
            return "goal"
        if gate is True:
            return "gate" if self.goal is not None else "met"
        return "below goal" if goal is False else "-"


def line(what: str, measured: str, gate: str = "", goal: str = "") -> None:
    """A row of one round, as texts: "24 s" or "100 MB/s". More is better but for times and memory."""
    found = _FIGURE.match(measured)
    if found is None:
        emit(Row(what=what, note=measured))
        return
    unit, _, note = found[2].partition(" ")
    less = unit in ("s", "ms", "MB")

    def target(text: str) -> Target | None:
        limit = _FIGURE.match(text)
        return Target(float(limit[1]), "most" if less else "least") if limit else None

    emit(
        Row(
            what=what,
            unit=unit,
            values=[float(found[1])],
            gate=target(gate),
            goal=target(goal),
            better="less" if less else "more",
            note=note,
        )
    )


def emit(row: Row) -> None:
    """Tells of a row."""
    text = msgspec.json.encode(row).decode() if os.environ.get("BENCH_LINES") else brief(row)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def shrunk(count: int, least: int = 1) -> int:
    """`count`, or the part of it that the environment's `BENCH_SIZE` asks for: to try the bench out."""
    return max(least, round(count * float(os.environ.get("BENCH_SIZE", "1"))))


def median(work: Callable[[], float]) -> float:
    """The median of a few runs."""
    return statistics.median(work() for _ in range(ROUNDS))


# What a reader sees


def number(value: float) -> str:
    """Three digits that count, whole numbers whole."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def measured(values: Iterable[float], unit: str) -> str:
    """The median, the unit, and the span of the rounds where there were some."""
    found = sorted(values)
    if not found:
        return "-"
    text = f"{number(statistics.median(found))} {unit}".rstrip()
    return text if len(found) == 1 else f"{text} ({number(found[0])}-{number(found[-1])})"


def beside(row: Row) -> str:
    """The peer's figure and the ratio, or what is said instead."""
    parts = []
    if row.beside:
        parts.append(f"{row.peer} {measured(row.beside, row.unit)}".lstrip())
    if row.ratio is not None:
        parts.append(f"x {row.ratio:.2f}")
    if row.note:
        parts.append(row.note)
    return ", ".join(parts)


def bound(target: Target | None, unit: str) -> str:
    """A target in the table's words."""
    if target is None:
        return "-"
    sign = ">=" if target.kind == "least" else "<="
    return (
        f"{sign} x {target.limit:g}" if target.of == "ratio" else f"{sign} {target.limit:g} {unit}".rstrip()
    )


def cells(row: Row) -> list[str]:
    """The row, column by column."""
    return [
        row.what,
        measured(row.values, row.unit),
        beside(row),
        bound(row.gate, row.unit),
        bound(row.goal, row.unit),
        row.verdict,
    ]


def brief(row: Row) -> str:
    """One line of a part that runs by itself."""
    what, figure, there, gate, goal, verdict = cells(row)
    return f"  {what}: {figure}{f' [{there}]' if there else ''}; gate {gate}, goal {goal}: {verdict}"


def table(rows: list[Row]) -> str:
    """All rows as a Markdown table whose columns line up in a terminal too."""
    lines = [["what", "figure", "beside", "gate", "goal", "verdict"], *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = [" | ".join(text.ljust(width) for text, width in zip(x, widths, strict=True)) for x in lines]
    drawn.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {text} |" if i != 1 else f"|-{text}-|" for i, text in enumerate(drawn))
