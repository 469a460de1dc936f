"""`clients.gateway.receiving.routes`: one study at several PACS. Each gets what is its own, once, and none waits for
another; a restart in between changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.receiving import delivery, remarks, storing
from clients.gateway.receiving.destinations import Destinations, Pacs
from clients.gateway.receiving.routing import Rule
from tests.delivery_kit import (
    DEADLINE,
    OnePacs,
    Party,
    change_an_item,
    images,
    party,
)
from tests.gateway_kit import PATIENCE, an_instance, eventually, running
from tests.spool_kit import workers

__all__ = ["party", "workers"]
MR = {"Modality": "MR", "SeriesInstanceUID": "2.25.13"}
BOTH = Rule(modality=("MR",), to=("pacs", "neuro"))
ALL = Rule(to=("pacs", "neuro"))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    monkeypatch.setattr(storing, "_REST", 0.2)
    monkeypatch.setattr(delivery, "_PAUSE_FIRST", 0.05)


@pytest.fixture
async def neuro() -> AsyncIterator[OnePacs]:
    made = OnePacs()
    yield made
    await asyncio.to_thread(made.stop)


@asynccontextmanager
async def two(
    party: Party, neuro: OnePacs, *rules: Rule, names: Sequence[str] = ("pacs", "neuro")
) -> AsyncIterator[Destinations]:
    """Both PACS as destinations of the receiver."""
    async with AsyncExitStack() as ends:
        found = []
        for name, pacs in zip(("pacs", "neuro"), (party.pacs, neuro), strict=True):
            to = Destination(aet="PACS", host="127.0.0.1", port=pacs.port, calling_aet="TRAUMATX")
            scu = StoreScu(to)
            ends.push_async_callback(scu.stop)
            if name in names:
                found.append(Pacs(name, f"{name.upper()}@here", scu))
        yield Destinations(found, rules)


async def deliver(party: Party, destinations: Destinations) -> None:
    async with asyncio.timeout(PATIENCE):
        await party.delivery(
            StoreScu(Destination(aet="X", host="", port=1, calling_aet="X")), destinations=destinations
        ).run()


async def where(party: Party) -> dict[int, set[str]]:
    """The destinations of each item, with the state there."""
    found: dict[int, set[str]] = {}
    for row in await party.r.rows("SELECT * FROM ledger WHERE tid=?", party.tid):
        found.setdefault(row["no"], set()).add(f"{row['destination']} {row['state']}")
    return found


def study() -> list[Any]:
    """Two series, of which the rules tell one from the other."""
    return [*images(3), *(an_instance(InstanceNumber=i, **MR) for i in range(4, 7))]


async def test_each_destination_gets_its_series(party: Party, neuro: OnePacs) -> None:
    neuro.start()
    await party.study(*study())
    async with two(party, neuro, BOTH) as destinations:
        await deliver(party, destinations)
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("COMPLETE", [])
    originals = await party.originals()
    assert party.pacs.bytes == originals
    mr = {uid for no, uid in party.uids.items() if len((await where(party))[no]) == 2}
    assert len(mr) == 3
    assert neuro.bytes == {uid: originals[uid] for uid in mr}
    assert set(party.pacs.seen.values()) == set(neuro.seen.values()) == {1}
    lines = await party.r.rows("SELECT detail FROM audit WHERE action='incoming.routed' ORDER BY detail")
    assert sorted(line["detail"].partition(": ")[2] for line in lines) == ["pacs", "pacs neuro"]


async def test_a_gap_is_one_of_a_destination(party: Party, neuro: OnePacs) -> None:
    """An instance is stored when each of its destinations has it."""
    neuro.start()
    await party.study(*images(4))
    neuro.answers[party.uids[2]] = 0xC000
    async with two(party, neuro, ALL) as destinations:
        await deliver(party, destinations)
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [2])
    assert len(party.pacs.bytes) == 4
    assert (await where(party))[2] == {"PACS@here stored", "NEURO@here failed"}
    assert await party.r.db.run(lambda con: remarks.sentence(con, party.tid)) == " Missing at NEURO: 1."
    line = await party.r.one("SELECT detail FROM audit WHERE action='receipt.partial'")
    assert line["detail"].endswith("missing at NEURO@here 1")


async def test_one_that_is_away_holds_up_no_other_and_gets_its_own_later(
    party: Party, neuro: OnePacs
) -> None:
    count = 2 * delivery._AHEAD
    await party.study(*images(count))
    async with (
        two(party, neuro, ALL) as destinations,
        running(party.delivery(destinations.default.scu, destinations=destinations).run()) as (task,),
    ):

        async def first_has_all() -> bool:
            return len(party.pacs.bytes) == count

        await eventually(first_has_all)
        assert not task.done()
        assert await party.r.alarms(party.tid) == ["pacs-neuro"]
        neuro.start()
        async with asyncio.timeout(PATIENCE):
            await task
    assert (await party.receipt()).state == "COMPLETE"
    assert party.pacs.bytes == neuro.bytes == await party.originals()
    assert set(party.pacs.seen.values()) == set(neuro.seen.values()) == {1}
    notes = await party.r.rows("SELECT DISTINCT note FROM ledger WHERE tid=?", party.tid)
    assert [row["note"] for row in notes] == [""], "what never reached it was not sent again"
    (alarm,) = await party.r.rows("SELECT sentence FROM alarms WHERE tid=?", party.tid)
    assert alarm["sentence"].startswith("Destination neuro: The PACS cannot be reached")


async def test_one_that_stays_away_is_a_gap_after_its_deadline(party: Party, neuro: OnePacs) -> None:
    await party.study(*images(3))
    async with (
        two(party, neuro, ALL) as destinations,
        running(party.delivery(destinations.default.scu, destinations=destinations).run()) as (task,),
    ):

        async def alarmed() -> bool:
            return len(party.pacs.bytes) == 3 and await party.r.alarms(party.tid) == ["pacs-neuro"]

        await eventually(alarmed)
        party.r.clock.at += DEADLINE
        async with asyncio.timeout(PATIENCE):
            await task
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [0, 1, 2])
    assert len(party.pacs.bytes) == 3


async def interrupted(party: Party, neuro: OnePacs, rule: Rule) -> None:
    """A run that ended when the first PACS had all, and the other nothing."""
    async with (
        two(party, neuro, rule) as destinations,
        running(party.delivery(destinations.default.scu, destinations=destinations).run()),
    ):

        async def booked() -> bool:
            sql = (
                "SELECT count(*) AS n FROM ledger WHERE tid=? AND destination='PACS@here' AND state='stored'"
            )
            return bool((await party.r.one(sql, party.tid))["n"] == 4)

        await eventually(booked)


async def test_a_series_keeps_its_destinations_over_a_restart(party: Party, neuro: OnePacs) -> None:
    await party.study(*images(4))
    await interrupted(party, neuro, Rule(modality=("CT",), to=("pacs", "neuro")))
    neuro.start()
    async with two(party, neuro) as destinations:  # the rule is gone
        await deliver(party, destinations)
    assert (await party.receipt()).state == "COMPLETE"
    assert neuro.bytes == party.pacs.bytes == await party.originals()
    assert set(party.pacs.seen.values()) == {1}


async def test_a_destination_that_is_not_set_any_more_is_forgotten(party: Party, neuro: OnePacs) -> None:
    await party.study(*images(4))
    await interrupted(party, neuro, ALL)
    async with two(party, neuro, names=["pacs"]) as destinations:
        await deliver(party, destinations)
    assert (await party.receipt()).state == "COMPLETE"
    assert await where(party) == {no: {"PACS@here stored"} for no in range(4)}
    assert set(party.pacs.seen.values()) == {1}


async def test_who_sent_it_decides_before_any_image(party: Party, neuro: OnePacs) -> None:
    neuro.start()
    await party.study(*study())
    async with two(party, neuro, Rule(sender=("valley ed",), to=("neuro",)), BOTH) as destinations:
        await deliver(party, destinations)
    assert (await party.receipt()).state == "COMPLETE"
    assert neuro.bytes == await party.originals()
    assert party.pacs.seen == {}
    assert not await party.r.rows("SELECT 1 FROM audit WHERE action='incoming.routed'")


async def test_an_item_that_does_not_restore_is_a_gap_wherever_it_would_have_gone(
    party: Party, neuro: OnePacs
) -> None:
    """Where no image of its series says what that is, it would have gone nowhere."""
    neuro.start()
    await party.study(*images(5), an_instance(InstanceNumber=6, **MR))
    await change_an_item(party, 3, codec="unknown")
    await change_an_item(party, 5, codec="unknown")
    async with two(party, neuro, Rule(modality=("CT",), to=("neuro",))) as destinations:
        await deliver(party, destinations)
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [3, 5])
    assert len(neuro.bytes) == 4
    found = await where(party)
    assert (found[3], found[5]) == ({"NEURO@here failed"}, {" failed"})
