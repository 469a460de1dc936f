"""Long polls: no wake-up is lost, nobody is forgotten, nobody stays behind."""

from __future__ import annotations

import asyncio

import pytest

from relay.errors import RateError
from relay.notifier import LocalNotifier

T = ("queue", "site")


class Shelf:
    """Something to look at; `looked` counts, `first` is set when somebody has looked."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.looked = 0
        self.first = asyncio.Event()

    async def look(self) -> list[int]:
        self.looked += 1
        found = list(self.items)
        self.first.set()
        return found


async def test_what_is_there_is_found_at_once() -> None:
    shelf, notifier = Shelf(), LocalNotifier()
    shelf.items.append(1)
    assert await notifier.until(T, 25, shelf.look) == [1]
    assert shelf.looked == 1
    assert notifier.waiting == 0


async def test_no_wait_looks_once() -> None:
    shelf = Shelf()
    assert await LocalNotifier().until(T, 0, shelf.look) == []
    assert shelf.looked == 1


async def test_who_waits_is_woken_for_their_topic_only() -> None:
    shelf, notifier = Shelf(), LocalNotifier()
    waiter = asyncio.create_task(notifier.until(T, 25, shelf.look))
    await shelf.first.wait()
    notifier.notify("queue", "another")
    notifier.notify(*T)  # a false alarm: looks again and goes on waiting
    shelf.first.clear()
    await shelf.first.wait()
    shelf.items.append(2)
    notifier.notify(*T)
    assert await waiter == [2]
    assert shelf.looked == 3


async def test_what_comes_while_one_looks_is_not_lost() -> None:
    notifier, items = LocalNotifier(), []

    async def look() -> list[int]:
        found = list(items)
        if not items:  # it arrives after the look and before the wait
            items.append(3)
            notifier.notify(*T)
        return found

    assert await notifier.until(T, 25, look) == [3]


async def test_time_runs_out() -> None:
    shelf, notifier = Shelf(), LocalNotifier()
    assert await notifier.until(T, 0.01, shelf.look) == []
    assert notifier.waiting == 0


async def test_who_is_cancelled_leaves_nothing() -> None:
    shelf, notifier = Shelf(), LocalNotifier()
    waiter = asyncio.create_task(notifier.until(T, 25, shelf.look))
    await shelf.first.wait()
    assert notifier.waiting == 1
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert notifier.waiting == 0
    assert notifier._waiting == {}


async def test_a_look_that_fails_leaves_nothing() -> None:
    notifier = LocalNotifier()

    async def look() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await notifier.until(T, 25, look)
    assert notifier._waiting == {}


@pytest.mark.parametrize("bounds", [{"most": 1}, {"each": 1}])
async def test_how_many_wait_is_bounded(bounds: dict[str, int]) -> None:
    shelf, notifier = Shelf(), LocalNotifier(**bounds)
    waiter = asyncio.create_task(notifier.until(T, 25, shelf.look))
    await shelf.first.wait()
    with pytest.raises(RateError):
        await notifier.until(T, 25, shelf.look)
    notifier.close()
    assert await waiter == []


async def test_closing_sends_everybody_home() -> None:
    shelf, notifier = Shelf(), LocalNotifier()
    waiter = asyncio.create_task(notifier.until(T, 25, shelf.look))
    await shelf.first.wait()
    notifier.close()
    assert await waiter == []
    assert await notifier.until(T, 25, shelf.look) == []
