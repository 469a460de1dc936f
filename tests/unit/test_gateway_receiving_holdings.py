"""`clients.gateway.receiving.holdings`: one UID, one instance, once, whichever transfers bring it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from clients.gateway.clock import Signal
from clients.gateway.dicom.coercion import Change, Local
from clients.gateway.receiving.holdings import CONFLICT, HAD, Held, Holdings
from clients.gateway.receiving.identity import freeze
from clients.gateway.receiving.ledger import Ledger, Result
from clients.gateway.store.database import Database
from tests.gateway_kit import NOW, StillClock
from transfer.ids import Digest, Tid
from transfer.messages import ItemEntry

ONE, OTHER = Tid(b"1" * 16), Tid(b"2" * 16)
HASH, ELSE = Digest(b"h" * 32), Digest(b"e" * 32)
UID = "1.2.0"


class Site:
    """Transfers that name the same instance, at a gateway."""

    def __init__(self, db: Database) -> None:
        self.db, self.clock = db, StillClock()
        self.room = Holdings(db, self.clock)

    async def transfer(
        self, tid: Tid, digest: Digest = HASH, *, number: str = "", at: str = "2026", to: str = "PACS@here"
    ) -> Ledger:
        """One that has marked its one item as on its way, filed under `number` or as it is."""
        ledger = Ledger(tid, to, self.db, self.clock, Signal())
        item = ItemEntry(0, 0, "1.2", UID, "1.2.840.10008.1.2", "raw", 0, 1, 1, digest)
        change = (
            Change(local=Local(patient_id=number), system="US", source="Valley", at=at) if number else None
        )
        await self.db.run(lambda con: ledger.list_items(con, [item]))
        await self.db.run(lambda con: freeze(con, tid, change, "gateway", NOW))
        await self.mark(ledger)
        return ledger

    async def mark(self, ledger: Ledger) -> None:
        await ledger.sending(0, 1)
        await self.db.run(lambda con: self.room.note(con, ledger, 0, 1))

    async def look(self, ledger: Ledger, digest: Digest = HASH) -> Held | None:
        async with self.room.alone(ledger, UID):
            return await self.room.look(ledger, UID, digest)


@pytest.fixture
def site(db: Database) -> Site:
    return Site(db)


async def test_what_nobody_else_has_brought(site: Site) -> None:
    assert await site.look(await site.transfer(ONE)) is None
    assert await site.look(await site.transfer(OTHER, to="PACS@there")) is None, "another PACS has its own"


@pytest.mark.parametrize("result", [Result(0, "store", 0), Result(0, "", None, "unknown"), None])
async def test_what_is_there_or_may_be(site: Site, result: Result | None) -> None:
    """Stored; gave up without an answer; or was on its way when its transfer ended."""
    one = await site.transfer(ONE)
    if result is not None:
        one.settle(result)
        await one.flush()
    held = await site.look(await site.transfer(OTHER))
    assert held is not None
    assert held.same
    assert held.proof == (result.proof if result else "")


async def test_what_was_refused_or_is_lost_is_not_there(site: Site) -> None:
    one = await site.transfer(ONE)
    one.settle(Result(0, "", 0xA900, "refused"))
    await one.flush()
    other = await site.transfer(OTHER)
    assert await site.look(other) is None
    await site.db.run(lambda con: con.execute("UPDATE ledger SET state='listed', lost=1 WHERE tid=?", (ONE,)))
    assert await site.look(other) is None


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((HASH, "", "2026"), (HASH, "", "2027"), True),
        ((HASH, "VALLEY-1", "2026"), (HASH, "VALLEY-1", "2027"), True),
        ((HASH, "", "2026"), (ELSE, "", "2026"), False),
        ((HASH, "VALLEY-1", "2026"), (ELSE, "VALLEY-1", "2026"), False),
        ((HASH, "VALLEY-1", "2026"), (HASH, "HILL-1", "2026"), False),
        ((HASH, "", "2026"), (HASH, "VALLEY-1", "2026"), False),
        ((HASH, "VALLEY-1", "2026"), (HASH, "", "2026"), False),
    ],
    ids=["again", "again later", "bytes", "bytes, same number", "other sender", "new policy", "policy gone"],
)
async def test_the_same_is_bytes_and_number(
    site: Site, first: tuple[Digest, str, str], second: tuple[Digest, str, str], *, same: bool
) -> None:
    one = await site.transfer(ONE, first[0], number=first[1], at=first[2])
    one.settle(Result(0, "store", 0))
    await one.flush()
    other = await site.transfer(OTHER, second[0], number=second[1], at=second[2])
    held = await site.look(other, second[0])
    assert held is not None
    assert held.same is same


async def test_the_newest_says_what_is_there(site: Site) -> None:
    """The first was deleted in the PACS, the second took its place: it is what the third is compared with."""
    one = await site.transfer(ONE)
    one.settle(Result(0, "store", 0))
    await one.flush()
    site.clock.at += 10
    other = await site.transfer(OTHER, ELSE)
    other.settle(Result(0, "store", 0))
    await other.flush()
    third = await site.transfer(Tid(b"3" * 16), ELSE)
    held = await site.look(third, ELSE)
    assert held is not None
    assert held.same


FRESH = Held(True, "commit", 0, NOW)
OLD = Held(True, "store", 0, NOW - 24 * 3600)
UNKNOWN = Held(True, "", None, NOW)
DIFFERENT = Held(False, "store", 0, NOW)
TAKEN, HERS = Result(7, "find", None, HAD), Result(7, "store", 0, HAD)
REFUSED = Result(7, "", None, CONFLICT)


@pytest.mark.parametrize(
    ("held", "there", "absent", "mute"),
    [
        (FRESH, TAKEN, None, HERS),
        (OLD, TAKEN, None, None),
        (UNKNOWN, TAKEN, None, None),
        (DIFFERENT, REFUSED, None, REFUSED),
    ],
    ids=["fresh", "a day old", "unknown", "different"],
)
def test_what_becomes_of_an_item(
    held: Held, there: Result | None, absent: Result | None, mute: Result | None
) -> None:
    assert held.settle(7, "there", NOW) == there
    assert held.settle(7, "absent", NOW) == absent
    assert held.settle(7, "mute", NOW) == mute


async def test_the_second_waits_for_the_first_and_sees_its_result(site: Site) -> None:
    """Also where the first was marked before anybody else had named it, and where its result is not booked yet."""
    one = await site.transfer(ONE)
    other = await site.transfer(OTHER)
    with site.room.opened([one, other]):
        async with site.room.alone(one, UID):
            assert await site.room.look(one, UID, HASH) is None, "the other has marked it, and not in hand"
            waiting = asyncio.create_task(site.look(other))
            await site.db.run(lambda con: None)
            assert not waiting.done()
            one.settle(Result(0, "store", 0))
        held = await waiting
    assert (held is not None and held.proof, one._results) == ("store", [])


async def test_what_a_delivery_at_work_does_not_know_itself(site: Site) -> None:
    """It was on its way before a restart, or the first try got no answer and others come first."""
    one = await site.transfer(ONE)
    other = await site.transfer(OTHER)
    with site.room.opened([one, other]):
        assert await site.look(other) is None
        one.unknown.add(0)
        assert await site.look(other) is not None


async def test_another_instance_or_another_pacs_does_not_wait(site: Site) -> None:
    one, there = await site.transfer(ONE), await site.transfer(OTHER, to="PACS@there")
    async with site.room.alone(one, UID), site.room.alone(one, "1.2.1"), site.room.alone(there, UID):
        pass
    assert len(site.room._hands) == 0


async def test_never_two_hands_on_one_uid(site: Site) -> None:
    inside, most = 0, 0

    async def take(tid: Tid) -> None:
        nonlocal inside, most
        ledger = Ledger(tid, "PACS@here", site.db, site.clock, Signal())
        async with site.room.alone(ledger, UID):
            inside += 1
            most = max(most, inside)
            await site.db.run(lambda con: threading.get_ident())
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for n in range(20):
            group.create_task(take(Tid(bytes([n]) * 16)))
    assert most == 1


async def test_what_came_twice_is_forgotten_once_nobody_delivers(site: Site) -> None:
    one = await site.transfer(ONE)
    with site.room.opened([one]):
        other = await site.transfer(OTHER)
        with site.room.opened([other]):
            assert site.room._shared
        assert site.room._shared, "the first one may still have it before it"
    assert not site.room._shared
