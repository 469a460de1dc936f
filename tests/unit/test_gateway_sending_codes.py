"""`clients.gateway.sending.codes`: one door at a time, another code without starting over, tries that stay spent."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from clients.gateway.errors import GatewayError
from clients.gateway.sending.codes import Code, tries_left
from clients.gateway.sending.view import send_view
from clients.gateway.views import TransferView
from tests.gateway_kit import HOUR, NOW, Handset, House, a_relay, houses, running
from transfer.door import WrongPinError
from transfer.errors import LockedError, StateError
from transfer.ids import Nameplate, Tid
from transfer.links import damm, mailbox_of, make_scan
from transfer.mailbox import Hello, Tombstone
from transfer.messages import decode, encode
from transfer.tries import MAX, MAX_VOICE, REOPENS, RUN_SECONDS, RUNS_OPEN, VOICE_SECONDS

PAGE = "https://relay.example"
Q = b"a phone's own q."


class Desk:
    """A sender with an offer, and its staff."""

    def __init__(self, s: House, r: House, tid: Tid) -> None:
        self.s, self.r, self.tid = s, r, tid

    async def switch(self, door: str, scanned: str = "", tid: Tid | None = None) -> None:
        await self.s.offers.switch(tid or self.tid, door, scanned, "clerk")

    async def refused(self, code: str, door: str, scanned: str = "", tid: Tid | None = None) -> None:
        """This does not go, says why, and changes nothing."""
        row = tuple(await self.s.send(tid or self.tid))
        with pytest.raises(GatewayError) as why:
            await self.switch(door, scanned, tid)
        assert why.value.code == code
        assert tuple(await self.s.send(tid or self.tid)) == row

    async def view(self) -> TransferView:
        return await self.s.db.run(lambda con: send_view(con, _row(con, self.tid), self.s.vault, PAGE, {}))

    async def hello(self, name: str) -> Any:
        """What the relay is to show under a mailbox's name."""
        row = await self.s.one(
            "SELECT body FROM outbox WHERE kind='mailbox' AND target=? ORDER BY id DESC LIMIT 1",
            f"/m/{name}/0",
        )
        body = bytes(row["body"])
        return decode(body, Tombstone if b"ended" in body else Hello)

    async def taken(self) -> None:
        """The relay has all that waited for it."""
        await self.s.execute("DELETE FROM outbox WHERE kind='mailbox'")

    async def left(self) -> int:
        row = await self.s.send(self.tid)
        return await self.s.db.run(lambda con: tries_left(con, row))

    async def wrong(self) -> None:
        with pytest.raises((WrongPinError, LockedError)):
            await (await Handset.scan(self.s, self.tid, wrong=True)).ask()


def _row(con: Any, tid: Tid) -> Any:
    return con.execute("SELECT * FROM sends WHERE tid=?", (tid,)).fetchone()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with houses(tmp_path) as (s, r):
        yield Desk(s, r, await s.offer_to(r))


# Voice


async def test_a_number_and_a_code_for_the_telephone(desk: Desk) -> None:
    await desk.switch("voice")
    row = await desk.s.send(desk.tid)
    number = Nameplate(row["mailbox"])
    hello = await desk.hello(number.name)
    assert (hello.tid, hello.s, hello.exp) == (desk.tid, desk.s.site, NOW + VOICE_SECONDS)
    hidden = await desk.view()
    assert (hidden.number, hidden.pin, hidden.code_until) == ("", "", NOW + VOICE_SECONDS), (
        "the relay may refuse it"
    )
    await desk.taken()
    view = await desk.view()
    assert (view.door, view.number, view.link, view.locked) == ("voice", number.name, f"{PAGE}/v", False)
    assert (len(view.pin), damm(view.pin)) == (9, "0")
    assert view.tries_left == MAX_VOICE
    assert "telephone" in view.sentence
    assert (await desk.s.actions(desk.tid.hex()))[-1] == "transfer.door"


async def test_who_hears_both_answers_as_at_any_door(desk: Desk) -> None:
    await desk.switch("voice")
    phone = await Handset.scan(desk.s, desk.tid)
    assert phone.q == b""
    asked = await phone.ask()
    assert asked.offer.tid == desk.tid
    assert (await desk.s.send(desk.tid))["check_code"] == asked.check
    desk.s.clock.at += VOICE_SECONDS + 1
    await desk.s.offers.expire()
    status = await phone.decide(by="proxy", name="A. TEST", rel="spouse")
    assert status.state == "RELEASED", "the time of the code is no time to answer in"


async def test_after_ten_minutes_nobody_comes_in_and_staff_make_another(desk: Desk) -> None:
    await desk.switch("voice")
    phone = await Handset.scan(desk.s, desk.tid)
    desk.s.clock.at += VOICE_SECONDS
    await phone.start()
    assert await phone.answers(2) == [], "by the clock, whenever the sweep comes"
    await desk.s.offers.expire()
    assert (await desk.hello(phone.mailbox.name)).ended == "EXPIRED"
    view = await desk.view()
    assert (view.state, view.pin, view.number, view.link, view.code_until) == ("OFFERED", "", "", "", 0)
    assert "new code" in view.sentence
    await desk.switch("voice")
    await (await Handset.scan(desk.s, desk.tid)).ask()


async def test_a_run_that_began_in_time_goes_on(desk: Desk) -> None:
    """The code was typed in its last minute (protocol s. 1)."""
    await desk.switch("voice")
    desk.s.clock.at += VOICE_SECONDS - 1
    phone, late = await Handset.scan(desk.s, desk.tid), await Handset.scan(desk.s, desk.tid)
    await phone.start()
    await late.start()
    desk.s.clock.at += 1
    await desk.s.offers.expire()
    assert (await desk.hello(phone.mailbox.name)).exp == 0
    await phone.prove()
    (m4,) = await phone.answers(4)
    phone.door.answer(m4)
    desk.s.clock.at += RUN_SECONDS
    await desk.s.offers.expire()
    assert (await phone.decide("deny")).state == "DENIED"


async def test_a_run_that_nobody_proves_keeps_a_code_for_a_minute(desk: Desk) -> None:
    await desk.switch("voice")
    desk.s.clock.at += VOICE_SECONDS - 1
    phone = await Handset.scan(desk.s, desk.tid)
    await phone.start()
    for seconds in (1, RUN_SECONDS):
        desk.s.clock.at += seconds
        await desk.s.offers.expire()
    assert (await desk.hello(phone.mailbox.name)).ended == "EXPIRED"


async def test_who_is_at_the_question_stays_and_a_latecomer_hears_that_the_code_is_over(desk: Desk) -> None:
    """A tombstone would take the question away: the mailbox stays, and its m0 says that nobody else comes in."""
    await desk.switch("voice")
    phone, late = await Handset.scan(desk.s, desk.tid), await Handset.scan(desk.s, desk.tid)
    asked = await phone.ask()
    sealed = bytes((await desk.s.send(desk.tid))["pin_sealed"])
    desk.s.clock.at += VOICE_SECONDS
    await desk.s.offers.expire()
    assert (await desk.hello(phone.mailbox.name)).exp == 0
    assert desk.s.on_disk(sealed) == []
    view = await desk.view()
    assert (view.pin, view.number, view.link, view.code_until, view.check) == ("", "", "", 0, asked.check)
    assert "can still answer" in view.sentence
    await late.start()
    assert await late.answers(2) == []
    assert (await phone.decide()).state == "RELEASED"
    await desk.s.offers.expire()
    assert (await desk.hello(phone.mailbox.name)).exp == 0


async def test_after_an_answer_an_old_code_is_over_too(desk: Desk) -> None:
    """Somebody who comes back for the receipt by telephone is told, and does not wait for an answer."""
    await desk.switch("voice")
    phone = await Handset.scan(desk.s, desk.tid)
    await phone.ask()
    await phone.decide()
    desk.s.clock.at += VOICE_SECONDS
    await desk.s.offers.expire()
    assert (await desk.hello(phone.mailbox.name)).exp == 0
    assert (await phone.stop()).state == "REVOKED"


async def test_a_code_ends_with_its_offer(desk: Desk) -> None:
    desk.s.clock.at += 2 * HOUR - 60
    await desk.switch("voice")
    assert (await desk.s.send(desk.tid))["code_exp"] == NOW + 2 * HOUR


async def test_the_voice_door_leaves_three_tries_for_the_life_of_the_transfer(desk: Desk) -> None:
    await desk.wrong()
    assert await desk.left() == MAX - 1
    await desk.switch("voice")
    assert await desk.left() == MAX_VOICE - 1
    await desk.switch("qr")
    assert await desk.left() == MAX_VOICE - 1, "also at a door that has five by itself"
    await desk.wrong()
    await desk.switch("voice")
    await desk.wrong()
    assert (await desk.view()).locked
    for door in ("qr", "voice"):
        await desk.refused("locked", door)
    for n in range(1, REOPENS + 1):
        await desk.s.offers.reopen(desk.tid, "clerk")
        row = await desk.s.send(desk.tid)
        assert (row["door"], row["reopens"], await desk.left()) == ("voice", n, MAX_VOICE)
        for _ in range(MAX_VOICE):
            await desk.wrong()
    assert await desk.s.value("SELECT count(*) FROM tries WHERE state='spent'") == MAX_VOICE * (1 + REOPENS)


async def test_a_door_that_would_lock_itself_is_not_opened(desk: Desk) -> None:
    for _ in range(MAX_VOICE):
        await desk.wrong()
    await desk.refused("door-tries", "voice")
    assert await desk.left() == MAX - MAX_VOICE


async def test_a_number_that_the_relay_does_not_give_is_drawn_anew(tmp_path: Path) -> None:
    """Another site has it; and nobody has been told the first one."""
    async with houses(tmp_path) as (s, r):
        desk = Desk(s, r, await s.offer_to(r))
        async with a_relay(tmp_path / "relay", s.clock, s.card, r.card) as relay:
            for house in (s, r):
                await house.relay.close()
                house._relay_url = relay.url
                await house.restart()
            await desk.switch("voice")
            first = Nameplate((await s.send(desk.tid))["mailbox"])
            await r.relay.call("PUT", f"/m/{first.name}/0", _hello(r, desk.tid))
            seen = s.changed.seen
            async with running(s.outbox.run()):
                while not (view := await desk.view()).number:
                    assert await s.changed.wait(seen, 30), (
                        "a page that is open hears that its number is there"
                    )
                    seen = s.changed.seen
            assert view.number != first.name
            assert view.code_until == NOW + VOICE_SECONDS
            await s.relay.call("PUT", f"/m/{view.number}/0", _hello(s, desk.tid))  # it is ours


def _hello(house: House, tid: Tid) -> bytes:
    return encode(Hello(v=1, tid=tid, s=house.site, exp=NOW + 60))


async def test_a_number_is_used_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"\0" * 8, b"\0" * 8, (7).to_bytes(8, "big"), (7).to_bytes(8, "big")])
    sizes: Callable[[int], bytes] = lambda n: next(drawn) if n == 8 else secrets.token_bytes(n)  # noqa: E731
    monkeypatch.setattr(desk.s.offers, "_random", sizes)
    await desk.switch("voice")
    assert (await desk.s.send(desk.tid))["mailbox"] == b"0000000"


# Staff scan


async def test_the_staff_scan_a_phone(desk: Desk) -> None:
    await desk.switch("scan", make_scan(Q) + "\r\n")
    hello = await desk.hello(mailbox_of(Q).hex())
    assert hello.tid == desk.tid
    view = await desk.view()
    assert (view.door, view.number, view.link, len(view.pin), view.tries_left) == (
        "scan",
        "",
        f"{PAGE}/p",
        6,
        MAX,
    )
    phone = await Handset.scan(desk.s, desk.tid)
    assert phone.q == Q
    await phone.ask()
    assert (await phone.decide()).state == "RELEASED"


async def test_a_scanner_that_beeps_twice_changes_nothing(desk: Desk) -> None:
    await desk.switch("scan", make_scan(Q))
    row = tuple(await desk.s.send(desk.tid))
    await desk.switch("scan", make_scan(Q))
    assert tuple(await desk.s.send(desk.tid)) == row


async def test_a_code_of_a_phone_is_good_once_and_for_one_transfer(desk: Desk) -> None:
    other = await desk.s.offer_to(desk.r)
    await desk.switch("scan", make_scan(Q))
    await desk.refused("scan-used", "scan", make_scan(Q), other)
    await desk.switch("qr")
    await desk.refused("scan-old", "scan", make_scan(Q))
    await desk.refused("scan-old", "scan", make_scan(Q), other)


async def test_what_is_no_code_of_a_phone_changes_nothing(desk: Desk) -> None:
    await desk.refused("scan-rubbish", "scan", "4711")
    await desk.refused("door", "window")


async def test_a_locked_phone_gets_a_qr_when_staff_reopen(desk: Desk) -> None:
    await desk.switch("scan", make_scan(Q))
    for _ in range(MAX):
        await desk.wrong()
    await desk.s.offers.reopen(desk.tid, "clerk")
    assert (await desk.view()).door == "qr"
    assert (await desk.hello(mailbox_of(Q).hex())).ended == "REOPENED"


async def test_a_code_that_the_relay_refuses_is_closed_and_said(desk: Desk) -> None:
    await desk.switch("scan", make_scan(Q))
    await desk.s.db.run(lambda con: desk.s.offers.refused(con, f"/m/{mailbox_of(Q).hex()}/0"))
    assert await desk.s.alarms(desk.tid) == ["scan-old"]
    assert (await desk.view()).pin == ""
    await desk.switch("qr")
    assert await desk.s.alarms(desk.tid) == []


# Any switch


@pytest.mark.parametrize("door", ["qr", "voice", "scan"])
@pytest.mark.parametrize("old", ["qr", "voice"])
async def test_the_old_code_is_nothing_and_says_so(desk: Desk, old: str, door: str) -> None:
    """A run that began before, and a question that is on a screen, belong to the old code."""
    await desk.switch(old)
    late, asked = await Handset.scan(desk.s, desk.tid), await Handset.scan(desk.s, desk.tid)
    await late.start()
    await asked.ask()
    before = await desk.s.send(desk.tid)
    await desk.switch(door, make_scan(Q) if door == "scan" else "")
    after = await desk.s.send(desk.tid)
    assert (after["tid"], after["offer"], after["exp"]) == (before["tid"], before["offer"], before["exp"])
    assert (after["joined_at"], after["check_code"]) == (0, "")
    assert (await desk.hello(late.mailbox.name)).ended == "REOPENED"
    await late.prove()
    assert await late.answers(4) == []
    asked.m5 = b'{"v":1,"box":"AAAA"}'
    await asked.post(5, asked.m5)
    assert (await desk.s.send(desk.tid))["state"] == "OFFERED"
    assert await desk.left() == (MAX_VOICE if "voice" in (old, door) else MAX)
    await (await Handset.scan(desk.s, desk.tid)).ask()


@pytest.mark.parametrize("door", ["qr", "voice", "scan"])
async def test_a_run_of_the_old_code_is_none_under_the_new_name(desk: Desk, door: str) -> None:
    """Whoever came by the old code learns the new mailbox's name: a number is public, a square can be photographed."""
    late, asked = await Handset.scan(desk.s, desk.tid), await Handset.scan(desk.s, desk.tid)
    await late.start()
    (m2,) = await late.answers(2)
    await asked.ask()
    await desk.switch(door, make_scan(Q) if door == "scan" else "")
    new = (await Handset.scan(desk.s, desk.tid)).mailbox
    late.mailbox = asked.mailbox = new
    before = await desk.left()
    await late.post(1, late.m1)
    await late.post(3, encode(late.door.point(m2)))
    await asked.post(3, asked.m3)
    await asked.post(
        5, encode(asked.door.decide("approve", by="patient", name="", rel="self", lang="en", t=NOW))
    )
    assert [await phone.answers(slot) for phone in (late, asked) for slot in (2, 4, 6)] == [[]] * 6
    row = await desk.s.send(desk.tid)
    assert (row["state"], row["joined_at"], await desk.left()) == ("OFFERED", 0, before)


@pytest.mark.parametrize("step", ["_spend", "_ask"])
async def test_a_switch_in_the_middle_of_a_comparison_drops_its_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Two transactions, and the desk's comes before or between them: no question, and no try of an honest person."""
    phone = await Handset.scan(desk.s, desk.tid)
    await phone.start()
    run = desk.s.db.run
    switched: list[bool] = []

    async def after_a_switch(work: Callable[[Any], Any]) -> Any:
        if not switched and step in work.__code__.co_names:
            switched.append(True)
            await desk.switch("qr")
        return await run(work)

    monkeypatch.setattr(desk.s.db, "run", after_a_switch)
    await phone.prove()
    assert switched
    assert await phone.answers(4) == []
    row = await desk.s.send(desk.tid)
    assert (row["joined_at"], row["check_code"], await desk.left()) == (0, "", MAX)
    await (await Handset.scan(desk.s, desk.tid)).ask()


async def test_runs_of_the_old_code_keep_nobody_out_at_the_new_one(desk: Desk) -> None:
    """A stranger fills the number of the voice door, and the desk opens another: the patient need not wait a minute."""
    await desk.switch("voice")
    strangers = [await Handset.scan(desk.s, desk.tid) for _ in range(RUNS_OPEN)]
    for stranger in strangers:
        await stranger.start()
    await desk.switch("qr")
    await (await Handset.scan(desk.s, desk.tid)).ask()


async def test_a_switch_survives_a_restart_whole_or_not_at_all(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = tuple(await desk.s.send(desk.tid))
    waiting = await desk.s.letters("mailbox")

    def dies(*_: object) -> None:
        raise SystemError

    with monkeypatch.context() as patch:
        patch.setattr(desk.s.offers, "_say_hello", dies)
        with pytest.raises(SystemError):
            await desk.switch("voice")
    await desk.s.restart()
    assert tuple(await desk.s.send(desk.tid)) == row
    assert await desk.s.letters("mailbox") == waiting
    await desk.switch("voice")
    await desk.s.restart()
    await (await Handset.scan(desk.s, desk.tid)).ask()


@pytest.mark.parametrize("door", ["voice", "scan"])
async def test_two_phones_at_once_and_one_answer(desk: Desk, door: str) -> None:
    """As at the QR: both are asked, one answer counts, and both hear which."""
    await desk.switch(door, make_scan(Q))
    phones = [await Handset.scan(desk.s, desk.tid) for _ in range(2)]
    asked = await asyncio.gather(*(phone.ask() for phone in phones))
    assert [a.decided for a in asked] == [None, None]
    statuses = await asyncio.gather(phones[0].decide("approve"), phones[1].decide("deny"))
    first = next(s for s in statuses if not s.refused)
    assert sorted(s.refused for s in statuses) == ["", "decided"]
    assert {(s.state, s.decided) for s in statuses} == {(first.state, first.decided)}
    assert (await desk.s.send(desk.tid))["state"] == first.state
    assert await desk.left() == (MAX_VOICE if door == "voice" else MAX)


@pytest.mark.parametrize("answer", ["approve", "deny"])
async def test_no_switch_after_an_answer(desk: Desk, answer: str) -> None:
    phone = await Handset.scan(desk.s, desk.tid)
    await phone.ask()
    await phone.decide(answer)
    with pytest.raises(StateError):
        await desk.switch("voice")


async def test_old_codes_are_not_on_the_disk(desk: Desk) -> None:
    row = await desk.s.send(desk.tid)
    sealed = [bytes(row["q_sealed"]), bytes(row["pin_sealed"])]
    assert desk.s.on_disk(*sealed)
    await desk.switch("voice")
    assert desk.s.on_disk(*sealed) == []


def test_a_code_does_not_print_itself() -> None:
    code = Code("voice", b"", "27182818", Nameplate(b"1234567"), 0)
    assert "27182818" not in f"{code} {code!r}"
