"""Where the series of one transfer go, in the ledger: their rows at each destination (`routing`, `destinations`).

A series has its destinations from its first restored instance on, and keeps them: after a restart they are read off the
ledger, so that a rule that was changed meanwhile does not tear a series apart. Only a destination that gateway.toml
does not name any more is forgotten. Items of a series that has none yet are listed under the empty destination; what
does not restore before its series has one stays there, as the gap that it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.receiving.destinations import Destinations, Pacs
from clients.gateway.receiving.ledger import Ledger, Result
from clients.gateway.receiving.routing import Kind, Sender
from clients.gateway.receiving.storing import Storing
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows
from transfer.ids import SiteId, Tid
from transfer.messages import ItemEntry
from transfer.sites import fingerprint

NOWHERE = ""
"""In the ledger: the destination of what has none yet."""


class Routes:
    """Of one transfer. `storing` makes the feeder of a destination; `unrouted` is the ledger of what has none."""

    def __init__(
        self, tid: Tid, destinations: Destinations, unrouted: Ledger, storing: Callable[[Pacs], Storing]
    ) -> None:
        self._tid, self._destinations, self._unrouted = tid, destinations, unrouted
        self._storing = {pacs.key: storing(pacs) for pacs in destinations}
        self._series: dict[int, tuple[Storing, ...]] = {}
        self._all: tuple[Storing, ...] | None = None
        self._one = asyncio.Lock()

    def __iter__(self) -> Iterator[Storing]:
        return iter(self._storing.values())

    @property
    def ledgers(self) -> list[Ledger]:
        """Of all destinations, and of none."""
        return [self._unrouted, *(storing.ledger for storing in self)]

    async def write(self, work: Callable[[Con], object]) -> None:
        """A transaction, once there is room for it."""
        await self._unrouted.write(work)

    @property
    def missed(self) -> bool:
        """Whether a destination was passed over in this pass."""
        return any(storing.missed for storing in self)

    def load(self, con: Con, peer: SiteId, now: int) -> None:
        """Reads what an earlier run left."""
        self._now = now
        self._sender = _sender(con, peer)
        self._forget(con)
        for ledger in self.ledgers:
            ledger.load(con)
        found = self._destinations.of_all(self._sender)
        self._all = None if found is None else self._feeders(found)
        self._series = {}
        for row in rows(
            con,
            "SELECT DISTINCT series, destination FROM ledger WHERE tid=? AND destination<>''"
            " ORDER BY series, destination",
            (self._tid,),
        ):
            feeder = self._storing[row["destination"]]
            self._series[row["series"]] = (*self._series.get(row["series"], ()), feeder)
        alone = self._all is not None and len({*self._all, *sum(self._series.values(), ())}) == 1
        for storing in self:
            storing.patient = alone
            storing.begin()

    def _forget(self, con: Con) -> None:
        """A PACS that is not set any more is not delivered to, and what it holds another does not."""
        keys = [NOWHERE, *self._storing]
        places = ",".join("?" * len(keys))
        con.execute(f"DELETE FROM ledger WHERE tid=? AND destination NOT IN ({places})", (self._tid, *keys))

    def list_items(self, con: Con, items: Sequence[ItemEntry]) -> None:
        """A record has named `items`."""
        by: dict[Ledger, list[ItemEntry]] = {}
        for item in items:
            for ledger in self._ledgers_of(item.series):
                by.setdefault(ledger, []).append(item)
        for ledger, some in by.items():
            ledger.list_items(con, some)

    def is_settled(self, item: ItemEntry) -> bool:
        """Whether every destination of an item was done with it when `load` looked."""
        return item.no in self._unrouted.settled or all(
            item.no in ledger.settled for ledger in self._ledgers_of(item.series)
        )

    def fail(self, item: ItemEntry, code: str) -> None:
        """It cannot be restored."""
        for ledger in self._ledgers_of(item.series):
            if item.no not in ledger.settled:
                ledger.settle(Result(item.no, "", None, code))

    async def of(self, item: ItemEntry, header: InstanceHeader) -> tuple[Storing, ...]:
        """Who still wants a restored item; decides for its series, if it is the first of it."""
        async with self._one:
            to = self._to(item.series)
            if to is None:
                kind = Kind(header.modality, header.body_part)
                to = self._feeders(self._destinations.of_series(self._sender, kind))
                await self._decide(item.series, to)
        return tuple(storing for storing in to if item.no not in storing.ledger.settled)

    async def _decide(self, series: int, to: tuple[Storing, ...]) -> None:
        names = " ".join(storing.name for storing in to)

        def work(con: Con) -> None:
            for storing in to:
                con.execute(
                    "INSERT OR IGNORE INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, sop_class)"
                    " SELECT ?, sop_uid, tid, no, series, hash, state, at, sop_class FROM ledger"
                    " WHERE tid=? AND destination=? AND series=? AND state='listed'",
                    (storing.ledger.destination, self._tid, NOWHERE, series),
                )
            con.execute(
                "DELETE FROM ledger WHERE tid=? AND destination=? AND series=? AND state='listed'",
                (self._tid, NOWHERE, series),
            )
            audit.record(
                con, "gateway", "incoming.routed", self._tid.hex(), f"series {series}: {names}", self._now
            )
            # here, in the database's own thread: what is listed from now on is listed there
            self._series[series] = to

        await self.write(work)
        for storing in to:
            storing.ledger.again()

    def _to(self, series: int) -> tuple[Storing, ...] | None:
        return self._series.get(series, self._all)

    def _ledgers_of(self, series: int) -> list[Ledger]:
        to = self._to(series)
        return [self._unrouted] if to is None else [storing.ledger for storing in to]

    def _feeders(self, found: Sequence[Pacs]) -> tuple[Storing, ...]:
        return tuple(self._storing[pacs.key] for pacs in found)


def _sender(con: Con, peer: SiteId) -> Sender:
    row = one(con, "SELECT name FROM peers WHERE site=?", (peer,))
    return Sender(row["name"] if row is not None else "", fingerprint(peer))
