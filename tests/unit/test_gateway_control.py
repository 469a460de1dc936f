"""The control socket: reachable under any path, private, and never a traceback to the caller."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import structlog

from clients.gateway.control import ControlEngine
from clients.gateway.control_server import ControlServer
from clients.gateway.errors import AbsentError, BusyError, GatewayError
from clients.gateway.views import SessionView, StudyView
from tests.fake_engine import FakeEngine
from tests.gateway_kit import eventually
from tests.rooms_kit import Desk, a_desk, write_files


class Engine(FakeEngine):
    """One that fails as only a bug does."""

    async def study(self, study_id: str) -> StudyView:
        if study_id == "bug":
            raise ZeroDivisionError("DOE, JANE")
        raise AbsentError


@pytest.fixture(params=["short", "deep/" * 30 + "folder"])
async def client(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ControlEngine]:
    folder = tmp_path / request.param
    folder.mkdir(parents=True)
    server = ControlServer(Engine(), folder)
    await server.start()
    assert (folder / "control.sock").stat().st_mode & 0o777 == 0o600
    made = ControlEngine(folder)
    await made.open()
    yield made
    await made.close()
    await server.stop()


async def test_calls_go_through(client: ControlEngine) -> None:
    assert client.name
    assert await client.peers() == await FakeEngine().peers()


async def test_an_error_keeps_its_code_and_sentence(client: ControlEngine) -> None:
    with pytest.raises(GatewayError) as caught:
        await client.study("nothing")
    assert (caught.value.code, caught.value.sentence) == ("absent", AbsentError().sentence)


async def test_a_bug_is_a_sentence_for_the_caller_and_a_kind_in_the_log(client: ControlEngine) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(GatewayError) as caught:
        await client.study("bug")
    assert caught.value.code == "gateway"
    assert logs == [
        {"event": "a call failed", "method": "study", "kind": "ZeroDivisionError", "log_level": "error"}
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 50_000,
        b'{"method":"study","args":' + b"[" * 5_000,
        b'{"method":"\xff","args":[]}',
        b'{"method":"study"}',
        b'{"method":"study","args":[1,2,3]}',
    ],
)
async def test_what_is_no_call_is_answered_in_words(client: ControlEngine, body: bytes) -> None:
    assert client._session is not None
    with structlog.testing.capture_logs() as logs:
        async with client._session.post("http://gateway/", data=body) as answer:
            assert (answer.status, (await answer.json())["error"]) == (400, "header")
    assert logs == []


# Over the real engine


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[Desk, ControlEngine]]:
    """An engine, and itself through its socket."""
    async with a_desk(tmp_path) as desk:
        server = ControlServer(desk.engine, desk.folder)
        await server.start()
        made = ControlEngine(desk.folder)
        await made.open()
        yield desk, made
        await made.close()
        await server.stop()


async def test_every_answer_is_the_engine_s_own(both: tuple[Desk, ControlEngine], tmp_path: Path) -> None:
    desk, far = both
    near = desk.engine
    assert (far.name, far.site) == (near.name, near.site)
    write_files(tmp_path / "disc", 2)
    result = await far.import_path(str(tmp_path / "disc"), "os:jdoe")
    (study,) = result["studies"]
    await far.close_study(study, "os:jdoe")
    await desk.house.pins.renew()
    sent = await far.send(study, "Lakeside Trauma Center", "transfer", "os:jdoe")
    await far.record("os:jdoe", "study.view", study, "again")
    await far.user_add("jdoe", "clerk", "hash", "os:jdoe")
    assert (await far.reopen(sent.tid, "os:jdoe")).tid == sent.tid
    with pytest.raises(GatewayError, match="stop-request"):
        await far.stop_asked(sent.tid, "nobody", "", "os:jdoe")
    noted = await far.note(sent.tid, True, "Spanish", "", "os:jdoe")
    assert [(n.by, n.text) for n in noted.notes] == [("os:jdoe", "minor; interpreter: Spanish")]
    assert (await far.door(sent.tid, "qr", "", "os:jdoe")).door == "qr"
    assert (await far.cancel(sent.tid, "os:jdoe")).state == "REVOKED"
    looks: list[Callable[[Any], Awaitable[Any]]] = [
        lambda e: e.study(study), lambda e: e.studies("nobody"), lambda e: e.users(), lambda e: e.peers(),
        lambda e: e.transfer(sent.tid), lambda e: e.transfers("send", 5), lambda e: e.audit(), lambda e: e.checks(),
    ]  # fmt: skip
    for look in looks:

        async def the_same(look: Callable[[Any], Awaitable[Any]] = look) -> bool:
            return bool(await look(far) == await look(near))  # work goes on between the two

        await eventually(the_same)
    assert (await far.unpin_peer("Lakeside Trauma Center", "os:jdoe")).name == "Lakeside Trauma Center"
    await far.user_remove("jdoe", "os:jdoe")
    assert (await far.users())[0].disabled
    assert await far.peers() == []
    assert (await far.pin_peer(desk.house.card, "os:jdoe")).name == "Lakeside Trauma Center"
    with pytest.raises(GatewayError) as caught:
        await far.cancel(sent.tid, "os:jdoe")
    assert caught.value.code == "state"


async def post(folder: Path, body: bytes) -> tuple[int, dict[str, str]]:
    """What somebody hears who speaks to the socket by hand."""
    connector = aiohttp.UnixConnector(str(folder / "control.sock"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://x/", data=body) as answer,
    ):
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"method": "peers"}',
        b'{"method": "peers", "args": {}}',
        b'{"method": "peers", "args": [], "more": 1}',
        b'{"method": "peers", "args": [1, 2, 3]}',
        b'{"method": "study", "args": []}',
        b'{"method": 5, "args": []}',
        b"\xff",
    ],
)
async def test_a_call_that_cannot_be_read(both: tuple[Desk, ControlEngine], body: bytes) -> None:
    status, error = await post(both[0].folder, body)
    assert (status, error["error"]) == (400, "header")


@pytest.mark.parametrize(
    "method",
    ["", "nothing", "session_get", "session_put", "user_hash", "changes", "__init__", "_run", "name"],
)
async def test_only_what_commands_need_can_be_called(both: tuple[Desk, ControlEngine], method: str) -> None:
    """Password hashes and sessions never cross the socket; nor does anything that is no call of the engine."""
    status, error = await post(both[0].folder, msgspec.json.encode({"method": method, "args": []}))
    assert (status, error["error"]) == (409, "method")


@pytest.mark.parametrize("args", [[5], [None], [["x"]], ["x", "y"]])
async def test_arguments_of_another_kind_are_an_error_and_no_end(
    both: tuple[Desk, ControlEngine], args: list[object]
) -> None:
    status, error = await post(both[0].folder, msgspec.json.encode({"method": "studies", "args": args}))
    assert status in (400, 500)
    assert set(error) == {"error", "sentence"}
    assert await both[1].studies() == []


async def test_what_the_pages_keep_for_themselves(both: tuple[Desk, ControlEngine]) -> None:
    now = both[0].clock.at
    session = SessionView(user="x", role="clerk", csrf="c", started_at=now, expires_at=now + 9)
    far = both[1]
    for call in (
        far.user_hash("x"),
        far.session_get("x"),
        far.session_put("x", session),
        far.session_drop("x"),
    ):
        with pytest.raises(GatewayError) as caught:
            await call
        assert caught.value.code == "method"


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(BusyError):
        await ControlEngine(tmp_path).open()
    (tmp_path / "control.sock").write_text("no socket")
    with pytest.raises(BusyError):
        await ControlEngine(tmp_path).open()


async def test_a_dead_one_s_socket_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("left by a kill -9")
    server = ControlServer(FakeEngine(), tmp_path)
    await server.start()
    client = ControlEngine(tmp_path)
    await client.open()
    await server.stop()
    assert not (tmp_path / "control.sock").exists()
    with pytest.raises(BusyError):
        await client.peers()
    await client.close()


async def test_the_socket_s_rights_do_not_hang_on_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        server = ControlServer(FakeEngine(), tmp_path)
        await server.start()
        assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o600
        assert os.umask(0) == 0, "another thread's files are none of its business"
        await server.stop()
    finally:
        os.umask(mask)
