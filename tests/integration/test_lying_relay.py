"""Whole transfers over a relay that drops, delays, repeats, reorders, damages, swaps, forgets and invents: it may keep
a transfer from ending well, and nothing else. `make soak` runs many seeds (`RUNS=n` for another number); `SEED=n` runs
one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients import drill
from clients.gateway.peers import outbox, relay
from clients.gateway.receiving import prefetch
from clients.gateway.sending import reminder
from tests.faults.day import Day, LyingWorld
from transfer import tries

_RUNS = int(os.environ.get("RUNS", "200")) if os.environ.get("SOAK") else 2
SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(_RUNS)


@pytest.fixture
async def lying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LyingWorld]:
    """Everybody, and waits of seconds where they are minutes."""
    for module, name, seconds in (
        (outbox, "_RESEND", 1), (outbox, "_FIRST", 1), (outbox, "_MOST", 2), (reminder, "_EVERY", 0.5),
        (relay, "POLL", 1), (prefetch, "_REST", 0.3), (drill, "_STEP", 3.0), (drill, "_PATIENCE", 4.0),
        (drill, "_WAIT", 2), (tries, "RUN_SECONDS", 4),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(relay.RelayClient.list_packs, "__defaults__", (1,))
    world = LyingWorld(tmp_path)
    try:
        await world.open()
        yield world
    finally:
        await world.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_lying_relay_only_delays(lying: LyingWorld, seed: int) -> None:
    day = Day(lying, seed)
    try:
        await day.run()
    finally:
        print(f"SEED={seed} plans={[c.plan for c in day.cases]} crashes={day.crashes} lies={day.script.told}")
        print(f"states={day.history}")
    assert day.script.told, "nobody lied"
