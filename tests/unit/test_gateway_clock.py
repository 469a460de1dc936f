"""`clients.gateway.clock`: a change is never missed, however waiting and telling fall together."""

from __future__ import annotations

import asyncio
import time

import pytest

from clients.gateway.clock import Signal, SystemClock, system_random
from tests.gateway_kit import PATIENCE

FOREVER = 3600.0


def test_clock_and_chance() -> None:
    assert abs(SystemClock().now() - time.time()) < 5
    assert abs(SystemClock(7200).now() - time.time() - 7200) < 5
    assert len(system_random(24)) == 24
    assert system_random(16) != system_random(16)


async def test_a_change_before_the_wait_is_seen() -> None:
    signal = Signal()
    seen = signal.seen
    signal.set()
    async with asyncio.timeout(PATIENCE):
        assert await signal.wait(seen, FOREVER)


async def test_all_who_wait_are_woken_once() -> None:
    signal = Signal()
    seen = signal.seen
    tasks = [asyncio.create_task(signal.wait(seen, FOREVER)) for _ in range(50)]
    await asyncio.sleep(0)
    signal.set()
    async with asyncio.timeout(PATIENCE):
        assert all(await asyncio.gather(*tasks))
    assert not await signal.wait(signal.seen, 0)


async def test_no_change_is_no_change() -> None:
    signal = Signal()
    signal.set()
    assert not await signal.wait(signal.seen, 0)
    assert not signal._waiters


async def test_a_cancelled_wait_is_cancelled_and_leaves_nothing() -> None:
    """A loop that is told to end while it is woken must end (Python 3.11's `wait_for` may swallow that)."""
    signal = Signal()
    task = asyncio.create_task(signal.wait(signal.seen, FOREVER))
    await asyncio.sleep(0)
    signal.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not signal._waiters


async def test_changes_tells_the_first_look_and_each_burst_once() -> None:
    signal = Signal()
    told = signal.changes(pause=0)
    async with asyncio.timeout(PATIENCE):
        await anext(told)
        for _ in range(100):
            signal.set()
        await anext(told)
        waiting = asyncio.create_task(anext(told))  # type: ignore[arg-type]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        signal.set()
        await waiting
    await told.aclose()  # type: ignore[attr-defined]
