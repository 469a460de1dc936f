"""Alive is not ready: `/readyz` asks the database and the disk, and says in words what is wrong."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from aiohttp.test_utils import make_mocked_request

from relay.addresses import Addresses
from relay.config import Quota, Rate
from relay.health import Health
from relay.limits import Buckets
from relay.memory import MemoryBlobs, MemoryMeta
from relay.sqlite import SqliteMeta
from tests.relay_client import relay_at


async def test_a_relay_that_works_is_ready(tmp_path: Path) -> None:
    async with relay_at(tmp_path) as bench:
        answer = await bench.http.call("GET", "/readyz")
        assert answer.status == 200
        assert answer.json["ok"] is True
        assert answer.json["now"] == int(answer.headers["TT1-Time"])
        assert (await bench.http.call("HEAD", "/readyz")).status == 200


async def test_a_touched_reserve_is_not_ready_but_alive(tmp_path: Path) -> None:
    async with relay_at(tmp_path, quota={"reserve": 2**50}) as bench:
        answer = await bench.http.call("GET", "/readyz")
        assert (answer.status, answer.error) == (503, "disk")
        assert "reserve" in answer.json["sentence"]
        assert (await bench.http.call("GET", "/healthz")).status == 200


async def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    """Somebody else holds its write lock; the answer comes after our patience and not after theirs."""
    meta = SqliteMeta(tmp_path / "relay.db", Quota(), lambda: 1)
    await meta.open()
    with closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        health = make(meta, MemoryBlobs(), patience=0.05)
        assert await ask(health) == (503, "busy")
        other.execute("COMMIT")
        assert (await ask(make(meta, MemoryBlobs())))[0] == 200
    await meta.close()
    assert await ask(make(meta, MemoryBlobs())) == (503, "busy")


async def test_a_disk_that_is_gone() -> None:
    meta = MemoryMeta(Quota(), lambda: 1)
    assert (await ask(make(meta, MemoryBlobs(room=1))))[0] == 200
    assert await ask(make(meta, MemoryBlobs(room=0))) == (503, "disk")


async def test_strangers_may_not_ask_for_ever(tmp_path: Path) -> None:
    async with relay_at(tmp_path, rates={"address": {"per_second": 0.001, "burst": 2}}) as bench:
        seen = [(await bench.http.call("GET", "/readyz")).status for _ in range(3)]
        assert seen == [200, 200, 429]
        assert (await bench.http.call("GET", "/healthz")).status == 200


def make(meta: SqliteMeta | MemoryMeta, blobs: MemoryBlobs, **options: float) -> Health:
    rate = Buckets(Rate(per_second=1000, burst=1000))
    return Health(meta, blobs, lambda: 1, rate, Addresses(trusted_proxy=False), **options)


async def ask(health: Health) -> tuple[int, str]:
    answer = await health.ready(make_mocked_request("GET", "/readyz"))
    body = answer.body
    assert isinstance(body, bytes)
    return answer.status, "" if answer.status == 200 else body.decode().split('"error":"')[1].split('"')[0]
