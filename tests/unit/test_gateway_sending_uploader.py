"""`clients.gateway.sending.uploader`: every sealed pack reaches the relay, again where the relay lost it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from clients.gateway.errors import DiskFullError
from clients.gateway.peers.relay import PackLine, PackList, RelayRefusal
from clients.gateway.sending import uploader as module
from clients.gateway.sending.uploader import Uploader
from relay.enroll import enroll
from tests.gateway_kit import House, StillClock, a_relay, eventually, running
from tests.spool_kit import Spool, noise, spool_of, workers
from transfer.ids import Cid

__all__ = ["workers"]


class Party:
    """A sender with its relay."""

    def __init__(self, house: House, data: Path, workers: ThreadPoolExecutor) -> None:
        self.house, self.data, self._workers = house, data, workers
        self.uploader = self.make()

    def make(self) -> Uploader:
        h = self.house
        return Uploader(h.db, h.relay, h.clock, h.folder / "spool", h.packed, h.changed)

    async def spool(self, *numbers: int) -> Spool:
        """A sealed study of images with these numbers."""
        made = await spool_of(
            self.house, self._workers, *(noise(n, StudyInstanceUID=f"2.25.9{numbers[0]}") for n in numbers)
        )
        await made.pack()
        return made

    async def there(self, cid: Cid) -> dict[int, bytes]:
        """What the relay has."""
        page = await self.house.relay.list_packs(cid, 0, wait=0)
        return {p.n: await self.house.relay.get_pack(cid, p.n) for p in page.packs}

    async def states(self, cid: Cid) -> set[int]:
        return {r[0] for r in await self.house.rows("SELECT uploaded FROM packs WHERE cid=?", cid)}

    async def uploaded(self, cid: Cid, *states: int) -> None:
        """Waits until every pack is in one of the states."""

        async def look() -> bool:
            return await self.states(cid) <= set(states or (1,))

        await eventually(look)

    def at_relay(self, sql: str, *args: object) -> None:
        """The relay's database, as it would come from a backup."""
        with closing(sqlite3.connect(self.data / "relay.db")) as con:
            con.execute(sql, args)
            con.commit()


@pytest.fixture
async def party(tmp_path: Path, workers: ThreadPoolExecutor) -> AsyncIterator[Party]:
    clock = StillClock()
    data = tmp_path / "relay"
    async with a_relay(data, clock) as relay:
        house = await House(tmp_path / "s", clock, relay.url).make("Valley ED")
        enroll(data, house.card, clock=clock)
        yield Party(house, data, workers)
        await house.close()


def files(spool: Spool) -> dict[int, bytes]:
    return {int(p.name): p.read_bytes() for p in spool.folder.iterdir()}


async def test_every_pack_arrives_as_it_is_on_disk(party: Party) -> None:
    spool = await party.spool(1, 2, 3, 4)
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)
    assert await party.there(spool.cid) == files(spool)
    assert party.uploader.meter.total == sum(map(len, files(spool).values()))
    assert party.uploader.meters[spool.cid].total == party.uploader.meter.total


async def test_it_uploads_while_the_study_is_being_sealed(party: Party, workers: ThreadPoolExecutor) -> None:
    spool = await spool_of(party.house, workers, noise(1), close=False)
    async with running(party.uploader.run(), spool.packer().run()):

        async def first() -> bool:
            return bool(await party.house.rows("SELECT 1 FROM packs WHERE n=0 AND uploaded=1"))

        await eventually(first)
        await party.house.adopt(party.house.file(noise(2)))
        await party.house.studies.close(spool.study, "jdoe")

        async def ended() -> bool:
            return bool(await party.house.rows("SELECT 1 FROM spools WHERE ended=1"))

        await eventually(ended)
        await party.uploaded(spool.cid)


async def test_the_older_study_goes_first(party: Party) -> None:
    one, two = await party.spool(1, 2, 3), await party.spool(11, 12)
    due = await party.house.rows(module._DUE, 100)
    cids = [bytes(r["cid"]) for r in due]
    assert cids == sorted(cids, key=lambda c: [one.cid, two.cid].index(Cid(c)))
    assert [r["n"] for r in due if bytes(r["cid"]) == one.cid] == sorted(files(one))


async def test_a_restart_goes_on(party: Party) -> None:
    spool = await party.spool(1, 2, 3, 4, 5)
    async with running(party.uploader.run()):

        async def some() -> bool:
            return 1 in await party.states(spool.cid)

        await eventually(some)
    await party.house.restart()
    async with running(party.make().run()):
        await party.uploaded(spool.cid)
    assert await party.there(spool.cid) == files(spool)


async def test_what_the_relay_had_taken_before_a_crash_is_taken_again(party: Party) -> None:
    """The relay answered 200, and we died before we wrote it down: the same bytes again are no error."""
    spool = await party.spool(1, 2)
    for n, ct in files(spool).items():
        kind = (await spool.kinds())[n]
        await party.house.relay.put_pack(spool.cid, n, kind, ct)
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)
    assert await party.house.alarms(spool.tid) == []


async def test_a_relay_that_is_down_is_waited_for(
    party: Party, tmp_path: Path, workers: ThreadPoolExecutor
) -> None:
    spool = await party.spool(1, 2)
    origin, party.house.relay.origin = party.house.relay.origin, "http://127.0.0.1:9"
    async with running(party.uploader.run()) as (task,):

        async def tried() -> bool:
            return bool(party.uploader._flying)

        await eventually(tried)
        assert await party.states(spool.cid) == {0}
        party.house.relay.origin = origin
        await party.uploaded(spool.cid)
        assert not task.done()
    assert await party.house.alarms(spool.tid) == []


async def test_a_full_disk_does_not_send_twice_nor_forget(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await party.spool(1, 2)
    run, failing = party.house.db.run, True

    async def full(work: object) -> object:
        if failing and getattr(getattr(work, "func", None), "__name__", "") == "_mark_all":
            raise DiskFullError
        return await run(work)  # type: ignore[arg-type]

    monkeypatch.setattr(party.house.db, "run", full)
    sent = []
    put = party.house.relay.put_pack

    async def counted(cid: Cid, n: int, kind: str, ct: bytes) -> None:
        sent.append(n)
        await put(cid, n, kind, ct)

    monkeypatch.setattr(party.house.relay, "put_pack", counted)
    async with running(party.uploader.run()):

        async def all_sent() -> bool:
            return len(sent) == len(files(spool))

        await eventually(all_sent)
        assert await party.states(spool.cid) == {0}
        failing = False
        await party.uploaded(spool.cid)
    assert sorted(sent) == sorted(files(spool))


async def test_what_an_earlier_run_had_sent_is_written_down_by_the_next(party: Party) -> None:
    spool = await party.spool(1)
    for n, ct in files(spool).items():
        await party.house.relay.put_pack(spool.cid, n, (await spool.kinds())[n], ct)
    party.uploader._done = [(1, spool.cid, n) for n in files(spool)]
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)


# Refusals


async def test_other_bytes_under_our_number_are_an_alarm(party: Party) -> None:
    spool = await party.spool(1, 2)
    await party.house.relay.put_pack(spool.cid, 0, "D", bytes(2**16 + 40))
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid, 1, 2)
    assert await party.house.alarms(spool.tid) == ["relay-different"]
    assert [r["n"] for r in await party.house.rows("SELECT n FROM packs WHERE uploaded=2")] == [0]


async def test_a_cid_that_is_gone_is_an_alarm_and_holds_no_other_up(party: Party) -> None:
    one, two = await party.spool(1, 2), await party.spool(11, 12)
    await party.house.relay.put_pack(one.cid, 9999, "D", bytes(2**16 + 40))
    await party.house.relay.delete_packs(one.cid)
    async with running(party.uploader.run()):
        await party.uploaded(two.cid)
        await party.uploaded(one.cid, 2)
    assert await party.house.alarms(one.tid) == ["relay-gone"]
    assert await party.house.alarms(two.tid) == []


async def test_what_flies_when_a_transfer_ends_is_no_alarm(party: Party) -> None:
    """Stopped while it uploads: the relay deletes the content and then refuses what was on its way."""
    spool = await party.spool(1, 2)
    await party.house.relay.put_pack(spool.cid, 9999, "D", bytes(2**16 + 40))
    await party.house.relay.delete_packs(spool.cid)
    await party.house.offers.stop(spool.tid, "jdoe")
    await party.house.execute("UPDATE spools SET dropped=0")  # as it was when the pack took off
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid, 2)
    assert await party.house.alarms(spool.tid) == []


async def test_a_sealed_file_that_is_lost_is_an_alarm(party: Party) -> None:
    spool = await party.spool(1, 2)
    (spool.folder / "1").unlink()
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid, 1, 2)
    assert await party.house.alarms(spool.tid) == ["spool-lost"]
    assert set(await party.there(spool.cid)) == set(files(spool))


# What the relay lost


async def test_what_the_relay_lost_comes_again(party: Party) -> None:
    """Restored from a backup that knows only the first packs."""
    spool = await party.spool(1, 2, 3)
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)
        party.at_relay("DELETE FROM packs WHERE n IN (1, 3)")
        assert set(await party.there(spool.cid)) == set(files(spool)) - {1, 3}
        await party.uploader.recheck(spool.cid)
        await party.uploaded(spool.cid)

        async def whole() -> bool:
            return set(await party.there(spool.cid)) == set(files(spool))

        await eventually(whole)
    assert await party.there(spool.cid) == files(spool)


async def test_a_relay_that_lost_everything_gets_everything(party: Party, tmp_path: Path) -> None:
    spool = await party.spool(1, 2)
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)
        async with a_relay(tmp_path / "empty", party.house.clock, party.house.card) as empty:
            party.house.relay.origin = empty.url
            await party.uploader.recheck(spool.cid)
            await party.uploaded(spool.cid)

            async def whole() -> bool:
                return await party.there(spool.cid) == files(spool)

            await eventually(whole)


async def test_a_recheck_of_what_is_all_there_changes_nothing(party: Party) -> None:
    spool = await party.spool(1, 2)
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)
    seen = party.house.packed.seen
    await party.uploader.recheck(spool.cid)
    assert await party.states(spool.cid) == {1}
    assert party.house.packed.seen == seen


async def test_a_recheck_of_what_was_deleted_says_so(party: Party) -> None:
    spool = await party.spool(1)
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)
    await party.house.relay.delete_packs(spool.cid)
    with pytest.raises(RelayRefusal):
        await party.uploader.recheck(spool.cid)
    assert await party.states(spool.cid) == {1}


async def test_a_list_without_end_has_one(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that always knows one more pack."""

    async def more(cid: Cid, after: int, wait: int = 0) -> PackList:
        return PackList([PackLine(after, "D", 2**16 + 40)], after + 1)

    monkeypatch.setattr(party.house.relay, "list_packs", more)
    monkeypatch.setattr(module, "_PAGES", 50)
    assert await party.uploader._listed(Cid(b"c" * 16)) == set(range(50))


# Sizes


async def test_what_the_relay_answers_sets_the_pace(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    monkeypatch.setattr(party.uploader.pace, "answered", lambda size, began, now: answers.append(size))
    spool = await party.spool(1)
    async with running(party.uploader.run()):
        await party.uploaded(spool.cid)
    assert sorted(answers) == sorted(
        r[0] for r in await party.house.rows("SELECT size FROM packs WHERE cid=?", spool.cid)
    )
    assert party.uploader.bucket() == party.uploader.pace.bucket


# The end


async def test_the_sealed_files_of_what_ended_are_deleted(party: Party) -> None:
    one, two = await party.spool(1, 2), await party.spool(11)
    async with running(party.uploader.run()):
        await party.uploaded(one.cid)
    await party.uploader.drop_spools()
    assert one.folder.exists()
    await party.house.offers.stop(one.tid, "jdoe")
    await party.uploader.drop_spools()
    assert not one.folder.exists()
    assert two.folder.exists()
    assert await party.house.value("SELECT dropped FROM spools WHERE cid=?", one.cid) == 2
    assert one.cid not in party.uploader.meters
    await party.uploader.drop_spools()


async def test_a_crash_while_deleting_is_made_good(party: Party) -> None:
    spool = await party.spool(1, 2)
    await party.house.offers.stop(spool.tid, "jdoe")
    shutil.rmtree(spool.folder)
    await party.uploader.drop_spools()
    assert await party.house.value("SELECT dropped FROM spools") == 2


async def test_what_ended_is_not_uploaded(party: Party) -> None:
    spool = await party.spool(1, 2)
    await party.house.offers.stop(spool.tid, "jdoe")
    assert await party.house.rows(module._DUE, 100) == []
