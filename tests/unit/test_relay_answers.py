"""What every answer carries, whatever was asked."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.log import make_log
from relay.sqlite import SqliteMeta
from tests.relay_client import Bench, relay_at


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/nothing", "/m", "/m/x/y/z/w", "/V1/queue", "//v1/queue", "/v1/queue/"]
)
async def test_what_does_not_exist(bench: Bench, path: str) -> None:
    answer = await bench.http.call("GET", path)
    assert (answer.status, answer.error) == (404, "absent")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/queue", "GET"), ("POST", "/healthz", "GET,HEAD"), ("HEAD", "/v1/queue", "GET"),
        ("TRACE", "/s", "GET,HEAD"),
        ("PUT", "/m/x", "DELETE"), ("PROPFIND", f"/v1/packs/{'a' * 32}", "DELETE,GET"), ("OPTIONS", "/v1/queue", "GET"),
    ],
)  # fmt: skip
async def test_unknown_methods(bench: Bench, method: str, path: str, allowed: str) -> None:
    answer = await bench.http.call(method, path)
    assert answer.status == 405
    assert answer.headers["Allow"] == allowed
    if method != "HEAD":
        assert answer.error == "method"


async def test_health(bench: Bench) -> None:
    answer = await bench.http.call("GET", "/healthz")
    assert answer.json == {"ok": True, "now": int(answer.headers["TT1-Time"])}
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Server" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize(
    ("origins", "told"),
    [
        (["https://relay.example.org"], True),
        (["https://relay.example.org", "http://127.0.0.1:1"], False),
        (["https://localhost"], False),  # it would bind every other program of this machine too
        (["https://localhost:8440"], False),
    ],
)
async def test_behind_https_browsers_are_told_to_stay_there(
    tmp_path: Path, origins: list[str], told: bool
) -> None:
    async with relay_at(tmp_path, origins=origins) as bench:
        assert ("Strict-Transport-Security" in (await bench.http.call("GET", "/healthz")).headers) is told


async def test_an_unforeseen_error_tells_nobody_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()

    async def broken(*_: Any) -> None:
        raise RuntimeError("secret 1.2.840.113619 DOE^JANE")

    async with relay_at(tmp_path, log=make_log(log)) as bench:
        site = bench.site()
        monkeypatch.setattr(SqliteMeta, "letters", broken)
        answer = await site.call("GET", "/v1/queue")
    assert (answer.status, answer.error) == (500, "relay")
    assert b"secret" not in answer.body
    assert "secret" not in log.getvalue()
    (line,) = [json.loads(x) for x in log.getvalue().splitlines()]
    assert line["event"] == "unforeseen"
    assert line["error"] == "RuntimeError"
    assert line["place"].startswith("queues.py:") or line["place"].startswith("notifier.py:")
