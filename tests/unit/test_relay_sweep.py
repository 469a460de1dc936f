"""The sweeper: what is gone goes, what lives stays, whatever happened in between."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from relay import sweep
from relay.blobstore import BlobName
from relay.config import Quota
from relay.errors import AbsentError, BusyError
from relay.log import make_log
from relay.memory import MemoryBlobs, MemoryMeta
from relay.metastore import Site
from relay.sweep import Sweeper
from tests.relay_client import pack_bytes, relay_at
from transfer.encoding import sha256
from transfer.ids import Cid, Digest, SiteId

NOW = 1_795_000_000
S = SiteId(b"\1" * 32)
LIVE, DEAD, STRAY = (Cid(bytes([i]) * 16) for i in (1, 2, 3))


def blob(cid: Cid) -> BlobName:
    return BlobName(cid, 0, Digest(sha256(b"x")))


class House:
    """Stores with one content id of each sort."""

    async def open(self) -> None:
        self.now = NOW
        self.meta, self.blobs = MemoryMeta(Quota(), lambda: self.now), MemoryBlobs()
        self.log, self.doomed = io.StringIO(), asyncio.Event()
        self.sweeper = Sweeper(self.meta, self.blobs, lambda: self.now, make_log(self.log), self.doomed)
        await self.meta.enroll(Site(S, "", "", NOW))
        for cid in (LIVE, DEAD):
            await self.meta.own(cid, S, NOW)
        for cid in (LIVE, DEAD, STRAY):
            await self.blobs.put(blob(cid), [b"x"])


@pytest.fixture
async def house() -> House:
    made = House()
    await made.open()
    return made


async def test_what_is_gone_loses_its_bytes(house: House) -> None:
    await house.meta.delete_cid(DEAD, S, NOW)
    await house.sweeper.sweep()
    assert set(await house.blobs.cids()) == {LIVE, STRAY}
    assert await house.meta.doomed(9) == []


async def test_what_nobody_knows_loses_its_bytes_too(house: House) -> None:
    await house.sweeper.erase_strays()
    assert set(await house.blobs.cids()) == {LIVE, DEAD}


async def test_time_ends_what_is_left(house: House) -> None:
    house.now += 9 * 86_400
    await house.sweeper.sweep()
    assert set(await house.blobs.cids()) == {STRAY}


async def test_a_round_that_fails_is_logged_and_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [BusyError(), OSError(39, "Directory not empty: /secret")]
    erased, real = asyncio.Event(), house.meta.erased

    async def erase(cid: Cid) -> None:
        house.doomed.set()  # the next round comes at once
        if failures:
            raise failures.pop()
        house.blobs._blobs.pop(cid, None)

    async def note(cid: Cid) -> None:
        await real(cid)
        erased.set()

    monkeypatch.setattr(house.blobs, "erase", erase)
    monkeypatch.setattr(house.meta, "erased", note)
    await house.meta.delete_cid(DEAD, S, NOW)
    task = asyncio.create_task(house.sweeper.run())
    await erased.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await house.meta.doomed(9) == []
    assert house.log.getvalue().count('"sweep"') >= 2
    assert "secret" not in house.log.getvalue()


async def test_rounds_come_by_themselves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "EVERY", 0.001)
    third, real = asyncio.Event(), house.sweeper.sweep

    async def counted() -> None:
        await real()
        if house.sweeper.rounds == 2:
            third.set()

    monkeypatch.setattr(house.sweeper, "sweep", counted)
    task = asyncio.create_task(house.sweeper.run())
    await third.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(AbsentError):
        await house.blobs.read(blob(STRAY), 0, 1)


async def test_packs_die_after_nine_days_in_a_relay_that_runs(tmp_path: Path) -> None:
    now = [NOW]
    async with relay_at(tmp_path, clock=lambda: now[0]) as bench:
        s = bench.site()
        s.clock = lambda: now[0]
        path = f"/v1/packs/{LIVE.hex()}"
        await s.call("PUT", f"{path}/0?kind=D", pack_bytes())
        now[0] += 9 * 86_400
        await bench.sweep()
        assert (await s.call("GET", path)).error == "gone"
        assert [p.name for p in (tmp_path / "packs").iterdir()] == ["new"]
