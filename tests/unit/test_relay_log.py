"""The log says what happened and nothing about anybody."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from relay.config import split_listen
from relay.log import make_log, place_of
from tests.relay_client import hello, pack_bytes, relay_at


async def test_access_lines_have_no_address_no_path_no_id(tmp_path: Path) -> None:
    log, mb, cid = io.StringIO(), "ab" * 16, "cd" * 16
    async with relay_at(tmp_path, access_log=True, log=make_log(log)) as bench:
        s = bench.site()
        await s.call("PUT", f"/m/{mb}/0", hello(s.id, s.clock() + 100))
        await bench.http.call("POST", f"/m/{mb}/{cid}/1", b'{"v":1}')
        await s.call("PUT", f"/v1/packs/{cid}/77777?kind=D", pack_bytes())
        await s.call("POST", f"/v1/sites/{s.id.hex()}/queue", s.ack())
        await bench.http.call("GET", "/secret/path?with=query")
        await bench.http.call("PROPFIND", "/healthz")
    lines = [json.loads(x) for x in log.getvalue().splitlines()]
    assert [(x["method"], x["route"], x["status"]) for x in lines] == [
        ("PUT", "/m/{mb}/0", 200),
        ("POST", "/m/{mb}/{run}/{slot}", 200),
        ("PUT", "/v1/packs/{cid}/{n}", 201),
        ("POST", "/v1/sites/{site}/queue", 200),
        ("GET", "none", 404),
        ("other", "none", 405),
    ]
    assert all(
        set(x) == {"event", "level", "timestamp", "method", "route", "status", "bytes", "ms"} for x in lines
    )
    text = log.getvalue()
    for secret in (mb, cid, "77777", s.id.hex(), s.id.text, "127.0.0.1", "secret", "with=query"):
        assert secret not in text


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    log = io.StringIO()
    async with relay_at(tmp_path, access_log=False, log=make_log(log)) as bench:
        await bench.http.call("GET", "/healthz")
    assert log.getvalue() == ""


async def test_bytes_that_are_no_http_leave_no_trace(tmp_path: Path) -> None:
    log = io.StringIO()
    async with relay_at(tmp_path, access_log=True, log=make_log(log)) as bench:
        answer = await bench.raw(b"\x16\x03\x01 secret nonsense\r\n\r\n")
        assert answer.split()[1] == b"400"
    assert "secret" not in log.getvalue()
    assert "127.0.0.1" not in log.getvalue()


def test_the_place_is_in_our_code() -> None:
    with pytest.raises(AttributeError) as why:
        split_listen(None)  # type: ignore[arg-type]
    assert place_of(why.value).startswith("config.py:")
    assert place_of(RuntimeError()) == ""
