"""`clients.gateway.sending.doors`: what phones may do, what strangers cost, and what a crash leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from clients.gateway.clock import system_random
from clients.gateway.errors import DiskFullError
from clients.gateway.peers.relay import SiteEntry
from clients.gateway.sending import doors as module
from clients.gateway.sending.codes import tries_left
from tests.gateway_kit import HOUR, NOW, Handset, House
from tests.phones_kit import Parties, offered, states
from transfer.door import PhoneDoor, SiteDoor, WrongPinError
from transfer.encoding import b64
from transfer.errors import LockedError
from transfer.ids import Tid
from transfer.messages import encode
from transfer.tries import MAX, RUN_SECONDS, RUNS_EVER, RUNS_OPEN

__all__ = ["offered"]


async def left(house: House, tid: Tid) -> int:
    row = await house.send(tid)
    return await house.db.run(lambda con: tries_left(con, row))


async def wrong(house: House, tid: Tid) -> WrongPinError | LockedError:
    phone = await Handset.scan(house, tid, wrong=True)
    with pytest.raises((WrongPinError, LockedError)) as caught:
        await phone.ask()
    assert isinstance(caught.value, (WrongPinError, LockedError))
    return caught.value


async def test_the_right_pin_asks_the_question(offered: Parties) -> None:
    s, r, tid = offered
    phone = await Handset.scan(s, tid)
    asked = await phone.ask()
    row = await s.send(tid)
    assert (asked.offer.tid, asked.offer.r, asked.state, asked.decided) == (tid, r.site, "OFFERED", None)
    assert (asked.summary.from_, asked.summary.to) == ("Valley ED", "Lakeside Trauma Center")
    assert (row["joined_at"], row["check_code"]) == (NOW, asked.check)
    assert await states(s) == {"ok": 1}
    assert await left(s, tid) == MAX
    assert (await s.actions(tid.hex()))[-1] == "transfer.joined"


async def test_yes(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    status = await phone.decide()
    assert (status.state, status.refused, status.at) == ("RELEASED", "", NOW)
    assert status.decided is not None
    assert status.decided.d == "approve"
    assert (await s.send(tid))["state"] == "RELEASED"


# Tries


async def test_whoever_sends_packs_makes_way_for_each_message_of_a_phone(offered: Parties) -> None:
    """And for no message of a mailbox that is not ours."""
    s, _, tid = offered
    heard: list[int] = []
    s.doors._make_way = lambda: heard.append(len(heard))
    await s.doors.handle(SiteEntry(seq=1, at=NOW, mb="00" * 16, run="00" * 16, slot=1, body={}))
    assert heard == []
    phone = await Handset.scan(s, tid)
    await phone.ask()
    assert heard == [0, 1]


async def test_wrong_pins_are_counted_down_to_locked(offered: Parties) -> None:
    s, _, tid = offered
    for n in range(MAX - 1, 0, -1):
        why = await wrong(s, tid)
        assert isinstance(why, WrongPinError)
        assert why.left == n == await left(s, tid)
    assert isinstance(await wrong(s, tid), LockedError)
    with pytest.raises(LockedError):
        await (await Handset.scan(s, tid)).ask()
    assert (await states(s))["spent"] == MAX


async def test_200_wrong_phones_at_once_get_five_comparisons(
    offered: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they come, over however many minutes: never one more, and none is forgotten."""
    s, _, tid = offered
    compared = 0
    prove = SiteDoor.prove

    def counted(self: SiteDoor, m3: Any) -> bool:
        nonlocal compared
        compared += 1
        return prove(self, m3)

    monkeypatch.setattr(SiteDoor, "prove", counted)
    phones = [await Handset.scan(s, tid, wrong=True) for _ in range(200)]
    answered = 0
    while phones:
        await asyncio.gather(*(p.start() for p in phones))
        begun = [p for p in phones if await p.answers(2)]
        assert len(begun) <= RUNS_OPEN
        answered += len(begun)
        # each sends its proof twice, at the same moment as all others
        for p in begun:
            (m2,) = await p.answers(2)
            p.m3 = encode(p.door.point(m2))
        await asyncio.gather(*(p.post(3, p.m3) for p in begun for _ in range(2)))
        for p in begun:
            assert len(await p.answers(4)) == 1
        s.clock.at += RUN_SECONDS
        phones = [p for p in phones if p not in begun]
        for p in phones:
            p.door = PhoneDoor(p.q, p.pin, system_random)
        if not begun:
            break
    assert compared == MAX
    assert answered == RUNS_EVER
    assert (await states(s))["spent"] == MAX
    assert await left(s, tid) == 0


async def test_one_proof_for_a_run(offered: Parties) -> None:
    """The same proof again, at once or later, costs nothing more and changes nothing."""
    s, _, tid = offered
    phone = await Handset.scan(s, tid, wrong=True)
    await phone.start()
    (m2,) = await phone.answers(2)
    m3 = encode(phone.door.point(m2))
    await asyncio.gather(*(phone.post(3, m3) for _ in range(8)))
    await phone.post(3, m3)
    assert await left(s, tid) == MAX - 1
    assert [msgspec.json.decode(b) for b in await phone.answers(4)] == [
        {"v": 1, "error": "wrong", "left": MAX - 1}
    ]


async def test_the_right_proof_again_gets_the_same_answer(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.ask()
    (m4,) = await phone.answers(4)
    await s.execute("DELETE FROM outbox WHERE kind='mailbox'")  # the relay has it; and then has lost it
    for _ in range(2):
        await phone.post(3, phone.m3)
    await s.restart()
    await phone.post(3, phone.m3)
    assert await phone.answers(4) == [m4]
    assert await states(s) == {"ok": 1}


@contextlib.contextmanager
def dies(monkeypatch: pytest.MonkeyPatch, at: object, name: str, why: type[Exception]) -> Iterator[None]:
    """Whoever comes to this step gets no further."""

    def no(*_: object) -> None:
        raise why

    with monkeypatch.context() as patch:
        patch.setattr(at, name, no)
        with pytest.raises(why):
            yield


@pytest.mark.parametrize(
    ("step", "wrong"), [("prove", False), ("prove", True), ("_ask", False), ("_refuse", True)]
)
async def test_a_crash_between_the_try_and_its_answer(
    offered: Parties, monkeypatch: pytest.MonkeyPatch, step: str, wrong: bool
) -> None:
    """The try is spent, once; the same m3 is compared after the start, and no other one is (protocol s. 3)."""
    s, _, tid = offered
    phone = await Handset.scan(s, tid, wrong=wrong)
    await phone.start()
    with dies(monkeypatch, SiteDoor if step == "prove" else s.doors, step, SystemError):
        await phone.prove()
    await s.restart()
    assert await states(s) == {"spent": 1}
    proof = msgspec.json.decode(phone.m3)
    other = {**proof, "Ta": b64(bytes(64))}
    await phone.post(3, msgspec.json.encode(other))
    assert await phone.answers(4) == []
    await phone.post(3, phone.m3)
    assert len(await phone.answers(4)) == 1
    assert await states(s) == ({"spent": 1} if wrong else {"ok": 1})
    assert await left(s, tid) == MAX - wrong
    assert await s.rows("SELECT 1 FROM tries WHERE door_sealed IS NOT NULL OR proof IS NOT NULL") == []
    await phone.post(3, phone.m3)
    assert await left(s, tid) == MAX - wrong


@pytest.mark.parametrize("step", ["_spend", "_ask"])
async def test_a_full_disk_at_the_proof_costs_no_try(
    offered: Parties, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The same m3 is brought again once there is room."""
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.start()
    with dies(monkeypatch, s.doors, step, DiskFullError):
        await phone.prove()
    await phone.post(3, phone.m3)
    assert len(await phone.answers(4)) == 1
    assert await left(s, tid) == MAX


async def test_a_crash_before_the_proof_costs_nothing(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.start()
    await s.restart()
    await phone.prove()
    assert await phone.answers(4) == []
    assert await left(s, tid) == MAX
    await (await Handset.scan(s, tid)).ask()


async def test_a_reopening_gives_new_tries_once_and_the_old_code_is_nothing(offered: Parties) -> None:
    s, _, tid = offered
    old = await Handset.scan(s, tid)
    await old.start()
    for _ in range(MAX):
        await wrong(s, tid)
    await s.offers.reopen(tid, "jdoe")
    assert await left(s, tid) == MAX
    await old.prove()
    assert await old.answers(4) == [], "a run that began before belongs to the old code"
    for _ in range(MAX - 1):
        await wrong(s, tid)
    await (await Handset.scan(s, tid)).ask()
    assert (await states(s))["spent"] == 2 * MAX - 1


# What strangers cost


async def test_a_wrong_gate_costs_nothing(offered: Parties) -> None:
    """Somebody who knows the mailbox's name (the relay) and not the QR."""
    s, _, tid = offered
    real = await Handset.scan(s, tid)
    for _ in range(60):
        stranger = Handset(s, tid, b"?" * 16, "000000")
        stranger.mailbox = real.mailbox
        await stranger.start()
        assert await stranger.answers(2) == []
    assert await states(s) == {}
    await real.ask()


async def test_eight_runs_are_open_at_most(offered: Parties) -> None:
    s, _, tid = offered
    phones = [await Handset.scan(s, tid) for _ in range(RUNS_OPEN + 3)]
    for phone in phones:
        await phone.start()
    assert [bool(await p.answers(2)) for p in phones] == [True] * RUNS_OPEN + [False] * 3
    s.clock.at += RUN_SECONDS
    late = await Handset.scan(s, tid)
    await late.ask()


async def test_fifty_runs_ever_and_fifty_more_for_each_reopening(offered: Parties) -> None:
    s, _, tid = offered
    for expected in (RUNS_EVER, 2 * RUNS_EVER):
        for _ in range(RUNS_EVER // RUNS_OPEN + 2):
            phones = [await Handset.scan(s, tid) for _ in range(RUNS_OPEN)]
            await asyncio.gather(*(p.start() for p in phones))
            s.clock.at += RUN_SECONDS
        assert await s.value("SELECT count(*) FROM tries") == expected
        await s.execute("UPDATE sends SET exp=?", s.clock.at + HOUR)
        await s.offers.reopen(tid, "jdoe")


async def test_an_old_run_is_dead(offered: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.start()
    now = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + RUN_SECONDS + 1)
    await phone.prove()
    assert await phone.answers(4) == []
    assert await left(s, tid) == MAX


async def test_the_same_hello_gets_the_same_point(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await phone.start()
    (m2,) = await phone.answers(2)
    await s.execute("DELETE FROM outbox WHERE kind='mailbox'")
    for _ in range(5):
        await phone.post(1, phone.m1)
    assert await phone.answers(2) == [m2]
    assert await states(s) == {"open": 1}


async def test_another_hello_under_a_known_run_is_dropped(offered: Parties) -> None:
    s, _, tid = offered
    phone, other = await Handset.scan(s, tid), await Handset.scan(s, tid)
    await phone.start()
    (m2,) = await phone.answers(2)
    other.door.run = phone.door.run
    await other.start()
    await s.restart()
    await phone.post(1, phone.m1)
    assert await phone.answers(2) == [m2], "known after a restart too"
    assert await states(s) == {"open": 1}


@pytest.mark.parametrize("slot", [1, 3, 5, 0, 2, 4, 6, 7])
@pytest.mark.parametrize(
    "body",
    [{}, {"v": 1}, {"v": 2, "Ta": "AA"}, {"v": 1, "nP": "AA", "Ya": 5}, {"v": 1, "box": "!"}, {"v": 1, "box": ""}],
    ids=["empty", "v", "v2", "types", "no base64", "empty box"],
)  # fmt: skip
async def test_bodies_in_another_form_are_dropped(offered: Parties, slot: int, body: dict[str, Any]) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    await s.doors.handle(
        SiteEntry(seq=1, at=NOW, body=body, mb=phone.mailbox.hex(), run=phone.door.run.hex(), slot=slot)
    )
    assert await states(s) == {}
    assert await s.rows("SELECT 1 FROM outbox WHERE target LIKE ?", f"%{phone.door.run.hex()}%") == []


@pytest.mark.parametrize(
    ("mb", "run"), [("", "00" * 16), ("zz" * 16, "00" * 16), ("AA" * 16, "00"), ("1234567", "00" * 16)]
)
async def test_names_that_are_none_are_dropped(offered: Parties, mb: str, run: str) -> None:
    s, _, _ = offered
    await s.doors.handle(SiteEntry(seq=1, at=NOW, body={"v": 1}, mb=mb, run=run, slot=1))
    assert await states(s) == {}


async def test_a_hello_that_names_another_run_is_dropped(offered: Parties) -> None:
    s, _, tid = offered
    phone = await Handset.scan(s, tid)
    body = msgspec.json.decode(await phone.start())
    s.doors._runs.clear()
    await s.execute("DELETE FROM tries")
    await s.doors.handle(SiteEntry(seq=1, at=NOW, body=body, mb=phone.mailbox.hex(), run="11" * 16, slot=1))
    assert await states(s) == {}
