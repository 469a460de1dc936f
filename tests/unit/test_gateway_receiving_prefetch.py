"""`clients.gateway.receiving.prefetch`: sealed packs come before the yes, within their quota, and go with it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from clients.gateway.errors import DiskFullError
from clients.gateway.peers.relay import PackLine, PackList
from clients.gateway.receiving import prefetch as module
from clients.gateway.receiving.prefetch import Prefetch
from tests.gateway_kit import House, eventually, houses_at_a_relay, running
from transfer import jws
from transfer.ids import Cid, Tid
from transfer.messages import Close, sign_message

SIZE = 2**16 + 40
PLENTY = 2**40


def ct(n: int, size: int = SIZE) -> bytes:
    """A ciphertext; nobody looks into it before the yes."""
    return bytes([n % 256]) * size


class Party:
    """A receiver; a sender that puts packs at their relay."""

    def __init__(self, s: House, r: House, data: Path) -> None:
        self.s, self.r, self.data = s, r, data
        self.folder = r.folder / "sealed"

    def prefetch(self, quota: int = PLENTY) -> Prefetch:
        r = self.r
        return Prefetch(r.db, r.relay, self.folder, quota, r.inbox.moved, r.changed)

    async def offer(self, *numbers: int) -> tuple[Tid, Cid]:
        """An offer that R has seen, with these packs at the relay."""
        tid = await self.s.offer_to(self.r)
        row = await self.s.send(tid)
        cid = Cid(row["cid"])
        for n in numbers:
            await self.s.relay.put_pack(cid, n, "D", ct(n))
        await self.s.relay.add_readers(cid, row["offer"])
        await self.r.hear(row["offer"], self.s)
        return tid, cid

    async def here(self, cid: Cid) -> set[int]:
        """What R has, in the database and on disk alike."""
        rows = {r["n"] for r in await self.r.rows("SELECT n FROM in_packs WHERE cid=? AND have=1", cid)}
        folder = self.folder / cid.hex()
        files = (
            {int(p.name): p.read_bytes() for p in folder.iterdir() if p.suffix != ".part"}
            if folder.exists()
            else {}
        )
        assert rows <= files.keys()
        assert all(files[n] == ct(n) for n in rows)
        return rows

    async def arrived(self, cid: Cid, *numbers: int) -> None:
        async def look() -> bool:
            return await self.here(cid) == set(numbers)

        await eventually(look)

    async def open(self, tid: Tid) -> None:
        """Somebody said yes."""
        await self.r.execute("UPDATE receives SET state='OPENED' WHERE tid=?", tid)
        self.r.inbox.moved.set()

    async def close(self, tid: Tid) -> None:
        """S ends it."""
        offer = (await self.s.send(tid))["offer"]
        close = Close(v=1, tid=tid, offer=jws.digest(offer), state="REVOKED", why="", iat=self.s.clock.at)
        await self.r.hear(sign_message(close, self.s.identity.key), self.s)


@pytest.fixture
async def party(tmp_path: Path) -> AsyncIterator[Party]:
    async with houses_at_a_relay(tmp_path) as (s, r, _):
        yield Party(s, r, tmp_path / "relay")


async def test_packs_come_before_the_yes(party: Party) -> None:
    _, cid = await party.offer(0, 1, 2)
    prefetch = party.prefetch()
    async with running(prefetch.run()):
        await party.arrived(cid, 0, 1, 2)
        await party.s.relay.put_pack(cid, 3, "M", ct(3))
        await party.arrived(cid, 0, 1, 2, 3)
    kinds = {r["n"]: r["kind"] for r in await party.r.rows("SELECT n, kind FROM in_packs")}
    assert kinds == {0: "D", 1: "D", 2: "D", 3: "M"}
    assert prefetch.meters[cid].total == 4 * SIZE
    assert (party.folder / cid.hex()).stat().st_mode & 0o777 == 0o700


async def test_what_comes_out_of_order_comes_all_the_same(party: Party) -> None:
    _, cid = await party.offer(7, 3)
    async with running(party.prefetch().run()):
        await party.arrived(cid, 3, 7)
        await party.s.relay.put_pack(cid, 0, "D", ct(0))
        await party.arrived(cid, 0, 3, 7)


async def test_an_offer_whose_readers_are_not_known_yet_is_waited_for(party: Party) -> None:
    tid = await party.s.offer_to(party.r)
    row = await party.s.send(tid)
    cid = Cid(row["cid"])
    await party.s.relay.put_pack(cid, 0, "D", ct(0))
    await party.r.hear(row["offer"], party.s)
    async with running(party.prefetch().run()) as (task,):

        async def followed() -> bool:
            return (party.folder / cid.hex()).exists()

        await eventually(followed)
        await party.s.relay.add_readers(cid, row["offer"])
        await party.arrived(cid, 0)
        assert not task.done()


async def test_before_the_yes_no_more_than_the_quota(party: Party) -> None:
    """For all offers together; the one that is opened is fetched whole."""
    tid, one = await party.offer(0, 1, 2, 3)
    _, two = await party.offer(10, 11, 12, 13)
    prefetch = party.prefetch(quota=5 * SIZE + 100)
    async with running(prefetch.run()):

        async def full() -> bool:
            there = len(await party.here(one)) + len(await party.here(two))
            assert there <= 5
            return there == 5 and not prefetch._flying

        await eventually(full)
        await party.open(tid)
        await party.arrived(one, 0, 1, 2, 3)

        async def refilled() -> bool:
            return len(await party.here(two)) == 4

        await eventually(refilled)  # what is opened counts no longer


async def test_the_quota_counts_what_is_on_its_way(party: Party) -> None:
    _, cid = await party.offer()
    prefetch = party.prefetch(quota=3 * SIZE)
    await prefetch._list(cid, [PackLine(n, "D", SIZE) for n in range(6)])
    flying = {(cid, 0): SIZE, (Cid(b"x" * 16), 0): SIZE}
    assert await party.r.db.run(lambda con: prefetch._missing(con, cid, flying)) == [(1, SIZE)]
    await party.r.execute("UPDATE in_packs SET have=1 WHERE n=0")
    assert await party.r.db.run(lambda con: prefetch._missing(con, cid, {})) == [(1, SIZE), (2, SIZE)]


async def test_a_relay_cannot_fill_the_disk_with_packs_that_no_record_names(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the yes the quota ends; a window past the sender's last record is what is left to invent."""
    monkeypatch.setattr(module, "_WINDOW", 3)
    tid, cid = await party.offer(*range(10))
    async with running(party.prefetch(quota=0).run()):
        await party.open(tid)
        await party.arrived(cid, 0, 1, 2, 3)
        await party.r.execute("INSERT INTO in_records VALUES (?,0,4,'a record in pack 4')", cid)
        await party.arrived(cid, *range(8))


async def test_a_quota_of_nothing_fetches_nothing_before_the_yes(party: Party) -> None:
    tid, cid = await party.offer(0, 1)
    async with running(party.prefetch(quota=0).run()):

        async def listed() -> bool:
            return len(await party.r.rows("SELECT 1 FROM in_packs")) == 2

        await eventually(listed)
        assert await party.here(cid) == set()
        await party.open(tid)
        await party.arrived(cid, 0, 1)


async def test_a_restart_fetches_only_what_is_missing(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    _, cid = await party.offer(0, 1)
    async with running(party.prefetch().run()):
        await party.arrived(cid, 0, 1)
    await party.r.restart()
    await party.s.relay.put_pack(cid, 2, "D", ct(2))
    asked = []
    get = party.r.relay.get_pack

    async def counted(cid: Cid, n: int) -> bytes:
        asked.append(n)
        return await get(cid, n)

    monkeypatch.setattr(party.r.relay, "get_pack", counted)
    prefetch = party.prefetch()
    await prefetch.sweep()
    async with running(prefetch.run()):
        await party.arrived(cid, 0, 1, 2)
    assert asked == [2]


async def test_the_same_loop_again_follows_again(party: Party) -> None:
    """A fault ended the loop, and it is begun again on the same object."""
    _, cid = await party.offer(0)
    prefetch = party.prefetch()
    async with running(prefetch.run()):
        await party.arrived(cid, 0)
    await party.s.relay.put_pack(cid, 1, "D", ct(1))
    async with running(prefetch.run()):
        await party.arrived(cid, 0, 1)


async def test_a_full_disk_for_a_moment(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REST", 0.02)
    _, cid = await party.offer(0, 1, 2)
    prefetch = party.prefetch()
    run, left = party.r.db.run, 6

    async def full(work: object) -> object:
        nonlocal left
        if left and ("Prefetch._list." in repr(work) or "Prefetch._fetch." in repr(work)):
            left -= 1
            raise DiskFullError
        return await run(work)  # type: ignore[arg-type]

    monkeypatch.setattr(party.r.db, "run", full)
    async with running(prefetch.run()) as (task,):

        async def all_here() -> bool:
            return len(await party.r.rows("SELECT 1 FROM in_packs WHERE have=1")) == 3

        await eventually(all_here)
        assert not task.done()
    assert await party.here(cid) == {0, 1, 2}


# The end


async def test_with_the_offer_everything_goes(party: Party) -> None:
    tid, cid = await party.offer(0, 1)
    _, other = await party.offer(5)
    prefetch = party.prefetch()
    async with running(prefetch.run()):
        await party.arrived(cid, 0, 1)
        await party.arrived(other, 5)
        await party.close(tid)

        async def gone() -> bool:
            return not (party.folder / cid.hex()).exists()

        await eventually(gone)
    assert await party.r.rows("SELECT 1 FROM in_packs WHERE cid=?", cid) == []
    assert await party.here(other) == {5}
    assert cid not in prefetch.meters


async def test_what_ended_while_we_were_down_is_swept(party: Party) -> None:
    tid, cid = await party.offer(0, 1)
    _, other = await party.offer(5)
    async with running(party.prefetch().run()):
        await party.arrived(cid, 0, 1)
        await party.arrived(other, 5)
    await party.close(tid)  # and a crash before the files were deleted
    await party.r.restart()
    (party.folder / "not a cid").mkdir()
    prefetch = party.prefetch(quota=2 * SIZE)
    await prefetch.sweep()
    assert [p.name for p in party.folder.iterdir()] == [other.hex()]
    assert await party.r.rows("SELECT 1 FROM in_packs WHERE cid=?", cid) == []
    await party.s.relay.put_pack(other, 6, "D", ct(6))
    async with running(prefetch.run()):
        await party.arrived(other, 5, 6)  # what was swept fills no quota


# A relay that lies, or loses


@pytest.mark.parametrize(
    "line",
    [
        PackLine(0, "X", SIZE),
        PackLine(0, "D", 1),
        PackLine(0, "D", SIZE + 1),
        PackLine(0, "D", 10**15),
        PackLine(-1, "D", SIZE),
        PackLine(2**40, "D", SIZE),
    ],
    ids=["kind", "size 1", "no bucket", "huge", "negative", "far"],
)
async def test_what_can_be_no_pack_is_not_listed(party: Party, line: PackLine) -> None:
    _, cid = await party.offer()
    await party.prefetch()._list(cid, [line, PackLine(1, "D", SIZE)])
    assert [r["n"] for r in await party.r.rows("SELECT n FROM in_packs")] == [1]


async def test_a_pack_of_another_size_than_listed_is_not_taken(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is asked for again: the next answer may be the right one."""
    _, cid = await party.offer(0, 1)
    get, lies = party.r.relay.get_pack, 2

    async def lie(cid: Cid, n: int) -> bytes:
        nonlocal lies
        data = await get(cid, n)
        if n == 0 and lies:
            lies -= 1
            return data + b"x"
        return data

    monkeypatch.setattr(party.r.relay, "get_pack", lie)
    async with running(party.prefetch().run()):
        await party.arrived(cid, 0, 1)
    assert lies == 0


async def test_a_size_that_was_listed_wrongly_is_listed_again(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REST", 0.02)
    _, cid = await party.offer(0)
    list_packs, lies = party.r.relay.list_packs, 1

    async def lie(cid: Cid, after: int, wait: int = 25) -> PackList:
        nonlocal lies
        page = await list_packs(cid, after, wait=0)
        if lies and page.packs:
            lies -= 1
            return PackList([PackLine(0, "M", 2**17 + 40)], page.next)
        return page

    monkeypatch.setattr(party.r.relay, "list_packs", lie)
    async with running(party.prefetch().run()):
        await party.arrived(cid, 0)
    assert (await party.r.one("SELECT kind, size FROM in_packs"))["size"] == SIZE


async def test_a_pack_that_the_relay_lists_and_has_not_holds_no_other_up(party: Party) -> None:
    _, cid = await party.offer(0, 1, 2)
    for path in (party.data / "packs").rglob("*"):
        if path.is_file() and path.read_bytes()[:8] == ct(1)[:8] == b"\1" * 8:
            path.unlink()
    async with running(party.prefetch().run()):
        await party.arrived(cid, 0, 2)


async def test_a_pack_that_did_not_open_is_fetched_again(party: Party) -> None:
    """The delivery found it damaged: it is counted, and comes again."""
    tid, cid = await party.offer(0, 1)
    prefetch = party.prefetch()
    async with running(prefetch.run()):
        await party.arrived(cid, 0, 1)
        await party.open(tid)
        for times in (1, 2):
            (party.folder / cid.hex() / "1").write_bytes(b"damaged")
            assert await prefetch.refetch(cid, 1) == times
            await party.arrived(cid, 0, 1)
    assert await prefetch.refetch(cid, 99) == 0


async def test_a_relay_restored_from_a_backup_is_heard_again(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arrivals count from an older number than the one we waited behind."""
    monkeypatch.setattr(module, "_REST", 0.02)
    list_packs = party.r.relay.list_packs

    async def short(cid: Cid, after: int, wait: int = 25) -> PackList:
        return await list_packs(cid, after, wait=0)

    monkeypatch.setattr(party.r.relay, "list_packs", short)
    _, cid = await party.offer(0, 1)
    async with running(party.prefetch().run()):
        await party.arrived(cid, 0, 1)
        with closing(sqlite3.connect(party.data / "relay.db")) as con:
            con.execute("UPDATE packs SET arrival = arrival - 1000000000")
            con.commit()
        await party.s.relay.put_pack(cid, 2, "D", ct(2))
        with closing(sqlite3.connect(party.data / "relay.db")) as con:
            con.execute("UPDATE packs SET arrival = 5 WHERE n = 2")
            con.commit()
        await party.arrived(cid, 0, 1, 2)
