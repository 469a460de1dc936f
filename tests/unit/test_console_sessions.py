from __future__ import annotations

import hashlib

import msgspec
import pytest

from clients.gateway.console.sessions import ABSOLUTE, IDLE, TOUCH_EVERY, Sessions, key_of, new_token
from tests.console_kit import HandClock, house
from tests.fake_engine import FakeEngine


async def opened(clock: HandClock) -> tuple[FakeEngine, Sessions, str]:
    engine = FakeEngine(clock)
    engine.put_user("desk1", "clerk")
    sessions = Sessions(engine, clock, secure=True)
    return engine, sessions, await sessions.open("desk1", "clerk")


async def test_the_engine_never_holds_the_token_itself() -> None:
    engine, _, token = await opened(HandClock())
    assert len(token) == 43
    assert list(engine.sessions) == [hashlib.sha256(token.encode()).hexdigest()]
    assert token.encode() not in msgspec.json.encode(engine.sessions)


async def test_a_session_ends_thirty_minutes_after_its_last_use() -> None:
    clock = HandClock()
    engine, sessions, token = await opened(clock)
    for _ in range(3):
        clock.time += IDLE - 1
        found = await sessions.get(key_of(token))
        assert found is not None
        await sessions.touch(*found)
    clock.time += IDLE
    assert await sessions.get(key_of(token)) is None
    assert engine.sessions == {}


async def test_no_use_moves_the_end_beyond_twelve_hours() -> None:
    clock = HandClock()
    _, sessions, token = await opened(clock)
    start = clock.time
    while clock.time + IDLE - 1 < start + ABSOLUTE:
        clock.time += IDLE - 1
        found = await sessions.get(key_of(token))
        assert found is not None
        await sessions.touch(*found)
    assert clock.time > start + ABSOLUTE - IDLE
    clock.time = start + ABSOLUTE
    assert await sessions.get(key_of(token)) is None


async def test_use_is_written_at_most_once_a_minute() -> None:
    clock = HandClock()
    engine, sessions, token = await opened(clock)
    before = engine.sessions[key_of(token)]
    clock.time += TOUCH_EVERY - 1
    await sessions.touch(key_of(token), before)
    assert engine.sessions[key_of(token)] == before
    clock.time += 1
    await sessions.touch(key_of(token), before)
    assert engine.sessions[key_of(token)].expires_at == clock.time + IDLE


async def test_who_was_disabled_or_got_another_role_feels_it_with_the_next_request() -> None:
    engine, sessions, token = await opened(HandClock())
    engine.put_user("desk1", "clinician")
    found = await sessions.get(key_of(token))
    assert found is not None
    assert found[1].role == "clinician"
    engine.disable("desk1")
    assert await sessions.get(key_of(token)) is None
    assert engine.sessions == {}


@pytest.mark.parametrize(("secure", "start"), [(True, "__Host-tt-"), (False, "tt-")])
async def test_the_cookie_is_for_this_site_only_and_closed_to_scripts(secure: bool, start: str) -> None:
    async with house(secure=secure) as built:
        person = await built.person()
        await person.open("/sign-in")
        form = person.page.form("/sign-in")
        assert person.answer
        name = next(iter(person.answer.cookies))
        assert name.startswith(start)
        answer = await person.client.post(
            "/sign-in",
            data={**form.fields, "name": "desk1", "password": "four unrelated words"},
            headers={"Cookie": f"{name}={form.fields['csrf']}"},
            allow_redirects=False,
        )
        assert answer.status == 303
        cookie = answer.cookies[name.removesuffix("-form")]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert cookie["path"] == "/"
        assert cookie["domain"] == ""
        assert bool(cookie["secure"]) is secure
        assert not cookie["max-age"]


def test_two_sites_on_one_machine_have_cookies_of_their_own() -> None:
    clock = HandClock()
    one, other = (Sessions(FakeEngine(clock), clock, secure=False) for _ in range(2))
    assert one.cookie != other.cookie


def test_tokens_are_never_twice_the_same() -> None:
    assert len({new_token() for _ in range(100)}) == 100
