"""Packs over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.errors import DiskError
from relay.files import FileBlobs
from relay.sqlite import SqliteMeta
from tests.relay_client import Bench, Site, pack_bytes, relay_at
from transfer.ids import Cid


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path) as made:
        yield made


def at(cid: Cid, n: int | None = None, kind: str = "") -> str:
    return f"/v1/packs/{cid.hex()}" + ("" if n is None else f"/{n}") + (f"?kind={kind}" if kind else "")


def new() -> Cid:
    return Cid(os.urandom(16))


def files(bench: Bench) -> list[Path]:
    return [p for p in (bench.data / "packs").rglob("*") if p.is_file()]


async def test_created_once_then_the_same_then_nothing_else(bench: Bench) -> None:
    s, cid, body = bench.site(), new(), pack_bytes()
    first = await s.call("PUT", at(cid, 0, "D"), body)
    again = await s.call("PUT", at(cid, 0, "D"), body)
    assert (first.status, first.json, again.status) == (201, {}, 200)
    for path, other in ((at(cid, 0, "D"), pack_bytes()), (at(cid, 0, "M"), body)):
        answer = await s.call("PUT", path, other)
        assert (answer.status, answer.error) == (409, "different")
    assert (await s.call("GET", at(cid, 0))).body == body
    assert [p.read_bytes() for p in files(bench)] == [body]


@pytest.mark.parametrize("k", range(16, 23))
async def test_every_bucket(bench: Bench, k: int) -> None:
    s, cid, body = bench.site(), new(), pack_bytes(k)
    assert (await s.call("PUT", at(cid, 4294967295, "M"), body)).status == 201
    assert (await s.call("GET", at(cid, 4294967295))).body == body


@pytest.mark.parametrize(
    "size", [0, 1, 40, 2**16, 2**16 + 39, 2**16 + 41, 2**17 + 2**16 + 40, 2**15 + 40, 2**22 + 41]
)
async def test_other_sizes_are_refused_and_nothing_is_kept(bench: Bench, size: int) -> None:
    s, cid = bench.site(), new()
    answer = await s.call("PUT", at(cid, 0, "D"), bytes(size))
    assert (answer.status, answer.error) == (413, "size")
    assert (await s.call("GET", at(cid, 0))).error == "absent"
    assert files(bench) == []


async def test_parallel_uploads_of_one_pack_create_one(bench: Bench) -> None:
    s, cid, body = bench.site(), new(), pack_bytes()
    answers = await asyncio.gather(*(s.call("PUT", at(cid, 0, "D"), body) for _ in range(8)))
    assert sorted(a.status for a in answers) == [200] * 7 + [201]
    assert len(files(bench)) == 1
    assert len((await s.call("GET", at(cid) + "?after=0&wait=0")).json["packs"]) == 1


async def test_parallel_uploads_of_different_bytes_keep_one_whole(bench: Bench) -> None:
    s, cid = bench.site(), new()
    bodies = [pack_bytes() for _ in range(6)]
    answers = await asyncio.gather(*(s.call("PUT", at(cid, 0, "D"), body) for body in bodies))
    assert sorted(a.status for a in answers) == [201] + [409] * 5
    (won,) = [body for body, a in zip(bodies, answers, strict=True) if a.status == 201]
    assert (await s.call("GET", at(cid, 0))).body == won
    assert [p.read_bytes() for p in files(bench)] == [won]


async def test_two_sites_race_for_a_content_id(bench: Bench) -> None:
    sites, cid = [bench.site() for _ in range(4)], new()
    answers = await asyncio.gather(
        *(s.call("PUT", at(cid, i, "D"), pack_bytes()) for i, s in enumerate(sites))
    )
    assert sorted(a.status for a in answers) == [201, 403, 403, 403]
    assert len(files(bench)) == 1


async def test_only_the_owner_and_those_whom_an_offer_names_read(bench: Bench) -> None:
    s, r, alt, x = (bench.site() for _ in range(4))
    cid, body = new(), pack_bytes()
    assert (await s.call("POST", at(cid) + "/readers", s.offer(cid, r.id, [alt.id]))).json == {}
    await s.call("PUT", at(cid, 0, "D"), body)
    for reader in (s, r, alt):
        assert (await reader.call("GET", at(cid, 0))).body == body
        assert (await reader.call("GET", at(cid) + "?after=0&wait=0")).json["packs"] == [[0, "D", len(body)]]
    for path in (at(cid, 0), at(cid), at(cid) + "?after=0&wait=25"):
        answer = await x.call("GET", path)
        assert (answer.status, answer.error) == (403, "not-yours")
    for site in (r, x):
        for method, path, sent in (
            ("PUT", at(cid, 1, "D"), body), ("DELETE", at(cid), b""),
            ("POST", at(cid) + "/readers", site.offer(cid, x.id)),
        ):  # fmt: skip
            assert (await site.call(method, path, sent)).error == "not-yours"


async def test_an_offer_must_be_the_callers_and_name_this_content_id(bench: Bench) -> None:
    s, x, cid = bench.site(), bench.site(), new()
    path = at(cid) + "/readers"
    for body, code in (
        (x.offer(cid, x.id), "signature"), (s.offer(new(), x.id), "not-for-me"), (s.ack(), "header"), (b"", "header"),
        (bytes(5000), "size"),
    ):  # fmt: skip
        assert (await s.call("POST", path, body)).error == code
    assert (await x.call("GET", at(cid))).error == "absent"


async def test_the_listing_counts_arrivals_and_wakes_who_waits(bench: Bench) -> None:
    s, r, cid = bench.site(), bench.site(), new()
    await s.call("POST", at(cid) + "/readers", s.offer(cid, r.id))
    waits = asyncio.create_task(r.call("GET", at(cid) + "?after=0&wait=25"))
    body = pack_bytes()
    await s.call("PUT", at(cid, 5, "D"), body)
    first = (await waits).json
    assert first["packs"] == [[5, "D", len(body)]]
    waits = asyncio.create_task(r.call("GET", at(cid) + f"?after={first['next']}&wait=25"))
    await s.call("PUT", at(cid, 2, "M"), pack_bytes())
    second = (await waits).json
    assert [line[:2] for line in second["packs"]] == [[2, "M"]]
    rest = (await r.call("GET", at(cid) + f"?after={second['next']}&wait=0")).json
    assert rest == {"packs": [], "next": second["next"]}


async def test_ranges(bench: Bench) -> None:
    s, cid, body = bench.site(), new(), pack_bytes(21)
    await s.call("PUT", at(cid, 0, "D"), body)
    whole = await s.call("GET", at(cid, 0))
    part = await s.call("GET", at(cid, 0), headers={"Range": "bytes=1048570-1048700"})
    assert (part.status, part.body) == (206, body[1048570:1048701])
    assert part.headers["Content-Range"] == f"bytes 1048570-1048700/{len(body)}"
    tail = await s.call("GET", at(cid, 0), headers={"Range": "bytes=-7", "If-Range": whole.headers["ETag"]})
    assert (tail.status, tail.body) == (206, body[-7:])
    for headers in ({"Range": "bytes=0-1,4-5"}, {"Range": "bytes=0-1", "If-Range": '"other"'}):
        assert (await s.call("GET", at(cid, 0), headers=headers)).body == body
    behind = await s.call("GET", at(cid, 0), headers={"Range": f"bytes={len(body)}-"})
    assert (behind.status, behind.error) == (416, "range")
    assert behind.headers["Content-Range"] == f"bytes */{len(body)}"


async def test_deleted_is_gone_for_good_with_its_files(bench: Bench) -> None:
    s, r, cid = bench.site(), bench.site(), new()
    await s.call("POST", at(cid) + "/readers", s.offer(cid, r.id))
    for n in range(3):
        await s.call("PUT", at(cid, n, "D"), pack_bytes())
    listed = (await r.call("GET", at(cid) + "?after=0&wait=0")).json
    waits = asyncio.create_task(r.call("GET", at(cid) + f"?after={listed['next']}&wait=25"))
    assert (await s.call("DELETE", at(cid))).json == {}
    assert (await waits).error == "gone"
    assert (await s.call("DELETE", at(cid))).status == 200
    for method, path, body in (
        ("PUT", at(cid, 0, "D"), pack_bytes()),
        ("GET", at(cid, 0), b""),
        ("GET", at(cid), b""),
    ):
        answer = await s.call(method, path, body)
        assert (answer.status, answer.error) == (410, "gone")
    await bench.sweep()
    assert files(bench) == []


async def test_a_deletion_in_the_middle_of_an_upload(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    s, cid = bench.site(), new()
    await s.call("PUT", at(cid, 0, "D"), pack_bytes())
    begun, go, real = asyncio.Event(), asyncio.Event(), FileBlobs.put

    async def late(*args: Any) -> None:
        await real(*args)
        begun.set()
        await go.wait()

    monkeypatch.setattr(FileBlobs, "put", late)
    puts = asyncio.create_task(s.call("PUT", at(cid, 1, "D"), pack_bytes()))
    await begun.wait()
    await s.call("DELETE", at(cid))
    go.set()
    assert (await puts).error == "gone"
    assert len(files(bench)) <= 1  # pack 0 may still be on its way out; pack 1 is not left behind


async def test_quota_keeps_no_bytes(tmp_path: Path) -> None:
    size = 2**16 + 40
    async with relay_at(tmp_path, quota={"site_bytes": 2 * size, "site_cids": 2, "reserve": 0}) as bench:
        s, cid = bench.site(), new()
        for n in range(2):
            assert (await s.call("PUT", at(cid, n, "D"), pack_bytes())).status == 201
        full = await s.call("PUT", at(cid, 2, "D"), pack_bytes())
        assert (full.status, full.error) == (507, "quota")
        assert len(files(bench)) == 2
        await s.call("DELETE", at(cid))
        assert (await s.call("PUT", at(new(), 0, "D"), pack_bytes())).status == 201


async def test_a_row_that_cannot_be_written_leaves_no_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> bool:
        raise DiskError

    s, cid = bench.site(), new()
    with monkeypatch.context() as patch:
        patch.setattr(SqliteMeta, "add_pack", full)
        answer = await s.call("PUT", at(cid, 0, "D"), pack_bytes())
        assert (answer.status, answer.error) == (507, "disk")
    assert files(bench) == []
    assert (await s.call("PUT", at(cid, 0, "D"), pack_bytes())).status == 201


@pytest.mark.parametrize(
    "path",
    [
        "{cid}/00?kind=D", "{cid}/-1?kind=D", "{cid}/4294967296?kind=D", "{cid}/x?kind=D", "{cid}/0", "{cid}/0?kind=X",
        "{cid}/0?kind=D&kind=D", "{cid}/0?kind=%44", "{cid}/0?other=D", "{CID}/0?kind=D",
        "00/0?kind=D", "..%2f..%2fx/0?kind=D",
        "%2e%2e/0?kind=D", "{cid}%00/0?kind=D", "{cid}/..%2f0?kind=D", "{cid}/0%2f..?kind=D",
    ],
)  # fmt: skip
async def test_paths_of_the_wrong_form(bench: Bench, path: str) -> None:
    s, cid = bench.site(), "ab" * 16
    answer = await s.call("PUT", "/v1/packs/" + path.format(cid=cid, CID=cid.upper()), pack_bytes())
    assert (answer.status, answer.error) in ((400, "header"), (404, "absent"))
    assert files(bench) == []


async def test_bytes_that_are_missing_are_absent(bench: Bench) -> None:
    s, cid = bench.site(), new()
    await s.call("PUT", at(cid, 0, "D"), pack_bytes())
    files(bench)[0].unlink()
    assert (await s.call("GET", at(cid, 0))).error == "absent"


async def test_bytes_that_vanish_while_they_are_read_end_the_connection(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, cid, real = bench.site(), new(), FileBlobs.read
    await s.call("PUT", at(cid, 0, "D"), pack_bytes(21))

    async def once(self: FileBlobs, name: Any, start: int, length: int) -> bytes:
        if start:
            files(bench)[0].unlink()
        return await real(self, name, start, length)

    monkeypatch.setattr(FileBlobs, "read", once)
    with pytest.raises(aiohttp.ClientPayloadError):
        await s.call("GET", at(cid, 0))
    assert (await bench.http.call("GET", "/healthz")).status == 200


async def test_no_gets_by_another_site_learn_what_exists(bench: Bench) -> None:
    """A stranger's answers tell a content id that exists from one that does not: 403 and 404. It is 16 random
    bytes, so that only one who knows it already can ask."""
    x: Site = bench.site()
    assert (await x.call("GET", at(new()))).error == "absent"
