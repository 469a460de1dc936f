"""An offer between two hospitals, and the runs that phones began at its door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway_kit import House, houses
from transfer.ids import Tid

Parties = tuple[House, House, Tid]


@pytest.fixture
async def offered(tmp_path: Path) -> AsyncIterator[Parties]:
    """A sender, a receiver, and an offer between them."""
    async with houses(tmp_path) as (s, r):
        yield s, r, await s.offer_to(r)


async def states(house: House) -> dict[str, int]:
    """How many runs are in which state."""
    return {r[0]: r[1] for r in await house.rows("SELECT state, count(*) FROM tries GROUP BY state")}
