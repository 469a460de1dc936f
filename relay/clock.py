"""The relay's only clock, as a seam: tests hold it still and move it by days."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Unix seconds, now."""


def system_clock() -> int:
    """The machine's clock."""
    return int(time.time())
