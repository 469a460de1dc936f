"""What a lying relay does, by a seed. Each lie is drawn from the seed, the side that asks, the kind of call and how
often it was made before, so that a seed means the same lies whatever the order in which two gateways happen to run.
"""

from __future__ import annotations

import asyncio
import random

DROP_REQUEST, DROP_ANSWER, REPEAT, DELAY = "drop-request", "drop-answer", "repeat", "delay"
CUT_REQUEST, FLIP_REQUEST, CUT_ANSWER, FLIP_ANSWER = (
    "cut-request",
    "flip-request",
    "cut-answer",
    "flip-answer",
)
ERROR, RATE, GARBAGE, TWIST = "500", "429", "garbage", "twist"
_ON_THE_WIRE = (
    DROP_REQUEST, DROP_ANSWER, REPEAT, DELAY, CUT_REQUEST, FLIP_REQUEST, CUT_ANSWER, FLIP_ANSWER, ERROR, RATE, GARBAGE,
)  # fmt: skip
_TWISTED = ("queue", "list", "pack", "prekeys", "phone-get")
"""Calls whose answers can be lied about in their own form."""
_LONGEST = 0.3
"""Seconds after which a delayed call goes on though nothing else was asked."""


class Script:
    """The lies of one seed, until `events` calls were made; after them the relay is honest."""

    def __init__(self, seed: int, *, rate: float = 0.3, events: int = 250) -> None:
        self.seed, self._rate, self._left = seed, rate, events
        self._count: dict[tuple[str, str], int] = {}
        self.passed = 0
        self._moved: asyncio.Future[None] | None = None
        self.over = asyncio.Event()
        self.told: dict[str, int] = {}
        """How often each lie was told."""

    def next(self, side: str, kind: str) -> tuple[str, random.Random]:
        """The lie for this call ("" for none), and its dice."""
        self._tick()
        n = self._count[side, kind] = self._count.get((side, kind), -1) + 1
        dice = random.Random(f"{self.seed}/{side}/{kind}/{n}")
        if self.over.is_set() or dice.random() >= self._rate:
            return "", dice
        lie = TWIST if kind in _TWISTED and dice.random() < 0.5 else dice.choice(_ON_THE_WIRE)
        self.told[lie] = self.told.get(lie, 0) + 1
        return lie, dice

    def end(self) -> None:
        """The relay is honest from now on."""
        self.over.set()

    def _tick(self) -> None:
        self.passed += 1
        self._left -= 1
        if self._left <= 0:
            self.end()
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    async def others(self, calls: int) -> None:
        """Until so many other calls were made, or nobody makes one."""
        until = self.passed + calls
        while self.passed < until and not self.over.is_set():
            if self._moved is None or self._moved.done():
                self._moved = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(_LONGEST):
                    await asyncio.shield(self._moved)
            except TimeoutError:
                return
