"""Mailboxes over HTTP: a site that signs, a phone that only knows names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import HeaderError
from relay.mailboxes import check_flat, read_hello
from tests.relay_client import TOMBSTONE, Bench, hello, relay_at
from transfer.errors import TransferError
from transfer.ids import SiteId

MB, RUN = "ab" * 16, "cd" * 16
M1, M2, M3 = b'{"v":1,"m":1}', b'{"v":1,"m":2}', b'{"v":1,"m":3}'


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path) as made:
        yield made


def slot(n: int, query: str = "", run: str = RUN, mb: str = MB) -> str:
    return f"/m/{mb}/{run}/{n}" + (f"?{query}" if query else "")


async def test_a_handshake_passes_through(bench: Bench) -> None:
    s, phone = bench.site(), bench.http
    m0 = hello(s.id, s.clock() + 100)
    assert (await phone.call("GET", f"/m/{MB}/0")).error == "absent"
    assert (await phone.call("POST", slot(1), M1)).error == "absent"
    assert (await s.call("PUT", f"/m/{MB}/0", m0)).json == {}
    found = await phone.call("GET", f"/m/{MB}/0")
    assert (found.status, found.body, found.headers["Content-Type"]) == (200, m0, "application/json")
    assert (await phone.call("POST", slot(1), M1)).json == {"i": 0}
    empty = await phone.call("GET", slot(2))
    assert (empty.status, empty.body) == (204, b"")
    waits = asyncio.create_task(phone.call("GET", slot(2, "wait=25")))
    assert (await s.call("PUT", slot(2), M2)).json == {"i": 0}
    assert (await waits).body == M2
    assert (await phone.call("POST", slot(3), M3)).json == {"i": 0}
    for i in range(3):
        assert (await s.call("PUT", slot(6), b'{"v":%d}' % i)).json == {"i": i}
    assert (await phone.call("GET", slot(6, "i=2&wait=25"))).body == b'{"v":2}'
    queue = (await s.call("GET", "/v1/queue?after=0&wait=0")).json["messages"]
    assert [(e["slot"], e["i"], e["run"], e["mb"]) for e in queue] == [(1, 0, RUN, MB), (3, 0, RUN, MB)]


async def test_a_repeated_message_is_the_same_and_another_does_not_fit(bench: Bench) -> None:
    s, phone = bench.site(), bench.http
    await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
    for _ in range(2):
        assert (await phone.call("POST", slot(1), M1)).json == {"i": 0}
        assert (await s.call("PUT", slot(2), M2)).json == {"i": 0}
    assert (await phone.call("POST", slot(1), M3)).error == "different"
    assert (await s.call("PUT", slot(2), M3)).error == "different"
    for i in range(8):
        assert (await phone.call("POST", slot(5), b'{"i":%d}' % i)).json == {"i": i}
    assert (await phone.call("POST", slot(5), M1)).status == 409
    assert (await phone.call("POST", slot(5), b'{"i":3}')).json == {"i": 3}
    assert len((await s.call("GET", "/v1/queue?after=0&wait=0")).json["messages"]) == 9


async def test_a_mailbox_is_its_first_writers(bench: Bench) -> None:
    s, x = bench.site(), bench.site()
    await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
    for method, path, body in (
        ("PUT", f"/m/{MB}/0", hello(x.id, x.clock() + 100)), ("PUT", f"/m/{MB}/0", TOMBSTONE), ("PUT", slot(2), M2),
        ("DELETE", f"/m/{MB}", b""),
    ):  # fmt: skip
        answer = await x.call(method, path, body)
        assert (answer.status, answer.error) == (403, "not-yours")
    assert (await bench.http.call("PUT", f"/m/{MB}/0", M1)).error == "unknown-site"


async def test_the_tombstone_sends_late_phones_home(bench: Bench) -> None:
    s, phone = bench.site(), bench.http
    await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
    await s.call("PUT", f"/m/{MB}/0", TOMBSTONE)
    assert (await phone.call("GET", f"/m/{MB}/0")).body == TOMBSTONE
    late = await phone.call("POST", slot(1), M1)
    assert (late.status, late.error) == (410, "gone")
    assert (await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))).error == "gone"


async def test_a_deleted_mailbox_is_gone(bench: Bench) -> None:
    s, phone = bench.site(), bench.http
    await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
    await phone.call("POST", slot(1), M1)
    assert (await s.call("DELETE", f"/m/{MB}")).json == {}
    for path in (f"/m/{MB}/0", slot(2, "wait=25")):
        assert (await phone.call("GET", path)).error == "gone"
    assert (await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))).error == "gone"
    assert (await s.call("GET", "/v1/queue?after=0&wait=0")).json == {"messages": []}


async def test_an_end_wakes_phones_that_wait(bench: Bench) -> None:
    s, phone = bench.site(), bench.http
    await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
    waits = asyncio.create_task(phone.call("GET", slot(6, "wait=25")))
    assert (await phone.call("GET", slot(6))).status == 204
    await s.call("DELETE", f"/m/{MB}")
    assert (await waits).error == "gone"


async def test_it_dies_a_week_after_its_tombstone_and_eight_days_after_its_exp(tmp_path: Path) -> None:
    now = [1_795_000_000]
    async with relay_at(tmp_path, clock=lambda: now[0]) as bench:
        s = bench.site()
        s.clock = lambda: now[0]
        other = "ef" * 16
        await s.call("PUT", f"/m/{MB}/0", hello(s.id, now[0] + 3600))
        await s.call("PUT", f"/m/{MB}/0", TOMBSTONE)
        await s.call("PUT", f"/m/{other}/0", hello(s.id, now[0] + 3600))
        now[0] += 7 * 86_400
        await bench.sweep()
        assert (await bench.http.call("GET", f"/m/{MB}/0")).error == "gone"
        now[0] += 86_400 + 3599
        await bench.sweep()
        assert (await bench.http.call("GET", f"/m/{other}/0")).status == 200
        now[0] += 1
        await bench.sweep()
        assert (await bench.http.call("GET", f"/m/{other}/0")).error == "gone"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/m/x/0"), ("GET", f"/m/{MB.upper()}/0"), ("GET", f"/m/{MB}/0?x=1"), ("GET", "/m/12345678/0"),
        ("GET", f"/m/{MB}/{RUN}/1"), ("GET", f"/m/{MB}/{RUN}/0"), ("GET", f"/m/{MB}/{RUN}/8"),
        ("GET", f"/m/{MB}/{RUN}/2?i=32"),
        ("GET", f"/m/{MB}/{RUN}/2?wait=26"), ("GET", f"/m/{MB}/x/2"), ("POST", f"/m/{MB}/{RUN}/2"),
        ("POST", f"/m/{MB}/{RUN}/7"),
        ("POST", f"/m/{MB}/{RUN}/01"), ("POST", f"/m/{MB}/..%2f/1"), ("POST", f"/m/%2e%2e/{RUN}/1"),
        ("POST", f"/m/{MB}/{RUN}/1?i=0"),
        ("GET", "/m/1234567%20/0"), ("GET", "/m/%D9%A1%D9%A2%D9%A3%D9%A4%D9%A5%D9%A6%D9%A7/0"),
    ],
)  # fmt: skip
async def test_paths_of_the_wrong_form(bench: Bench, method: str, path: str) -> None:
    answer = await bench.http.call(method, path, M1 if method == "POST" else None)
    assert (answer.status, answer.error) == (400, "header")


async def test_a_nameplate_is_seven_digits(bench: Bench) -> None:
    s = bench.site()
    await s.call("PUT", "/m/0123456/0", hello(s.id, s.clock() + 100))
    assert (await bench.http.call("POST", slot(1, mb="0123456"), M1)).json == {"i": 0}


async def test_bodies_are_one_flat_object_of_16_kib(bench: Bench) -> None:
    s = bench.site()
    await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
    for body in (
        b"",
        b"1",
        b"[]",
        b"{",
        b'{"a":{}}',
        b'{"a":[1]}',
        b'{"a":1.5}',
        b'{"a":"\xff"}',
        b'{"a":1}x',
        b"\xef\xbb\xbf{}",
    ):
        answer = await bench.http.call("POST", slot(1), body)
        assert (answer.status, answer.error) == (400, "header"), body
    largest = b'{"a":"' + b"x" * (16_384 - 8) + b'"}'
    assert (await bench.http.call("POST", slot(1), largest)).status == 200
    answer = await bench.http.call("POST", slot(5), largest + b" ")
    assert (answer.status, answer.error) == (413, "size")


async def test_m0_names_its_site_and_ends_soon(bench: Bench) -> None:
    s, x = bench.site(), bench.site()
    path = f"/m/{MB}/0"
    for body, code in (
        (hello(x.id, s.clock() + 100), "not-for-me"), (hello(s.id, s.clock() + 3 * 86_400), "header"),
        (b"{}", "header"),
        (b'{"v":1,"ended":"x","s":"y"}', "header"), (b'{"v":2,"ended":"x"}', "version"),
        (b'{"v":1,"ended":1}', "header"),
    ):  # fmt: skip
        assert (await s.call("PUT", path, body)).error == code
    assert (await bench.http.call("GET", path)).error == "absent"


async def test_any_page_may_ask_without_credentials(bench: Bench) -> None:
    for path in (f"/m/{MB}/0", slot(1)):
        asked = await bench.http.call("OPTIONS", path, headers={"Origin": "https://hospital.example"})
        assert asked.status == 204
        assert asked.headers["Access-Control-Allow-Origin"] == "*"
        assert asked.headers["Access-Control-Allow-Headers"] == "content-type"
        assert "GET" in asked.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in asked.headers
    refused = await bench.http.call("GET", f"/m/{MB}/0")
    assert refused.headers["Access-Control-Allow-Origin"] == "*"
    assert "TT1-Time" in refused.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in (await bench.http.call("GET", "/healthz")).headers


@pytest.mark.parametrize("kind", ["address", "mailbox"])
async def test_phones_have_rates(tmp_path: Path, kind: str) -> None:
    async with relay_at(tmp_path, rates={kind: {"per_second": 0.001, "burst": 2}}) as bench:
        seen = [await bench.http.call("GET", f"/m/{MB}/0") for _ in range(3)]
        assert [a.status for a in seen] == [404, 404, 429]
        other = await bench.http.call("GET", f"/m/{'ef' * 16}/0")
        assert other.status == (429 if kind == "address" else 404)
        assert (await bench.site().call("GET", "/v1/queue")).status == 200


@given(
    st.binary(max_size=200) | st.text(alphabet='{}[]":,0123456789eE.-+tfn\\u"a ', max_size=60).map(str.encode)
)
def test_whatever_is_let_in_can_be_passed_on(body: bytes) -> None:
    """A queue's answer holds phones' bodies as they came: each must be readable wherever it stands."""
    try:
        check_flat(body)
    except HeaderError:
        return
    assert isinstance(json.loads(b'{"messages":[{"body":' + body + b"}]}")["messages"][0]["body"], dict)


@given(st.binary(max_size=300))
def test_m0_is_read_or_refused_by_name(body: bytes) -> None:
    try:
        read_hello(body, SiteId(bytes(32)), 1000)
    except (HeaderError, TransferError):
        pass
