from __future__ import annotations

import asyncio

import pytest

from clients.gateway.console import live
from clients.gateway.console.sessions import IDLE
from clients.gateway.console.visit import CONSOLE
from tests.console_kit import House, Person, house


async def event(answer: object, wanted: str) -> None:
    """Reads the stream until the event `wanted`."""
    while True:
        line = await answer.content.readline()  # type: ignore[attr-defined]
        assert line, f"the stream ended before '{wanted}'"
        if line == f"event: {wanted}\n".encode():
            return


def pulse(built: House) -> live.Pulse:
    return built.server.app[CONSOLE].pulse


async def test_a_change_in_the_engine_wakes_every_open_page() -> None:
    async with house() as built:
        people = [await built.person("desk1"), await built.person("dr-lee")]
        streams = [await p.client.get("/live") for p in people]
        for stream in streams:
            assert stream.status == 200
            assert stream.headers["Content-Type"] == "text/event-stream"
            assert stream.headers["Cache-Control"] == "no-store"
        built.engine.signal.set()
        for stream in streams:
            await event(stream, "change")
        assert built.engine.watchers == 1, "one follower of the engine for all pages"
        for stream in streams:
            stream.close()
    assert built.engine.watchers == 0


async def test_without_a_change_a_page_still_hears_a_tick() -> None:
    async with house() as built:
        pulse(built)._tick = 0.05
        person = await built.person("desk1")
        stream = await person.client.get("/live")
        await event(stream, "tick")
        stream.close()


async def test_the_stream_ends_with_the_session() -> None:
    async with house() as built:
        person = await built.person("desk1")
        stream = await person.client.get("/live")
        built.clock.time += IDLE
        built.engine.signal.set()
        await event(stream, "end")
        assert await stream.content.read() in (b"data: 1\n\n", b"")


async def open_streams(person: Person, count: int) -> list[object]:
    return [await person.client.get("/live") for _ in range(count)]


async def test_streams_are_bounded_for_each_session_and_given_back() -> None:
    async with house() as built:
        person, other = await built.person("desk1"), await built.person("admin")
        streams = await open_streams(person, live.MOST_OF_SESSION)
        refused = await person.client.get("/live")
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "30"
        assert "Too many pages" in await refused.text()
        (one,) = await open_streams(other, 1)
        one.close()  # type: ignore[attr-defined]
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]
        async with asyncio.timeout(30):
            while pulse(built)._streams:
                built.engine.signal.set()
                await asyncio.sleep(0.01)
        (again,) = await open_streams(person, 1)
        assert again.status == 200  # type: ignore[attr-defined]
        again.close()  # type: ignore[attr-defined]


async def test_streams_are_bounded_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST", 2)
    async with house() as built:
        streams = []
        for user in ("desk1", "admin"):
            streams += await open_streams(await built.person(user), 1)
        refused = await (await built.person("privacy")).client.get("/live")
        assert refused.status == 503
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]


async def test_an_engine_that_fails_for_a_moment_is_followed_again() -> None:
    async with house() as built:
        failed = asyncio.Event()
        follow = built.engine.changes

        async def once_broken():  # type: ignore[no-untyped-def]
            built.engine.changes = follow  # type: ignore[method-assign]
            failed.set()
            raise OSError("the control socket went away")
            yield

        built.engine.changes = once_broken  # type: ignore[method-assign]
        person = await built.person("desk1")
        stream = await person.client.get("/live")
        console = pulse(built)
        await console.stop()
        console._ended = False
        built.engine.watched.clear()
        await console.start()
        await failed.wait()
        other = await person.client.get("/live")
        await built.engine.watched.wait()
        built.engine.signal.set()
        await event(other, "change")
        stream.close()
        other.close()
