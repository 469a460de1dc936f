from __future__ import annotations

import asyncio

import pytest

from clients.gateway.console.once import Once

KEY = ("session", "/send", "mark")


async def test_two_at_once_and_one_later_get_the_answer_of_the_first() -> None:
    once, go, done = Once(), asyncio.Event(), []

    async def work() -> str:
        await go.wait()
        done.append(1)
        return f"/transfers/{len(done)}"

    first = asyncio.create_task(once.run(KEY, work))
    second = asyncio.create_task(once.run(KEY, work))
    await asyncio.sleep(0)
    go.set()
    assert await first == await second == "/transfers/1"
    assert await once.run(KEY, work) == "/transfers/1"
    assert await once.run(("session", "/send", "other"), work) == "/transfers/2"
    assert await once.run(("another", "/send", "mark"), work) == "/transfers/3"


async def test_a_failure_may_be_tried_again() -> None:
    once, tries = Once(), []

    async def work() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError
        return "/done"

    with pytest.raises(ValueError):  # noqa: PT011
        await once.run(KEY, work)
    assert await once.run(KEY, work) == "/done"


async def test_work_goes_on_when_the_one_who_waits_goes_away() -> None:
    once, go, began, done = Once(), asyncio.Event(), asyncio.Event(), []

    async def work() -> str:
        began.set()
        await go.wait()
        done.append(1)
        return "/done"

    waiting = asyncio.create_task(once.run(KEY, work))
    await began.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await once.run(KEY, work) == "/done"
    assert done == [1]


async def test_a_failure_that_nobody_waits_for_any_more_is_not_lost_as_a_warning() -> None:
    once, go, began = Once(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        began.set()
        await go.wait()
        raise ValueError

    waiting = asyncio.create_task(once.run(KEY, work))
    await began.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    await once.close()


async def test_only_the_last_forms_are_remembered() -> None:
    once, done = Once(size=3), []

    async def work() -> str:
        done.append(1)
        return str(len(done))

    for i in range(10):
        await once.run(("s", "/p", str(i)), work)
    assert await once.run(("s", "/p", "9"), work) == "10"
    assert await once.run(("s", "/p", "0"), work) == "11"
