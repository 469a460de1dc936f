"""Signed requests, against a relay that runs: what is not exactly right is refused by name, in a fixed order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict
from nacl.signing import SigningKey

from relay.enroll import dismiss, enroll
from relay.sites import TRUST, Carrier
from relay.sqlite import SqliteMeta
from tests.relay_client import Bench, relay_at
from transfer.encoding import b64, unb64
from transfer.jws import header, sign
from transfer.requests import HEADER

PATH = "/v1/queue?after=0&wait=0"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path) as made:
        yield made


async def test_a_request_that_is_right_is_taken(bench: Bench) -> None:
    answer = await bench.site().call("GET", PATH)
    assert answer.status == 200
    assert abs(int(answer.headers["TT1-Time"]) - time.time()) < 60


async def test_no_header_and_two_headers(bench: Bench) -> None:
    site = bench.site()
    bare = await bench.http.call("GET", PATH)
    assert (bare.status, bare.error) == (401, "unknown-site")
    two = CIMultiDict([(HEADER, site.sign("GET", PATH)), (HEADER, site.sign("GET", PATH))])
    doubled = await bench.http.call("GET", PATH, headers=two)
    assert (doubled.status, doubled.error) == (401, "unknown-site")


async def test_a_site_that_is_not_enrolled(bench: Bench) -> None:
    answer = await bench.stranger().call("GET", PATH)
    assert (answer.status, answer.error) == (401, "unknown-site")


async def test_a_site_is_known_from_the_moment_it_is_enrolled(bench: Bench) -> None:
    site = bench.stranger()
    assert (await site.call("GET", PATH)).status == 401
    enroll(bench.data, site.card())
    assert (await site.call("GET", PATH)).status == 200


async def test_a_site_that_was_dismissed_is_known_for_seconds_only(tmp_path: Path) -> None:
    now = int(time.time())
    async with relay_at(tmp_path, clock=lambda: now) as bench:
        site = bench.site()
        assert (await site.call("GET", PATH)).status == 200
        dismiss(bench.data, site.id.text)
        now += TRUST + 1
        answer = await site.call("GET", PATH)
        assert (answer.status, answer.error) == (401, "unknown-site")


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"aud": "https://other.example"}, 400, "not-for-me"),
        ({"aud": ""}, 400, "not-for-me"),
        ({"method": "DELETE"}, 400, "not-for-me"),
        ({"path": "/v1/queue?after=1&wait=0"}, 400, "not-for-me"),
        ({"path": "/v1/queue"}, 400, "not-for-me"),
        ({"path": "/v1/queue?wait=0&after=0"}, 400, "not-for-me"),
        ({"ago": 1000}, 412, "clock"),
        ({"ago": -1000}, 412, "clock"),
        ({"body": b"other"}, 400, "hash"),
    ],
)
async def test_each_part_of_the_signature_counts(
    bench: Bench, wrong: dict[str, Any], status: int, code: str
) -> None:
    if "ago" in wrong:  # from now, and not from when the tests were collected
        wrong = {"now": int(time.time()) - wrong["ago"]}
    answer = await bench.site().call("GET", PATH, wrong=wrong)
    assert (answer.status, answer.error) == (status, code)


async def test_the_clock_may_differ_by_fifteen_minutes(bench: Bench) -> None:
    site = bench.site()
    for skew in (-880, 880):
        assert (await site.call("GET", PATH, wrong={"now": int(time.time()) + skew})).status == 200


async def test_another_key_in_the_sites_name(bench: Bench) -> None:
    site, thief = bench.site(), SigningKey(os.urandom(32))
    good = site.sign("GET", PATH)
    stolen = sign("request", _payload(good), thief)
    answer = await bench.http.call("GET", PATH, headers={HEADER: stolen})
    assert (answer.status, answer.error) == (400, "signature")


def _payload(compact: str) -> bytes:
    return unb64(compact.split(".")[1])


async def test_a_body_that_was_changed_on_the_way(bench: Bench) -> None:
    site = bench.site()
    letter = site.ack()
    path = f"/v1/sites/{site.id.hex()}/queue"
    answer = await bench.http.call("POST", path, letter + b"x", {HEADER: site.sign("POST", path, letter)})
    assert (answer.status, answer.error) == (400, "hash")
    assert (await site.call("GET", PATH)).json == {"messages": []}


async def test_a_request_is_taken_once(bench: Bench) -> None:
    site = bench.site()
    signed = {HEADER: site.sign("GET", PATH)}
    answers = await asyncio.gather(*(bench.http.call("GET", PATH, headers=signed) for _ in range(5)))
    assert sorted(a.status for a in answers) == [200, 409, 409, 409, 409]
    assert {a.error for a in answers if a.status == 409} == {"replayed"}


async def test_a_request_that_was_refused_may_still_come_whole(bench: Bench) -> None:
    """A body cut off on the way must not use up the `jti`: that is checked last."""
    site = bench.site()
    letter = site.ack()
    path = f"/v1/sites/{site.id.hex()}/queue"
    signed = {HEADER: site.sign("POST", path, letter)}
    assert (await bench.http.call("POST", path, letter[:-1], signed)).status == 400
    assert (await bench.http.call("POST", path, letter, signed)).status == 200


@pytest.mark.parametrize(
    "value",
    [
        "", "x", "a.b.c", "...", "x" * 5000, b64(b'{"alg":"none","typ":"tt1-request"}') + ".e30.",
        header("request"), header("request") + ".e30.", header("request") + ".e30=." + b64(bytes(64)),
        header("offer") + ".e30." + b64(bytes(64)), header("request") + "." + b64(b"{}") + "." + b64(bytes(64)),
        header("request") + "." + b64(b"[" * 500) + "." + b64(bytes(64)),
    ],
)  # fmt: skip
async def test_headers_of_any_form(bench: Bench, value: str) -> None:
    answer = await bench.http.call("GET", PATH, headers={HEADER: value})
    assert answer.status in (400, 401, 413)
    assert answer.error in ("header", "unknown-site", "size", "version")


async def test_a_site_has_a_rate(tmp_path: Path) -> None:
    rates = {"site": {"per_second": 0.001, "burst": 3}}
    async with relay_at(tmp_path, rates=rates) as bench:
        site, other = bench.site(), bench.site()
        for _ in range(3):
            assert (await site.call("GET", PATH)).status == 200
        answer = await site.call("GET", PATH)
        assert (answer.status, answer.error) == (429, "rate")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await other.call("GET", PATH)).status == 200


async def test_strangers_have_a_rate_and_cost_known_sites_nothing(tmp_path: Path) -> None:
    rates = {"stranger": {"per_second": 0.001, "burst": 3}}
    async with relay_at(tmp_path, rates=rates) as bench:
        known, stranger = bench.site(), bench.stranger()
        assert (await known.call("GET", PATH)).status == 200
        seen = [(await stranger.call("GET", PATH)).status for _ in range(5)]
        assert seen == [401, 401, 401, 429, 429]
        assert (await known.call("GET", PATH)).status == 200


async def test_several_origins(tmp_path: Path) -> None:
    origins = ["https://relay.example.org", "http://127.0.0.1:1"]
    async with relay_at(tmp_path, origins=origins) as bench:
        site = bench.site()
        for origin in origins:
            assert (await site.call("GET", PATH, wrong={"aud": origin})).status == 200
        assert (await site.call("GET", PATH, wrong={"aud": bench.running.url})).error == "not-for-me"


async def test_what_was_begun_is_carried_through() -> None:
    carrier, begun, go, done = Carrier(), asyncio.Event(), asyncio.Event(), []

    async def handler(_: object) -> None:
        begun.set()
        await go.wait()
        done.append(1)
        raise RuntimeError

    client = asyncio.ensure_future(carrier.through(handler)(None))  # type: ignore[arg-type]
    await begun.wait()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    go.set()
    await carrier.close(30)
    assert done == [1]


async def test_a_letter_is_kept_and_wakes_its_owner_though_its_sender_hangs_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, owner = bench.site(), bench.site()
    begun, go, real = asyncio.Event(), asyncio.Event(), SqliteMeta.post

    async def late(*args: Any) -> int:
        begun.set()
        await go.wait()
        return await real(*args)

    monkeypatch.setattr(SqliteMeta, "post", late)
    waits = asyncio.create_task(owner.call("GET", "/v1/queue?after=0&wait=25"))
    letter = sender.ack()
    posts = asyncio.create_task(sender.call("POST", f"/v1/sites/{owner.id.hex()}/queue", letter))
    await begun.wait()
    posts.cancel()
    with pytest.raises(asyncio.CancelledError):
        await posts
    assert (await bench.http.call("GET", "/healthz")).status == 200  # the relay has seen the hang-up too
    go.set()
    answer = await waits
    assert [m["body"] for m in answer.json["messages"]] == [letter.decode()]


async def test_what_does_not_end_is_given_up_after_a_grace() -> None:
    carrier, begun, ended = Carrier(), asyncio.Event(), []

    async def handler(_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    client = asyncio.ensure_future(carrier.through(handler)(None))  # type: ignore[arg-type]
    await begun.wait()
    await carrier.close(0.01)
    assert ended == [1]
    with pytest.raises(asyncio.CancelledError):
        await client
