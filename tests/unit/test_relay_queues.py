"""Queues over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.relay_client import Bench, Site, hello, relay_at
from transfer.encoding import b64
from transfer.jws import sign


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path) as made:
        yield made


def queue_of(site: Site) -> str:
    return f"/v1/sites/{site.id.hex()}/queue"


async def test_a_letter_goes_from_site_to_site(bench: Bench) -> None:
    s, r = bench.site(), bench.site()
    letters = [s.ack() for _ in range(3)]
    seqs = [(await s.call("POST", queue_of(r), x)).json["seq"] for x in letters]
    assert (await s.call("POST", queue_of(r), letters[0])).json["seq"] == seqs[0]
    got = (await r.call("GET", f"/v1/queue?after={seqs[0]}&wait=25")).json["messages"]
    assert [m["seq"] for m in got] == seqs[1:]
    assert [m["body"] for m in got] == [x.decode() for x in letters[1:]]
    assert set(got[0]) == {"seq", "at", "from", "body"}
    assert got[0]["from"] == b64(s.id)
    acked = await r.call("POST", "/v1/queue/ack", msgspec.json.encode({"seqs": [*seqs, 1]}))
    assert (acked.status, acked.json) == (200, {})
    assert (await r.call("GET", "/v1/queue?after=0&wait=0")).json == {"messages": []}
    assert (await s.call("GET", "/v1/queue?after=0&wait=0")).json == {"messages": []}


async def test_a_page_of_64_then_the_rest(bench: Bench) -> None:
    s, r = bench.site(), bench.site()
    await asyncio.gather(*(s.call("POST", queue_of(r), s.ack()) for _ in range(70)))
    first = (await r.call("GET", "/v1/queue?after=0&wait=0")).json["messages"]
    rest = (await r.call("GET", f"/v1/queue?after={first[-1]['seq']}&wait=0")).json["messages"]
    assert (len(first), len(rest)) == (64, 6)


async def test_who_waits_is_woken_by_a_letter(bench: Bench) -> None:
    s, r = bench.site(), bench.site()
    waits = asyncio.create_task(r.call("GET", "/v1/queue?after=0&wait=25"))
    letter = s.ack()
    await s.call("POST", queue_of(r), letter)
    assert [m["body"] for m in (await waits).json["messages"]] == [letter.decode()]


async def test_what_a_phone_says_comes_the_same_way(bench: Bench) -> None:
    s, mb, run = bench.site(), "ab" * 16, "cd" * 16
    await s.call("PUT", f"/m/{mb}/0", hello(s.id, s.clock() + 100))
    body = b'{ "v":1, "nP":"\xc3\xa9" }'
    await bench.http.call("POST", f"/m/{mb}/{run}/1", body)
    (entry,) = (await s.call("GET", "/v1/queue?after=0&wait=25")).json["messages"]
    assert entry.pop("seq") > 0
    assert abs(entry.pop("at") - s.clock()) < 60
    assert entry == {"mb": mb, "run": run, "slot": 1, "i": 0, "body": {"v": 1, "nP": "é"}}


async def test_letters_of_the_wrong_kind_or_size(bench: Bench) -> None:
    s, r = bench.site(), bench.site()
    key = s.identity.key
    for body, code in (
        (b"", "header"), (b"x", "header"), (b"\xff", "header"), (sign("grant", b"{}", key).encode(), "header"),
        (sign("request", b"{}", key).encode(), "header"), (sign("nonsense", b"{}", key).encode(), "header"),
        (bytes(65_537), "size"),
    ):  # fmt: skip
        assert (await s.call("POST", queue_of(r), body)).error == code
    assert (await r.call("GET", "/v1/queue?after=0&wait=0")).json == {"messages": []}
    assert (await s.call("POST", queue_of(bench.stranger()), s.ack())).error == "absent"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"seqs":1}', b'{"seqs":[-1]}', b'{"seqs":["1"]}', b'{"seqs":[9007199254740992]}', b'{"seqs":[1.5]}',
     b'{"seqs":[],"x":1}', b'{"seqs":[' + b"1," * 256 + b"1]}", b"[" * 8000, b"\xff"],
)  # fmt: skip
async def test_acks_of_the_wrong_form(bench: Bench, body: bytes) -> None:
    assert (await bench.site().call("POST", "/v1/queue/ack", body)).error == "header"


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=01", "after=1e3", "after=9007199254740992", "wait=26", "wait=", "other=1",
     "after=1&after=2", "after=%31%20", "after=" + "9" * 5000],
)  # fmt: skip
async def test_queries_of_the_wrong_form(bench: Bench, query: str) -> None:
    answer = await bench.site().call("GET", f"/v1/queue?{query[:200]}")
    assert answer.error == "header"


async def test_the_quota_of_a_pair(tmp_path: Path) -> None:
    async with relay_at(tmp_path, quota={"pair_letters": 2}) as bench:
        s, r = bench.site(), bench.site()
        for _ in range(2):
            assert (await s.call("POST", queue_of(r), s.ack())).status == 200
        answer = await s.call("POST", queue_of(r), s.ack())
        assert (answer.status, answer.error) == (507, "quota")
        assert (await r.call("POST", queue_of(r), r.ack())).status == 200
