"""What a destination holds already, whichever transfer brought it: one UID, one instance, once.

A SOP Instance UID names one instance for ever (PS3.5 9), so the ledger of a destination is one ledger over all
transfers: the same study may be sent twice, or by two hospitals, and a UID may come again with other bytes. Here it is
decided what happens then, before anything is sent.

- *Never raced.* One UID at one destination is in the hands of one delivery at a time (`alone`). Whoever comes second
  waits, and then sees what the first one's outcome was: its results are booked before they are looked at.
- *What counts as there* is the newest row of another transfer that is `stored`, gave up without an answer, or is
  `sending` without a delivery that knows better. A row that was refused, or that the PACS lost since, says nothing.
- *The same* is: the same SHA-256 of the original data set, filed under the same number of the same issuer. When it was
  coerced and by whose leave is no difference; that is in the stored image's own record. So a study that is sent again
  is the same while the policy, the sender's code and, under `match`, the choice of staff are what they were. Two
  senders of one study are two prefixes: not the same, because it would be one UID in two patients' folders.
- *Asked first.* What the ledger says was so once; images are deleted, moved and lost. So the PACS is asked by C-FIND:

| it answers | the same | not the same |
|---|---|---|
| there | not sent: stored, proof `find`, note `had` | not sent: failed, note `uid-conflict`, an alarm |
| absent | sent | sent: the other one is gone, and this is how a person solves a conflict |
| nothing | not sent where the row is younger than a day, on that row's proof; else sent again, and said | conflict |

A row is forgotten thirty days after its transfer's end (`store.retention`): what is older is only known by the PACS.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping
from typing import Literal
from weakref import WeakValueDictionary

import msgspec

from clients.gateway.clock import Clock
from clients.gateway.errors import DiskFullError
from clients.gateway.receiving.identity import Frozen, frozen_of
from clients.gateway.receiving.ledger import REST, Ledger, Proof, Result
from clients.gateway.store.database import Con, Database, rows
from transfer.ids import Digest, Tid

HAD, CONFLICT = "had", "uid-conflict"
"""Notes of an item that another transfer brought before, and of one that must not take another's place."""
CONFLICT_SENTENCE = (
    "Some images have the number (SOP Instance UID) of an image that the PACS has with other content or under another"
    " patient. They were not stored; the rest was. Compare both. If the new ones are right, delete the others in the"
    " PACS and ask the sender to send the study again."
)
_FRESH = 24 * 3600
"""Seconds for which an answer to a C-STORE of another transfer is believed where the PACS answers no queries."""


class Held(msgspec.Struct, frozen=True):
    """What another transfer has brought under the same UID."""

    same: bool
    proof: Proof
    status: int | None
    at: int

    def settle(self, no: int, answer: Literal["there", "absent", "mute"], now: int) -> Result | None:
        """What becomes of item `no` after the PACS's answer; None: it is to be sent."""
        if answer == "absent":
            return None
        if not self.same:
            return Result(no, "", None, CONFLICT)
        if answer == "there":
            return Result(no, "find", None, HAD)
        if self.proof and now < self.at + _FRESH:
            return Result(no, self.proof if self.proof != "commit" else "store", self.status, HAD)
        return None


class Holdings:
    """Of all destinations of one gateway."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._open: list[Ledger] = []
        self._hands: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._shared: set[tuple[str, str]] = set()
        """(destination, UID) that more than one transfer names. Grows while deliveries run, by what comes twice."""

    @contextlib.contextmanager
    def opened(self, ledgers: Iterable[Ledger]) -> Iterator[None]:
        """While a delivery writes to `ledgers`, others book its results before they look."""
        added = list(ledgers)
        self._open += added
        try:
            yield
        finally:
            self._open = [x for x in self._open if x not in added]
            if not self._open:
                self._shared.clear()

    def note(self, con: Con, ledger: Ledger, first: int, end: int) -> None:
        """Remembers which of the items from `first` to `end` another transfer names too. In the transaction that marks
        them as on their way: of two transfers at least the second sees the other, and what it sees counts for both.
        """
        for row in rows(
            con,
            "SELECT DISTINCT mine.sop_uid FROM ledger mine JOIN ledger other ON other.destination=mine.destination"
            " AND other.sop_uid=mine.sop_uid AND other.tid<>mine.tid"
            " WHERE mine.tid=? AND mine.destination=? AND mine.no>=? AND mine.no<?",
            (ledger.tid, ledger.destination, first, end),
        ):
            self._shared.add((ledger.destination, row["sop_uid"]))

    @contextlib.asynccontextmanager
    async def alone(self, ledger: Ledger, uid: str) -> AsyncIterator[None]:
        """Nobody else has `uid` at this destination in hand. To be left after the result was given to the ledger."""
        key = (ledger.destination, uid)
        lock = self._hands.get(key)
        if lock is None:
            lock = self._hands[key] = asyncio.Lock()
        async with lock:
            yield

    async def look(self, ledger: Ledger, uid: str, digest: Digest) -> Held | None:
        """What another transfer has brought under `uid`; None where nobody has. For who is `alone` with it."""
        if (ledger.destination, uid) not in self._shared:
            return None
        others = [x for x in self._open if x.tid != ledger.tid and x.destination == ledger.destination]
        for other in others:
            await _book(other)
        # whoever is at work has not sent what it has not in hand, whatever it has marked
        unsent = {bytes(x.tid): x.unknown for x in others}
        return await self._db.run(lambda con: _held(con, ledger, uid, digest, unsent))


async def _book(ledger: Ledger) -> None:
    """All that its delivery knows is in the database, once there is room for it."""
    while True:
        try:
            await ledger.flush()
            return
        except DiskFullError:
            await asyncio.sleep(REST)


def _held(
    con: Con, own: Ledger, uid: str, digest: Digest, unsent: Mapping[bytes, Container[int]]
) -> Held | None:
    found = rows(
        con,
        "SELECT * FROM ledger WHERE destination=? AND sop_uid=? AND tid<>? AND (state IN ('stored','sending')"
        " OR state='failed' AND note='unknown') ORDER BY at DESC, rowid DESC",
        (own.destination, uid, own.tid),
    )
    for row in found:
        tid = bytes(row["tid"])
        if row["state"] == "sending" and tid in unsent and row["no"] not in unsent[tid]:
            continue
        return Held(_same(con, own.tid, digest, row), row["proof"], row["status"], row["at"])
    return None


def _same(con: Con, tid: Tid, digest: Digest, row: sqlite3.Row) -> bool:
    mine, other = frozen_of(con, tid), frozen_of(con, Tid(row["tid"]))
    return bytes(row["hash"]) == digest and _filed_under(mine) == _filed_under(other)


def _filed_under(frozen: Frozen | None) -> tuple[str, str] | None:
    """Number and issuer; None for the sender's own, which the bytes say."""
    if frozen is None or frozen.change is None:
        return None
    return frozen.change.local.patient_id, frozen.change.local.issuer or ""
