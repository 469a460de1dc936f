"""What the PACS has of one transfer, on disk: one row for each (destination, SOP Instance UID, transfer).

    listed -> sending -> stored | failed

`sending` is on disk before the first byte goes to the PACS, so after a crash it means: not known. `settling`
says what is done about those. `stored` and `failed` are final, and say what they rest on: `proof` is `store`
(the PACS's answer to a C-STORE), `find` (its answer to a query) or `commit` (it answers for it), `status` is the PACS's
own, `note` is ours. One way leads back: what the PACS says afterwards that it does not have (`proving`) is `listed`
again, once; `lost` counts that. What another transfer brought under the same UID is looked at first (`holdings`).

Results are booked in batches, one commit for all that came meanwhile. What a full disk or another fault did
not let in is kept and booked later: the PACS has it all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.errors import DiskFullError
from clients.gateway.store.database import Con, Database, rows
from transfer.ids import Tid
from transfer.messages import ItemEntry

log = structlog.get_logger()
REST = 2.0
"""Seconds before what a full disk did not take is written again."""
_MARKED = 32
"""Items that one commit marks as on their way."""
_PAUSE = 0.05
"""Seconds in which results gather for one commit; after a crash the PACS is asked for those that were not booked."""

LOST = "lost"
"""The note of an item that the PACS did not have twice."""

Proof = Literal["", "store", "find", "commit"]


class Result(msgspec.Struct, frozen=True):
    """What became of item `no`; `proof` is empty where the PACS does not have it."""

    no: int
    proof: Proof
    status: int | None = None
    note: str = ""
    syntax: str = ""
    """In which it was stored, where that is not the study's own."""
    study_uid: str = ""
    series_uid: str = ""
    """By which it can be asked for later; empty where it was never read."""

    @property
    def state(self) -> str:
        """Of its row."""
        return "stored" if self.proof else "failed"


class Ledger:
    """The rows of one transfer at one destination."""

    def __init__(self, tid: Tid, destination: str, db: Database, clock: Clock, changed: Signal) -> None:
        self.tid, self.destination = tid, destination
        self._db, self._clock, self._changed = db, clock, changed
        self.settled: set[int] = set()
        """Items that were stored or had failed when `load` looked."""
        self.unknown: set[int] = set()
        """Items that were on their way then: they may be in the PACS."""
        self._marked = 0
        self._results: list[Result] = []
        self._more = asyncio.Event()
        self._booking = asyncio.Lock()

    def load(self, con: Con) -> None:
        """Reads what an earlier run left."""
        found = rows(
            con,
            "SELECT no, state FROM ledger WHERE tid=? AND destination=? AND state<>'listed'",
            (self.tid, self.destination),
        )
        self.unknown = {r["no"] for r in found if r["state"] == "sending"}
        self.settled = {r["no"] for r in found} - self.unknown
        self._marked = 0

    def list_items(self, con: Con, items: Sequence[ItemEntry]) -> None:
        """A record has named `items`."""
        now = self._clock.now()
        con.executemany(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, sop_class)"
            " VALUES (?,?,?,?,?,?,'listed',?,?) ON CONFLICT (destination, sop_uid, tid) DO UPDATE"
            " SET sop_class=excluded.sop_class WHERE sop_class=''",  # of an older version's row
            [
                (self.destination, x.sop_uid, self.tid, x.no, x.series, x.hash, now, x.sop_class)
                for x in items
            ],
        )

    def again(self) -> None:
        """More was listed, among it perhaps lower numbers than those that are marked."""
        self._marked = 0

    async def sending(
        self, no: int, listed: int, note: Callable[[Con, Ledger, int, int], None] = lambda *_: None
    ) -> None:
        """On disk before the first byte goes: `no` may be at the PACS. One commit says it for the next few of the
        `listed` items too; `note` sees which, in that transaction.
        """
        if no < self._marked:
            return
        self._marked = min(no + _MARKED, listed)

        def work(con: Con) -> None:
            con.execute(
                "UPDATE ledger SET state='sending', at=? WHERE tid=? AND destination=? AND state='listed'"
                " AND no>=? AND no<?",
                (self._clock.now(), self.tid, self.destination, no, self._marked),
            )
            note(con, self, no, self._marked)

        await self.write(work)

    def settle(self, result: Result) -> None:
        """Takes a result, to be booked soon."""
        self._results.append(result)
        self._more.set()

    async def book(self) -> None:
        """Books results as they come, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                await self.flush()
            except DiskFullError:
                self._more.set()
                await asyncio.sleep(REST)
            await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Books all results so far. One at a time: whoever comes second finds what the first took booked, or to do."""
        async with self._booking:
            results, self._results = self._results, []
            if not results:
                return
            try:
                await self._db.run(lambda con: self._write_results(con, results))
            except BaseException:
                self._results = results + self._results
                raise
        self._changed.set()

    def _write_results(self, con: Con, results: list[Result]) -> None:
        now = self._clock.now()
        con.executemany(
            "UPDATE ledger SET state=?, proof=?, status=?, note=?, at=?, syntax=?, study_uid=?, series_uid=?"
            " WHERE tid=? AND destination=? AND no=?",
            [(*_row(r, now), self.tid, self.destination, r.no) for r in results],
        )
        con.execute(
            "UPDATE receives SET first_stored_at=CASE first_stored_at WHEN 0 THEN ? ELSE first_stored_at END,"
            " last_stored_at=? WHERE tid=?",
            (now if any(r.proof for r in results) else 0, now, self.tid),
        )

    async def write(self, work: Callable[[Con], object]) -> None:
        """A transaction, once there is room for it: nothing else is torn down for want of it."""
        while True:
            try:
                await self._db.run(work)
                return
            except DiskFullError as why:
                log.error("a delivery waits", code=why.code)
            await asyncio.sleep(REST)


def _row(r: Result, now: int) -> tuple[str | int | None, ...]:
    return r.state, r.proof, r.status, r.note, now, r.syntax, r.study_uid, r.series_uid
