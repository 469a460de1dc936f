"""`clients.gateway.auditing.record` and `lines`: one transfer as both hospitals know it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.auditing.lines import APPLICATION, EMERGENCY_STARTED, EXPORT, Line, lines, meaning
from clients.gateway.auditing.record import Record, record_of
from clients.gateway.errors import AbsentError
from tests.auditing_kit import decided
from tests.gateway_kit import House, houses
from transfer import jws
from transfer.ids import Tid
from transfer.messages import Grant


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    async with houses(tmp_path) as (s, r):
        yield s, r


async def record(house: House, tid: Tid) -> Record:
    return await house.db.run(lambda con: record_of(con, house.vault, tid))


async def test_both_hospitals_hold_the_same_signed_messages(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await decided(s, r, by="proxy", name="Ana Ruiz", rel="parent")
    here, there = await record(s, tid), await record(r, tid)
    assert here.digests == there.digests
    assert set(here.digests) == {"offer", "grant"}
    for found in (here, there):
        assert found.decision is not None
        assert (found.decision.rung, found.decision.name, found.decision.relation) == (
            "proxy", "Ana Ruiz", "parent",
        )  # fmt: skip
        jws.verify(Grant.NAME, found.decision.signed, found.decision.key, Grant.CAP)
    assert (here.role, here.peer, there.role, there.peer) == ("send", r.name, "receive", s.name)
    assert (here.patient_id, there.patient_id) == ("P1", "")


async def test_its_lines_are_those_of_the_log_in_order(pair: tuple[House, House]) -> None:
    s, r = pair
    tid = await decided(s, r)
    found = (await record(s, tid)).lines
    assert [x.action for x in found] == await s.actions(tid.hex())
    assert "transfer.approve" in {x.action for x in found}
    everything = await s.db.run(lambda con: lines(con, limit=10_000))
    half = everything[len(everything) // 2].seq
    assert await s.db.run(lambda con: lines(con, after=half)) == [x for x in everything if x.seq > half]


async def test_nobody_has_answered_yet(pair: tuple[House, House]) -> None:
    s, r = pair
    found = await record(s, await s.offer_to(r))
    assert (found.decision, found.receipt, set(found.digests)) == (None, None, {"offer"})


async def test_a_transfer_that_is_not_there(pair: tuple[House, House]) -> None:
    with pytest.raises(AbsentError):
        await record(pair[0], Tid(bytes(16)))


@pytest.mark.parametrize(
    ("action", "event", "kind", "purpose"),
    [
        ("transfer.create", EXPORT, None, "TREAT"),
        ("transfer.override", None, EMERGENCY_STARTED, "ETREAT"),
        ("nothing.known", APPLICATION, None, ""),
    ],
)
def test_the_most_special_row_counts(action: str, event: object, kind: object, purpose: str) -> None:
    found = meaning(Line(seq=1, at=0, actor="", action=action, subject="", detail="", hash=b""))
    assert event is None or found.event == event
    assert (found.kind, found.purpose) == (kind, purpose)
