"""`clients.gateway.sending.packer`: whatever stops it, and wherever, its packs and records restore every instance."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clients.gateway.errors import DiskFullError
from clients.gateway.sending import packer as module
from clients.gateway.sending import records
from clients.gateway.store.database import Database
from tests.gateway_kit import PATIENCE, House, StillClock, an_instance, eventually, running
from tests.spool_kit import SMALL, Restored, Spool, noise, spool_of, workers
from transfer.ids import Cid, SiteId
from transfer.manifest import RECORD_PACKS
from transfer.packs import BUCKETS

__all__ = ["workers"]


class Crash(Exception):
    """The process ends here."""


class Dying:
    """A database that dies at its n-th transaction: before it, or just after it was committed."""

    def __init__(self, db: Database, n: int, *, after: bool, error: type[Exception] = Crash) -> None:
        self._db, self._left, self._after, self._error = db, n, after, error

    async def run(self, work: Callable[[Any], Any]) -> Any:
        self._left -= 1
        if self._left == 0:
            if self._after:
                await self._db.run(work)
            raise self._error
        return await self._db.run(work)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path / "s", StillClock()).make("Valley ED")
    yield made
    await made.close()


async def test_a_closed_study_is_sealed_whole(house: House, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(house, workers, *(noise(i) for i in range(1, 7)))
    await spool.pack()
    found = await Restored(spool).complete()
    row = await house.one("SELECT * FROM spools")
    assert (row["ended"], row["unsent"], row["frozen"]) == (1, 0, 6)
    assert row["next_n"] == await spool.value("SELECT count(*) FROM packs WHERE cid=?")
    assert [(s.want, s.closed) for s in found.chain.series.values()] == [(6, True)]
    await spool.pack()
    assert row["next_n"] == await spool.value("SELECT next_n FROM spools WHERE cid=?"), (
        "an ended spool is left alone"
    )


async def test_an_addition_holds_what_came_behind_its_parent_and_an_earlier_import_s_gaps_are_not_its_own(
    house: House, workers: ThreadPoolExecutor
) -> None:
    spool = await spool_of(house, workers, an_instance(InstanceNumber=1), an_instance(InstanceNumber=2))
    await spool.pack()
    imports = (
        "INSERT INTO imports (id, study, path, actor, skipped, at, stopped) VALUES (?,?,'','x',0,0,'cut')"
    )
    files = "INSERT INTO import_files (import, sop_uid, series, size) VALUES (?,?,'2.25.77',1)"
    for number, missing in ((1, "2.25.901"), (2, "2.25.902")):
        await house.execute(imports, number, spool.study)
        await house.execute(files, number, missing)
    late = [an_instance(InstanceNumber=n, SeriesInstanceUID="2.25.77") for n in (1, 2)]
    await house.adopt(house.file(an_instance(InstanceNumber=3)), *map(house.file, late))
    await house.studies.close(spool.study, "test")
    tid = await house.offers.create(spool.study, SiteId(b"r" * 32), "transfer", "clerk")
    cid = Cid((await house.send(tid))["cid"])
    await house.execute("UPDATE spools SET after=2, after_import=1 WHERE cid=?", cid)
    added = Spool(house, spool.study, tid, cid, workers)
    await added.pack()
    found = await Restored(added).read()
    assert [s.want for s in found.chain.series.values()] == [1, 3]
    assert {i.sop_uid for i in found.items} > {str(ds.SOPInstanceUID) for ds in late}
    assert (len(found.items), await added.value("SELECT unsent FROM spools WHERE cid=?")) == (3, 1)


async def test_files_are_for_their_owner_alone(house: House, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(house, workers, noise(1))
    await spool.pack()
    assert {p.stat().st_mode & 0o777 for p in spool.folder.iterdir()} == {0o600}
    assert spool.folder.stat().st_mode & 0o777 == 0o700


async def test_scouts_come_first_then_series_as_they_began(house: House, workers: ThreadPoolExecutor) -> None:
    images = [
        an_instance(InstanceNumber=2, SeriesInstanceUID="2.25.21", SOPInstanceUID="2.25.212"),
        an_instance(InstanceNumber=1, SeriesInstanceUID="2.25.21", SOPInstanceUID="2.25.211"),
        an_instance(InstanceNumber=5, SeriesInstanceUID="2.25.22", SOPInstanceUID="2.25.225"),
        an_instance(
            InstanceNumber=1, SeriesInstanceUID="2.25.23", SOPInstanceUID="2.25.231", SeriesDescription="Topogram"
        ),
        an_instance(InstanceNumber=3, SeriesInstanceUID="2.25.21", SOPInstanceUID="2.25.213"),
    ]  # fmt: skip
    spool = await spool_of(house, workers, *images)
    await spool.pack()
    found = await Restored(spool).complete()
    assert [i.sop_uid for i in found.items] == ["2.25.231", "2.25.211", "2.25.212", "2.25.213", "2.25.225"]
    assert [s.uid for s in found.chain.series.values()] == ["2.25.23", "2.25.21", "2.25.22"]


async def test_the_first_instance_goes_alone_with_its_record(
    house: House, workers: ThreadPoolExecutor
) -> None:
    """R can store it while all others are still being sealed."""
    spool = await spool_of(house, workers, *(an_instance(InstanceNumber=i) for i in range(1, 5)))
    await spool.pack(bucket=lambda: BUCKETS[-1])
    found = await Restored(spool).complete()
    assert (await spool.kinds())[:2] == "DM"
    assert len(found.records[0].items) == 1
    sizes = [r[0] for r in await house.rows("SELECT size FROM packs ORDER BY n")]
    assert sizes[0] == SMALL + 40, "a flush pads to the smallest bucket that fits, not to the largest"


async def test_a_record_for_every_16_packs_also_inside_one_large_image(
    house: House, workers: ThreadPoolExecutor
) -> None:
    spool = await spool_of(house, workers, noise(1, 40), noise(2, 1600), noise(3, 40))
    await spool.pack()
    found = await Restored(spool).complete()
    assert len(found.chain.packs) > 3 * RECORD_PACKS
    assert max(len(r.packs) for r in found.records) <= RECORD_PACKS
    assert "D" * (RECORD_PACKS + 1) not in await spool.kinds()


async def test_the_bucket_may_change_between_two_packs(house: House, workers: ThreadPoolExecutor) -> None:
    sizes = itertools.cycle([BUCKETS[0], BUCKETS[2], BUCKETS[1], BUCKETS[4]])
    spool = await spool_of(house, workers, *(noise(i, 700) for i in range(1, 5)))
    await spool.pack(bucket=lambda: next(sizes))
    await Restored(spool).complete()
    assert len({r[0] for r in await house.rows("SELECT DISTINCT size FROM packs WHERE kind='D'")}) >= 3


async def test_full_packs_waste_nothing(house: House, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(house, workers, *(noise(i) for i in range(1, 7)))
    await spool.pack()
    length = await spool.value("SELECT sum(length) FROM items WHERE cid=?")
    packs = await spool.value("SELECT count(*) FROM packs WHERE cid=? AND kind='D'")
    assert packs <= length // (SMALL - 4) + 3, "only the first image and the end are padded"


# Crashes


async def _crash(house: House, spool: Spool, n: int, *, after: bool) -> bool:
    """Runs until transaction `n`; whether it came so far."""
    try:
        async with asyncio.timeout(PATIENCE):
            await spool.packer(db=Dying(house.db, n, after=after)).run()
    except Crash:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_commit_loses_nothing(
    tmp_path: Path, workers: ThreadPoolExecutor, after: bool
) -> None:
    """At every transaction in turn: a new packer on the same folder goes on, and R restores every instance."""
    for n in itertools.count(1):
        house = await House(tmp_path / str(n), StillClock()).make("Valley ED")
        spool = await spool_of(house, workers, noise(1), noise(2), an_instance(InstanceNumber=3), noise(4))
        crashed = await _crash(house, spool, n, after=after)
        await house.restart()
        await spool.pack()
        await Restored(spool).complete()
        await house.close()
        if not crashed:
            break
    assert n > 12


async def test_crash_upon_crash(house: House, workers: ThreadPoolExecutor) -> None:
    """It dies again and again, each time two commits later; the packs that are committed never change."""
    spool = await spool_of(house, workers, *(noise(i) for i in range(1, 6)))
    before: dict[int, bytes] = {}
    for i in range(100):
        if not await _crash(house, spool, 6, after=bool(i % 2)):
            break
        rows = {r["n"]: r["hash"] for r in await house.rows("SELECT n, hash FROM packs")}
        assert before.items() <= rows.items()
        before = rows
    else:
        pytest.fail("no progress")
    assert i > 2
    await Restored(spool).complete()


@pytest.mark.parametrize("n", range(4, 16))
async def test_a_packer_that_failed_is_run_again(house: House, workers: ThreadPoolExecutor, n: int) -> None:
    """A full disk for a moment: the same packer begins anew, with nothing of what it held in memory."""
    spool = await spool_of(house, workers, *(noise(i) for i in range(1, 5)))
    packer = spool.packer(db=Dying(house.db, n, after=False, error=DiskFullError))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(DiskFullError):
            await packer.run()
        await packer.run()
    await Restored(spool).complete()


async def test_cancelled_in_the_middle(house: House, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(house, workers, *(noise(i) for i in range(1, 9)))

    async def begun() -> bool:
        return bool(await house.rows("SELECT 1 FROM packs WHERE n=3"))

    async with running(spool.packer().run()):
        await eventually(begun)
    await spool.pack()
    await Restored(spool).complete()


async def test_a_file_without_a_row_is_written_over(house: House, workers: ThreadPoolExecutor) -> None:
    """A crash between the file and its commit: the number was not used, and the file was never uploaded."""
    spool = await spool_of(house, workers, noise(1))
    spool.folder.mkdir(parents=True)
    (spool.folder / "0").write_bytes(b"another pack 0")
    (spool.folder / "1.part").write_bytes(b"half a pack")
    await spool.pack()
    await Restored(spool).complete()


# A study that still arrives, or changes


async def test_it_packs_while_the_study_arrives(house: House, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(house, workers, noise(1), close=False)
    async with running(spool.packer().run()) as (task,):
        for i in range(2, 5):

            async def sealed(i: int = i) -> bool:
                return bool(await spool.value("SELECT count(*) FROM items WHERE cid=?") == i - 1)

            await eventually(sealed)
            await house.adopt(house.file(noise(i)))
        assert not task.done()
        assert await spool.value("SELECT frozen FROM spools WHERE cid=?") is None
        await house.studies.close(spool.study, "jdoe")
        async with asyncio.timeout(PATIENCE):
            await task
    found = await Restored(spool).complete()
    assert {s.want for r in found.records[:-1] for s in r.series} == {0}, (
        "a count is promised once it is known"
    )


async def test_what_arrives_after_the_end_is_not_in_it(house: House, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(house, workers, noise(1), noise(2))
    await spool.pack()
    await house.adopt(house.file(noise(3)))
    await spool.pack()
    found = await Restored(spool).read()
    assert len(found.items) == 2
    assert await house.alarms(spool.tid) == ["late-images"]


async def test_what_arrives_between_closing_and_the_end_is_not_in_it_either(
    house: House, workers: ThreadPoolExecutor
) -> None:
    """The number of images was fixed when the study was closed; staff are told of the one that came late."""
    spool = await spool_of(house, workers, *(noise(i) for i in range(1, 5)))
    await _crash(house, spool, 6, after=True)
    assert await spool.value("SELECT frozen FROM spools WHERE cid=?") == 4
    await house.adopt(house.file(noise(9)))
    await spool.pack()
    found = await Restored(spool).read()
    assert len(found.items) == 4
    assert await spool.value("SELECT unsent FROM spools WHERE cid=?") == 0
    assert await house.alarms(spool.tid) == ["late-images"]


@pytest.mark.parametrize("how", ["changed", "cut", "deleted"])
async def test_a_file_that_changed_on_disk_is_not_sent_and_staff_see_it(
    house: House, workers: ThreadPoolExecutor, how: str
) -> None:
    spool = await spool_of(house, workers, *(noise(i) for i in range(1, 5)))
    row = await house.one("SELECT file, sop_uid FROM instances WHERE number=2")
    path = house.studies.incoming / row["file"]
    if how == "deleted":
        path.unlink()
    else:
        raw = path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]) if how == "changed" else raw[:-1])
    await spool.pack()
    found = await Restored(spool).read()
    assert len(found.items) == 3
    assert row["sop_uid"] not in {i.sop_uid for i in found.items}
    assert sum(s.want for s in found.chain.series.values()) == 4, "R must see that one is missing"
    assert await spool.value("SELECT unsent FROM spools WHERE cid=?") == 1
    assert await house.alarms(spool.tid) == ["unsent"]


async def test_a_series_of_which_nothing_can_be_sent_is_named(
    house: House, workers: ThreadPoolExecutor
) -> None:
    others = [an_instance(InstanceNumber=i, SeriesInstanceUID=f"2.25.{i}") for i in (77, 78)]
    spool = await spool_of(house, workers, an_instance(), *others)
    for row in await house.rows("SELECT file FROM instances WHERE series<>'2.25.12'"):
        (house.studies.incoming / row["file"]).unlink()
    await spool.pack()
    found = await Restored(spool).read()
    assert [(s.uid, s.want) for s in found.chain.series.values()] == [
        ("2.25.12", 1),
        ("2.25.77", 1),
        ("2.25.78", 1),
    ]


async def test_nothing_at_all_can_be_sent(house: House, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(house, workers, noise(1), noise(2))
    for path in house.studies.incoming.iterdir():
        path.unlink()
    await spool.pack()
    found = await Restored(spool).read()
    assert (found.items, found.chain.total) == ([], 0)
    assert sum(s.want for s in found.chain.series.values()) == 2
    assert await spool.value("SELECT unsent FROM spools WHERE cid=?") == 2


async def test_more_broken_files_than_it_looks_at_at_once(
    house: House, workers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those behind them are still found."""
    monkeypatch.setattr(module, "_CANDIDATES", 2)
    spool = await spool_of(house, workers, *(an_instance(InstanceNumber=i) for i in range(1, 12)))
    for row in await house.rows("SELECT file FROM instances WHERE number<=7"):
        (house.studies.incoming / row["file"]).unlink()
    await spool.pack()
    assert len((await Restored(spool).read()).items) == 4


async def test_more_images_than_a_record_holds(
    house: House, workers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "ITEMS", 4)
    spool = await spool_of(house, workers, *(an_instance(InstanceNumber=i) for i in range(1, 31)))
    await spool.pack()
    found = await Restored(spool).complete()
    assert max(len(r.items) for r in found.records) <= 4


async def test_without_its_key_it_does_nothing(house: House, workers: ThreadPoolExecutor) -> None:
    """The transfer ended, and the key was erased, before it began."""
    spool = await spool_of(house, workers, noise(1))
    await house.offers.stop(spool.tid, "jdoe")
    await spool.pack()
    assert not spool.folder.exists()
    assert await house.rows("SELECT * FROM packs") == []
