"""The control socket: reachable under any path, private, and never a traceback to the caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from clients.gateway.control import ControlEngine, ControlServer
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.views import StudyView
from tests.fake_engine import FakeEngine


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
