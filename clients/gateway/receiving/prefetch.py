"""Sealed packs come here before anybody said yes, so that after the yes only a key crosses the link (protocol
s. 10).

One task for each incoming cid waits at the relay for new packs and fetches them, a few at once, into
`DIR/sealed/<cid>/`. They are not fsynced: what a crash loses is fetched again, and a damaged one does not
open. For all offers that nobody has answered yet together at most `prefetch_bytes` are kept; an opened
study is fetched whatever its size, as far as the sender's records go and a window past them.
"""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from pathlib import Path

import structlog

from clients.gateway.clock import Signal
from clients.gateway.errors import RelayDownError
from clients.gateway.log import about
from clients.gateway.meter import Meter
from clients.gateway.peers.relay import PackLine, RelayClient, RelayRefusal
from clients.gateway.store.database import Con, Database, quoted, rows, value
from transfer.ids import Cid
from transfer.packs import SIZES
from transfer.states import OPEN_RECEIVER

log = structlog.get_logger()
STREAMS = 8
_REST = 2.0
"""Seconds between two rounds of a list, and after a fault."""
_MOST = 2**20
"""Packs of one cid that are followed, whatever a relay lists."""
_WINDOW = 1024
"""Packs that are fetched past the last record of the sender: what a relay invents does not fill the disk."""
_OPEN = quoted(OPEN_RECEIVER)
_KEPT = """
SELECT coalesce(sum(size), 0) FROM in_packs WHERE have=1
AND cid NOT IN (SELECT cid FROM receives WHERE state='OPENED')
"""
"""Bytes that are here for offers that nobody has answered."""


class Prefetch:
    """Fetches for all open transfers of the inbox."""

    def __init__(
        self, db: Database, relay: RelayClient, folder: Path, quota: int, moved: Signal, changed: Signal
    ) -> None:
        self._db, self._relay, self._folder, self._quota = db, relay, folder, quota
        self._moved, self._changed = moved, changed
        self._tasks: dict[Cid, asyncio.Task[None]] = {}
        self._streams = asyncio.Semaphore(STREAMS)
        self._flying: dict[tuple[Cid, int], int] = {}
        self._counting = asyncio.Lock()
        self.fetched: dict[Cid, Signal] = {}
        self.meter, self.meters = Meter(), dict[Cid, Meter]()

    def path(self, cid: Cid, n: int) -> Path:
        """Where a sealed pack is."""
        return self._folder / cid.hex() / str(n)

    async def run(self) -> None:
        """Keeps one task for each open cid, until cancelled."""
        try:
            while True:
                seen = self._moved.seen
                found = await self._db.run(
                    lambda con: rows(
                        con,
                        f"SELECT cid, min(tid) AS tid FROM receives WHERE state IN ({_OPEN}) GROUP BY cid",
                    )
                )
                wanted = {Cid(r["cid"]): r["tid"] for r in found}
                for cid in wanted.keys() - self._tasks.keys():
                    self.signal(cid)
                    with about(wanted[cid]):  # a task keeps what is said where it begins
                        self._tasks[cid] = asyncio.create_task(self._follow(cid))
                for cid in self._tasks.keys() - wanted.keys():
                    await _end(self._tasks.pop(cid))
                    await self._drop(cid)
                await self._moved.wait(seen, 30)
        finally:
            tasks, self._tasks = self._tasks, {}
            await _end(*tasks.values())

    def signal(self, cid: Cid) -> Signal:
        """Set after each pack that arrived."""
        return self.fetched.setdefault(cid, Signal())

    async def _drop(self, cid: Cid) -> None:
        await self._db.run(lambda con: con.execute("DELETE FROM in_packs WHERE cid=?", (cid,)))
        await asyncio.to_thread(shutil.rmtree, self._folder / cid.hex(), True)
        self.fetched.pop(cid, None)
        self.meters.pop(cid, None)

    async def sweep(self) -> None:
        """Deletes what ended while this gateway was down."""
        open_now = f"SELECT cid FROM receives WHERE state IN ({_OPEN})"

        def work(con: Con) -> set[str]:
            con.execute(f"DELETE FROM in_packs WHERE cid NOT IN ({open_now})")
            return {Cid(r["cid"]).hex() for r in rows(con, open_now)}

        keep = await self._db.run(work)
        for folder in self._folder.iterdir():
            if folder.name not in keep:
                await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _follow(self, cid: Cid) -> None:
        """Lists and fetches until cancelled; a fault (a full disk) makes it rest, and begin again."""
        while True:
            try:
                (self._folder / cid.hex()).mkdir(mode=0o700, parents=True, exist_ok=True)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._list_all(cid))
                    group.create_task(self._fetch_all(cid, group))
            except* Exception as why:  # it begins again from the database
                log.error("prefetch rests", kind=type(why.exceptions[0]).__name__)
            await asyncio.sleep(_REST)

    async def _list_all(self, cid: Cid) -> None:
        """Asks for what is new; and, after a quiet while or a failure, for all: a relay restored from a backup counts
        from an older number, and what a relay once said of a number or a size may have been wrong.
        """
        after, pause = 0, 0.5
        while True:
            try:
                page = await self._relay.list_packs(cid, after)
            except (RelayDownError, RelayRefusal) as why:
                # 403 until S has named us as a reader; the relay is down; all was deleted
                log.info("prefetch waits", code=why.code)
                await asyncio.sleep(pause)
                after, pause = 0, min(pause * 2, 10.0)
                continue
            after, pause = page.next if page.packs else 0, 0.5
            if page.packs:
                await self._list(cid, page.packs)
                self.signal(cid).set()
            else:
                await asyncio.sleep(_REST)

    async def _fetch_all(self, cid: Cid, group: asyncio.TaskGroup) -> None:
        signal = self.signal(cid)
        while True:
            seen = signal.seen
            async with self._counting:  # two offers must not take the same room
                flying = dict(self._flying)
                mine = sum(1 for name in flying if name[0] == cid)
                missing = await self._db.run(partial(self._missing, cid=cid, flying=flying))
                for n, size in missing[: max(0, STREAMS * 2 - mine)]:
                    self._flying[cid, n] = size
                    group.create_task(self._fetch(cid, n, size))
            await signal.wait(seen, 1.0)

    async def _list(self, cid: Cid, packs: list[PackLine]) -> None:
        good = [
            (cid, p.n, p.kind, p.size)
            for p in packs
            if p.kind in ("D", "M") and p.size in SIZES and 0 <= p.n < _MOST
        ]
        await self._db.run(
            lambda con: con.executemany(
                "INSERT INTO in_packs (cid, n, kind, size) VALUES (?,?,?,?) ON CONFLICT (cid, n) DO UPDATE"
                " SET kind=excluded.kind, size=excluded.size WHERE have=0"
                " AND (kind<>excluded.kind OR size<>excluded.size)",
                good,
            )
        )
        self._changed.set()

    def _missing(self, con: Con, cid: Cid, flying: dict[tuple[Cid, int], int]) -> list[tuple[int, int]]:
        """Numbers and sizes of what to fetch next, within the quota while nobody has said yes."""
        found = rows(con, "SELECT n, size FROM in_packs WHERE cid=? AND have=0 ORDER BY n LIMIT 64", (cid,))
        packs = [(r["n"], r["size"]) for r in found if (cid, r["n"]) not in flying]
        if value(con, "SELECT 1 FROM receives WHERE cid=? AND state='OPENED'", (cid,)):
            named = value(con, "SELECT max(n) FROM in_records WHERE cid=?", (cid,)) or 0
            return [(n, size) for n, size in packs if n <= named + _WINDOW]
        room = self._quota - value(con, _KEPT) - sum(flying.values())
        fitting: list[tuple[int, int]] = []
        for n, size in packs:
            room -= size
            if room < 0:
                break
            fitting.append((n, size))
        return fitting

    async def _fetch(self, cid: Cid, n: int, size: int) -> None:
        try:
            async with self._streams:
                ct = await self._relay.get_pack(cid, n)
            if len(ct) != size:
                log.warning("a pack has another size than listed")
                await asyncio.sleep(1)
                return
            await asyncio.to_thread(_write, self.path(cid, n), ct)
            await self._db.run(
                lambda con: con.execute("UPDATE in_packs SET have=1 WHERE cid=? AND n=?", (cid, n))
            )
            self.meter.add(size)
            self.meters.setdefault(cid, Meter()).add(size)
            self._changed.set()
        except (RelayDownError, RelayRefusal, OSError):
            await asyncio.sleep(1)
        finally:
            self._flying.pop((cid, n), None)
            self.signal(cid).set()

    async def refetch(self, cid: Cid, n: int) -> int:
        """A pack did not open: fetches it again; how often that happened."""
        bad: int = await self._db.run(
            lambda con: (
                value(
                    con, "UPDATE in_packs SET have=0, bad=bad+1 WHERE cid=? AND n=? RETURNING bad", (cid, n)
                )
                or 0
            )
        )
        self.signal(cid).set()
        return bad


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _write(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
