"""Rates and room."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Rate
from relay.errors import RateError
from relay.limits import Buckets, Budget, address_key


class TestBuckets:
    def test_a_burst_then_a_rate(self) -> None:
        now = [100.0]
        buckets = Buckets(Rate(per_second=2, burst=3), clock=lambda: now[0])
        for _ in range(3):
            buckets.take("a")
        with pytest.raises(RateError) as why:
            buckets.take("a")
        assert why.value.headers == {"Retry-After": "1"}
        buckets.take("b")
        now[0] += 0.5
        buckets.take("a")
        with pytest.raises(RateError):
            buckets.check("a")
        now[0] += 1000
        for _ in range(3):
            buckets.take("a")
        with pytest.raises(RateError):
            buckets.take("a")

    def test_the_time_to_wait_is_said(self) -> None:
        buckets = Buckets(Rate(per_second=0.1, burst=1), clock=lambda: 0)
        buckets.take("a")
        with pytest.raises(RateError) as why:
            buckets.take("a")
        assert why.value.headers["Retry-After"] == "10"

    def test_memory_is_bounded_and_the_busy_are_remembered(self) -> None:
        buckets = Buckets(Rate(per_second=1, burst=2), most=10, clock=lambda: 0)
        buckets.take("busy")
        buckets.take("busy")
        for i in range(100):
            buckets.take(i)
            if i % 5 == 0:
                with pytest.raises(RateError):
                    buckets.take("busy")
                buckets._buckets.move_to_end("busy")
        assert len(buckets) == 10


class TestBudget:
    async def test_who_does_not_fit_waits_their_turn(self) -> None:
        budget = Budget(10, 1.0)
        order: list[str] = []

        async def use(name: str, size: int, leave: asyncio.Event) -> None:
            async with budget.hold(size, name):
                order.append(name)
                await leave.wait()

        leave = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(use(n, s, e)) for n, s, e in zip("abc", (8, 8, 2), leave, strict=True)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["a"]  # c would fit, but b came first
        leave[0].set()
        await tasks[0]
        for e in leave:
            e.set()
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "c"]
        assert budget.free == 10
        assert budget._held == {}

    async def test_one_at_their_share_holds_up_nobody_else(self) -> None:
        budget = Budget(10, 0.5)
        async with budget.hold(5, "greedy"):
            waits = asyncio.create_task(self._take(budget, 5, "greedy"))
            await asyncio.sleep(0)
            await self._take(budget, 5, "other")
            assert not waits.done()
        await waits
        assert budget.free == 10

    @staticmethod
    async def _take(budget: Budget, size: int, who: str) -> None:
        async with budget.hold(size, who):
            pass

    async def test_what_could_never_fit_is_refused_at_once(self) -> None:
        with pytest.raises(RateError):
            await self._take(Budget(10, 0.5), 6, "a")

    async def test_patience_ends(self) -> None:
        budget = Budget(10, 1, patience=0.01)
        async with budget.hold(10, "a"):
            with pytest.raises(RateError):
                await self._take(budget, 1, "b")
        assert budget.free == 10

    async def test_how_many_wait_is_bounded_in_all_and_for_each(self) -> None:
        budget = Budget(4, 0.5, most=4)
        async with budget.hold(2, "a"), budget.hold(2, "b"):
            waits = [asyncio.create_task(self._take(budget, 1, who)) for who in "aabb"]
            await asyncio.sleep(0)
            for who in "abc":
                with pytest.raises(RateError):
                    await self._take(budget, 1, who)
        await asyncio.gather(*waits)
        assert budget.free == 4

    async def test_who_is_cancelled_while_waiting_gives_up_their_place(self) -> None:
        budget = Budget(10, 1)
        async with budget.hold(8, "a"):
            large = asyncio.create_task(self._take(budget, 9, "b"))
            small = asyncio.create_task(self._take(budget, 2, "c"))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not small.done()
            large.cancel()
            await small
        assert budget.free == 10
        assert not budget._queue

    @given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from("abc"), st.booleans()), max_size=30))
    async def test_nothing_is_ever_lost(self, steps: list[tuple[int, str, bool]]) -> None:
        budget = Budget(16, 0.75)

        async def use(size: int, who: str) -> None:
            async with budget.hold(size, who):
                assert 0 <= budget.free <= 16
                assert budget._held[who] <= 12 if size else True
                await asyncio.sleep(0)

        tasks = []
        for size, who, cancel in steps:
            tasks.append(asyncio.create_task(use(size, who)))
            await asyncio.sleep(0)
            if cancel:
                tasks[len(tasks) // 2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.free == 16
        assert budget._held == {}
        assert not budget._queue


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_an_address_is_a_household(address: str, key: str) -> None:
    assert address_key(address) == key
