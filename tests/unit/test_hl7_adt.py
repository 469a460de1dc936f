"""`clients.gateway.hl7.adt`: the hospital's systems learn who a patient is, once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hl7
import pytest

from clients.gateway.clock import Signal
from clients.gateway.hl7 import mllp
from clients.gateway.hl7.adt import IdentityFeed, control_id, message_of
from clients.gateway.hl7.message import Ends
from clients.gateway.receiving import merging
from clients.gateway.receiving.merging import IdentityChange
from clients.gateway.store.database import Con
from tests.dicom_kit import free_port
from tests.gateway_kit import DAY, NOW, NOWHERE, PATIENCE, House, StillClock, eventually, running
from tests.hl7_kit import a_hospital
from transfer.ids import Tid

ENDS = Ends(sender_site="LAKESIDE", receiver="HIS", receiver_site="LAKESIDE")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path / "r", StillClock(), NOWHERE).make("Lakeside")
    yield made
    await made.close()


def a_change(number: int = 1, **changes: Any) -> IdentityChange:
    values: dict[str, Any] = {
        "id": number, "tid": Tid(number.to_bytes(16, "big")), "from_id": f"VALLEYX2-{number}",
        "from_issuer": "VALLEY", "to_id": "4711", "to_issuer": "LAKESIDE", "to_name": "DOE^JANE^^^",
        "to_birth_date": "19700102", "to_sex": "F", "by": "maria", "at": NOW, "state": "waiting", "note": "",
    }  # fmt: skip
    return IdentityChange(**{**values, **changes})


async def book(house: House, *changes: IdentityChange) -> None:
    def work(con: Con) -> None:
        for change in changes:
            merging.book(con, change)

    await house.db.run(work)
    house.changed.set()


def feed(house: House, port: int) -> IdentityFeed:
    return IdentityFeed(
        house.db, house.clock, "127.0.0.1", port, ENDS, house.changed, pause=lambda failed: 0.02
    )


async def states(house: House) -> list[str]:
    return [r[0] for r in await house.rows("SELECT state FROM identity_changes ORDER BY id")]


async def until(house: House, *expected: str) -> None:
    async def look() -> bool:
        return await states(house) == list(expected)

    await eventually(look)


def field(message: str, segment: str, number: int) -> str:
    return str(hl7.parse(message)[segment][0][number])


async def test_a_merge_and_an_update_in_their_order(house: House) -> None:
    await book(house, a_change(1), a_change(2, from_id="4711", from_issuer="LAKESIDE"))
    async with a_hospital() as hospital, running(feed(house, hospital.port).run()):
        await until(house, "sent", "sent")
        assert [field(m, "MSH", 9) for m in hospital.heard] == ["ADT^A40^ADT_A39", "ADT^A08^ADT_A01"]
        first = hospital.heard[0]
        assert (field(first, "MRG", 1), field(first, "PID", 3)) == ("VALLEYX2-1^^^VALLEY", "4711^^^LAKESIDE")
        assert field(first, "PID", 5) == "DOE^JANE"
        await book(house, a_change(3))
        await until(house, "sent", "sent", "sent")
        assert len(hospital.heard) == 3
    assert await house.alarms(None) == []
    assert "incoming.merge-sent" in await house.actions(a_change(1).tid.hex())


async def test_nothing_is_sent_twice_after_its_yes_also_after_a_restart(house: House) -> None:
    await book(house, a_change())
    async with a_hospital() as hospital:
        async with running(feed(house, hospital.port).run()):
            await until(house, "sent")
        await house.restart()
        async with running(feed(house, hospital.port).run()):
            await book(house, a_change(2))
            await until(house, "sent", "sent")
        assert [field(m, "MRG", 1) for m in hospital.heard] == ["VALLEYX2-1^^^VALLEY", "VALLEYX2-2^^^VALLEY"]


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
async def test_a_no_is_an_alarm_and_the_next_one_goes_on(house: House, code: str) -> None:
    await book(house, a_change(1), a_change(2))
    async with (
        a_hospital(lambda n: code if n == 1 else "AA") as hospital,
        running(feed(house, hospital.port).run()),
    ):
        await until(house, "failed", "sent")
        assert len(hospital.heard) == 2
    assert await house.alarms(a_change(1).tid) == ["hl7-adt"]
    sentence = await house.value("SELECT sentence FROM alarms")
    assert code in sentence
    assert control_id(a_change(1)) in sentence
    assert "DOE" not in sentence
    assert "two numbers" in sentence


async def test_an_update_that_is_refused_says_what_to_enter_and_merges_nothing(house: House) -> None:
    await book(house, a_change(1, from_id="4711", from_issuer="LAKESIDE"))
    async with a_hospital(lambda n: "AE") as hospital, running(feed(house, hospital.port).run()):
        await until(house, "failed")
    sentence = await house.value("SELECT sentence FROM alarms")
    assert "Enter it by hand" in sentence
    assert "erge" not in sentence


async def test_an_answer_that_was_lost_is_asked_for_under_the_same_id(house: House) -> None:
    """The engine hung up before it answered, twice: who knows what it stored."""
    await book(house, a_change())
    async with (
        a_hospital(lambda n: "" if n < 3 else "AA") as hospital,
        running(feed(house, hospital.port).run()),
    ):
        await until(house, "sent")
        assert len(hospital.heard) == 3
        assert {field(m, "MSH", 10) for m in hospital.heard} == {control_id(a_change())}


async def test_a_system_that_is_down_is_waited_for_with_an_alarm(house: House) -> None:
    port = free_port()
    await book(house, a_change())
    async with running(feed(house, port).run()):
        await eventually(lambda: house.alarms(None))
        assert await states(house) == ["waiting"]
        async with a_hospital(port=port):
            await until(house, "sent")
    assert await house.alarms(None) == ["hl7-down"]


@pytest.mark.parametrize(
    "answer",
    [
        b"MSH|^~\\&|||||||ACK||P|2.5.1\rMSA|AA|another\r", b"MSH|^~\\&|||||||ACK||P|2.5.1\rMSA|ZZ|{control}\r",
        b"rubbish", b"MSH|^~\\&|||||||ACK||P|2.5.1\r",
    ],
)  # fmt: skip
async def test_what_is_no_answer_to_it_is_none(house: House, answer: bytes) -> None:
    change = a_change()

    async def lie(block: bytes) -> bytes:
        return answer.replace(b"{control}", control_id(change).encode())

    server = mllp.MllpServer(lie)
    _, port = await server.start("127.0.0.1", 0)
    try:
        await book(house, change)
        assert not await feed(house, port).tell(change)
    finally:
        await server.stop()
    assert await states(house) == ["waiting"]


async def test_one_that_nobody_could_send_for_a_week_is_left_to_people(house: House) -> None:
    await book(house, a_change())
    house.clock.at += 8 * DAY
    async with a_hospital() as hospital, running(feed(house, hospital.port).run()):
        await until(house, "failed")
        assert hospital.heard == []
    assert await house.alarms(a_change().tid) == ["hl7-adt"]


async def test_it_wakes_when_something_is_booked(house: House) -> None:
    changed = Signal()
    async with a_hospital() as hospital:
        made = IdentityFeed(house.db, house.clock, "127.0.0.1", hospital.port, ENDS, changed)
        async with running(made.run()), asyncio.timeout(PATIENCE):
            await book(house, a_change())
            changed.set()
            await until(house, "sent")


def test_control_ids_are_short_and_each_its_own() -> None:
    ids = {control_id(a_change(n)) for n in range(1, 100)}
    assert len(ids) == 99
    assert all(len(x) == 20 and x.isalnum() for x in ids)
    assert control_id(a_change(at=NOW + 1)) not in ids
    twice = a_change(1, id=2)  # the same transfer in the same second
    assert control_id(twice) != control_id(a_change(1))


def test_a_name_without_parts() -> None:
    text = message_of(a_change(to_name=""), ENDS, "C1", NOW)
    assert [line[:3] for line in text.split("\r")[:-1]] == ["MSH", "EVN", "PID", "MRG"]
