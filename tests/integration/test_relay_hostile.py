"""Bytes from strangers, over real connections: each gets a named answer or a closed connection, and the relay goes
on serving others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.relay_client import Bench, Site, pack_bytes, relay_at
from transfer.requests import HEADER

CID = "ab" * 16
PUT = f"/v1/packs/{CID}/0?kind=D"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path) as made:
        yield made
        site = made.site()
        assert (await site.call("GET", "/v1/queue?after=0&wait=0")).status == 200
        assert (await site.call("GET", f"/v1/packs/{CID}")).error == "absent"
        assert [p for p in (made.data / "packs").rglob("*") if p.is_file()] == []


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, "Host: x", "Connection: close", *headers, "", ""]).encode("latin-1") + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 1000 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: x\r\n folded: header\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: x\r\nName: a\x00b\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /s HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % i for i in range(5000)) + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http(bench: Bench, data: bytes) -> None:
    answer = await bench.raw(data)
    assert answer == b"" or status(answer) in (400, 404, 405, 414, 431)
    assert b"Traceback" not in answer
    assert b".py" not in answer


@pytest.mark.parametrize(
    "line", ["GET //s HTTP/1.1", "GET http://evil.example/s HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1"]
)
async def test_request_targets_of_other_forms(bench: Bench, line: str) -> None:
    answer = await bench.raw(request(line))
    assert status(answer) in (200, 400, 404, 405)


async def test_a_signed_request_counts_for_its_own_target_only(bench: Bench) -> None:
    """The absolute form (RFC 9112 3.2.2) is another `path` than the one that was signed."""
    site = bench.site()
    signed = f"{HEADER}: {site.sign('GET', '/v1/queue')}"
    assert status(await bench.raw(request("GET /v1/queue HTTP/1.1", signed))) == 200
    signed = f"{HEADER}: {site.sign('GET', '/v1/queue')}"
    assert status(await bench.raw(request("GET http://x/v1/queue HTTP/1.1", signed))) == 400
    signed = f"{HEADER}: {site.sign('GET', '/v1/queue')}"
    assert status(await bench.raw(request("GET /v1/%71ueue HTTP/1.1", signed))) == 400


async def test_the_method_is_not_taken_from_a_header(bench: Bench) -> None:
    site = bench.site()
    signed = f"{HEADER}: {site.sign('DELETE', f'/v1/packs/{CID}')}"
    answer = await bench.raw(
        request(f"POST /v1/packs/{CID} HTTP/1.1", signed, "X-HTTP-Method-Override: DELETE")
    )
    assert status(answer) == 405


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_oversize_body_is_refused_before_it_is_there(bench: Bench, chunked: bool) -> None:
    site = bench.site()
    signed = f"{HEADER}: {site.sign('PUT', PUT, b'x')}"
    size = 2**22 + 41
    if chunked:
        body = b"%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n"
        answer = await bench.raw(
            request(f"PUT {PUT} HTTP/1.1", signed, "Transfer-Encoding: chunked", body=body)
        )
    else:
        answer = await bench.raw(
            request(f"PUT {PUT} HTTP/1.1", signed, f"Content-Length: {2**40}", body=b"x")
        )
    assert status(answer) == 413
    assert b'"size"' in answer


async def test_an_unsigned_body_is_not_even_read(bench: Bench) -> None:
    answer = await bench.raw(request(f"PUT {PUT} HTTP/1.1", f"Content-Length: {2**22}"))
    assert status(answer) == 401


async def test_a_call_without_a_body_takes_none(bench: Bench) -> None:
    site = bench.site()
    answer = await site.call("GET", "/v1/queue", b"x")
    assert (answer.status, answer.error) == (413, "size")


async def test_a_tampered_body_of_the_right_size(bench: Bench) -> None:
    site, body = bench.site(), pack_bytes()
    changed = bytes([body[0] ^ 1]) + body[1:]
    answer = await bench.http.call("PUT", PUT, changed, {HEADER: site.sign("PUT", PUT, body)})
    assert (answer.status, answer.error) == (400, "hash")


async def test_a_body_cut_off_leaves_nothing(bench: Bench) -> None:
    site, body = bench.site(), pack_bytes()
    signed = f"{HEADER}: {site.sign('PUT', PUT, body)}"
    _, writer = await asyncio.open_connection("127.0.0.1", int(bench.running.url.rsplit(":", 1)[1]))
    writer.write(request(f"PUT {PUT} HTTP/1.1", signed, f"Content-Length: {len(body)}", body=body[:-1]))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_expectations(bench: Bench) -> None:
    site = bench.site()
    letter = site.ack()
    path = f"/v1/sites/{site.id.hex()}/queue"
    for expect, first in (("100-continue", b"HTTP/1.1 100 Continue\r\n\r\n"), ("the-impossible", b"")):
        signed = f"{HEADER}: {site.sign('POST', path, letter)}"
        length = f"Content-Length: {len(letter)}"
        answer = await bench.raw(
            request(f"POST {path} HTTP/1.1", signed, length, f"Expect: {expect}", body=letter)
        )
        assert answer.startswith(first)
        assert status(answer.removeprefix(first)) == 200


async def test_a_pipeline_of_good_and_bad(bench: Bench) -> None:
    site = bench.site()
    good = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    signed = f"{HEADER}: {site.sign('GET', '/v1/queue')}"
    answer = await bench.raw(
        good * 3 + b"GET /v1/queue HTTP/1.1\r\nHost: x\r\n\r\n" + request("GET /v1/queue HTTP/1.1", signed)
    )
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 200, 200, 401, 200]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sites/{x}/queue", "/v1/sites/{x}/prekeys", "/v1/prekeys/{x}", "/v1/packs/{x}", "/v1/packs/{x}/0?kind=D",
        f"/v1/packs/{CID}/{{x}}?kind=D", "/v1/packs/{x}/readers", "/m/{x}", "/m/{x}/0", f"/m/{{x}}/{CID}/2",
        f"/m/{CID}/{{x}}/2",
        f"/m/{CID}/{CID}/{{x}}", "/a/{x}",
    ],
)  # fmt: skip
async def test_no_path_leads_out(bench: Bench, path: str) -> None:
    site = bench.site()
    for x in (
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "..",
        "%00",
        "%2fetc%2fpasswd",
        "c:%5cx",
        "a" * 5000,
        "%ff",
        "\u00e9",
    ):
        for method in ("GET", "PUT", "POST", "DELETE"):
            target = path.replace("{x}", x).encode().decode("latin-1")
            signed = f"{HEADER}: {site.sign(method, target[:300])}"
            answer = await bench.raw(request(f"{method} {target} HTTP/1.1", signed))
            assert status(answer) in (400, 404, 405), (method, x)
            assert b"root:" not in answer
    assert sorted(p.name for p in bench.data.iterdir()) == [
        "lock",
        "packs",
        "relay.db",
        "relay.db-shm",
        "relay.db-wal",
    ]


async def test_a_stranger_cannot_write_or_read_anything(bench: Bench) -> None:
    stranger: Site = bench.stranger()
    for method, path, body in (
        ("PUT", PUT, pack_bytes()), ("GET", f"/v1/packs/{CID}/0", b""), ("GET", "/v1/queue", b""),
        ("PUT", f"/m/{CID}/0", b"{}"),
        ("POST", f"/v1/sites/{stranger.id.hex()}/queue", stranger.ack()), ("DELETE", f"/v1/packs/{CID}", b""),
    ):  # fmt: skip
        answer = await stranger.call(method, path, body)
        assert (answer.status, answer.error) == (401, "unknown-site")


async def test_many_callers_who_wait_and_hang_up_leave_nothing(tmp_path: Path) -> None:
    async with relay_at(tmp_path, bounds={"connections": 80}) as bench:
        site = bench.site()
        for _ in range(3):
            waits = [asyncio.create_task(site.call("GET", "/v1/queue?after=0&wait=25")) for _ in range(60)]
            assert (await site.call("GET", "/v1/queue?after=0&wait=0")).status == 200
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        served = False
        while not served:  # a place is free as soon as the relay has seen the hang-ups
            try:
                served = (await site.call("GET", "/v1/queue?after=0&wait=0")).status == 200
            except OSError:
                continue


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(many=st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=30))
async def test_any_bytes_after_a_good_start(
    tmp_path_factory: pytest.TempPathFactory, many: list[bytes]
) -> None:
    async with relay_at(tmp_path_factory.mktemp("relay")) as bench:
        for data in many:
            answer = await bench.raw(b"POST /m/" + data + b"\r\nConnection: close\r\n\r\n")
            assert answer == b"" or status(answer) in (400, 404, 405, 408, 413, 414, 431)
            assert b"Traceback" not in answer
