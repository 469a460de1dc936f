"""Bars on a terminal, a line now and then elsewhere: how far bytes and images have come."""

from __future__ import annotations

import sys
import time
from typing import Any

_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""


class Bars:
    """One bar for each thing that moves. Lines printed meanwhile go above them."""

    def __init__(self) -> None:
        self._live: Any = None
        self._tasks: dict[str, Any] = {}
        self._said = float("-inf")

    def move(self, what: str, done: int, of: int, unit: str) -> None:
        """`done` of `of` (0: unknown); `unit` is "bytes" or a plural."""
        if sys.stdout.isatty():
            self._draw(what, done, of, unit)
        elif time.monotonic() - self._said > _EVERY or (of and done == of):
            self._said = time.monotonic()
            print(f"{what}: {_amount(done, unit)} of {_amount(of, unit) if of else '?'}", flush=True)

    def _draw(self, what: str, done: int, of: int, unit: str) -> None:
        if self._live is None:
            from rich.progress import (
                BarColumn,
                Progress,
                TextColumn,
            )  # half a tenth of a second for a terminal only

            self._live = Progress(
                TextColumn("{task.description:<9}"), BarColumn(), TextColumn("{task.fields[amount]}"),
                redirect_stdout=False,
            )  # fmt: skip
            self._live.start()
        if what not in self._tasks:
            self._tasks[what] = self._live.add_task(what, amount="")
        amount = f"{_amount(done, unit)} of {_amount(of, unit) if of else '?'}"
        self._live.update(self._tasks[what], completed=done, total=of or None, amount=amount)

    def say(self, sentence: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        else:
            print(sentence, flush=True)

    def close(self) -> None:
        """Leaves the bars as they are and the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._tasks.clear()


def _amount(n: int, unit: str) -> str:
    return f"{n / 1e6:.1f} MB" if unit == "bytes" else f"{n} {unit}"
