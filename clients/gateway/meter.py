"""How fast bytes move, for people and for the choice of pack sizes."""

from __future__ import annotations

import time
from collections import deque

WINDOW = 5.0
"""Seconds over which a speed is taken."""


class Meter:
    """Counts bytes as they arrive at the other side."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._started = time.monotonic()
        self.total = 0
        self.last = self._started

    def add(self, size: int) -> None:
        """`size` bytes have just arrived."""
        now = time.monotonic()
        self._trim(now)
        if not self._marks and now - self.last > WINDOW:
            self._started = now  # a pause is not slowness
        self._marks.append((now, size))
        self.total += size
        self.last = now

    def _trim(self, now: float) -> None:
        while self._marks and self._marks[0][0] < now - WINDOW:
            self._marks.popleft()

    def speed(self) -> float:
        """Bytes per second over the last seconds."""
        now = time.monotonic()
        self._trim(now)
        span = min(WINDOW, max(0.25, now - self._started))
        return sum(size for _, size in self._marks) / span

    @property
    def idle(self) -> float:
        """Seconds since the last byte."""
        return time.monotonic() - self.last
