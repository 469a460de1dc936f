"""What the ledger says of proof, for `proving`: who is stored and not committed, who is now, who is lost."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clients.gateway.receiving.ledger import LOST, Ledger, Proof
from clients.gateway.store.database import Con, Database, rows, value


class Unproven(msgspec.Struct, frozen=True):
    """A stored item that the PACS does not answer for yet."""

    no: int
    sop_class: str
    """Empty in a row of an older version; so is `study_uid`."""
    sop_uid: str
    study_uid: str
    series_uid: str
    proof: Proof


class Proofs:
    """Of one transfer at one destination."""

    def __init__(self, ledger: Ledger, db: Database) -> None:
        self._ledger, self._db = ledger, db
        self._whose = (ledger.tid, ledger.destination)

    async def open(self, after: int, most: int) -> list[Unproven]:
        """The next `most` stored items behind item `after` that are not committed."""
        found: list[Unproven] = await self._db.run(
            lambda con: [
                Unproven(*row)
                for row in rows(
                    con,
                    "SELECT no, sop_class, sop_uid, study_uid, series_uid, proof FROM ledger WHERE tid=?"
                    " AND destination=? AND state='stored' AND proof<>'commit' AND no>? ORDER BY no LIMIT ?",
                    (*self._whose, after, most),
                )
            ]
        )
        return found

    async def prove(self, proof: Proof, numbers: Sequence[int]) -> None:
        """The PACS has said more of these than before."""
        if numbers:
            await self._ledger.write(
                lambda con: con.executemany(
                    "UPDATE ledger SET proof=? WHERE tid=? AND destination=? AND no=? AND state='stored'",
                    [(proof, *self._whose, no) for no in numbers],
                )
            )

    async def lose(self, numbers: Sequence[int]) -> bool:
        """The PACS does not have these, whatever it has answered. Each is to be sent once more; who is lost again is a
        gap. Whether something is to be sent.
        """
        again = False

        def work(con: Con) -> None:
            nonlocal again
            con.executemany(
                "UPDATE ledger SET state=CASE lost WHEN 0 THEN 'listed' ELSE 'failed' END, proof='',"
                " note=CASE lost WHEN 0 THEN '' ELSE ? END, lost=lost+1"
                " WHERE tid=? AND destination=? AND no=? AND state='stored'",
                [(LOST, *self._whose, no) for no in numbers],
            )
            again = bool(
                value(
                    con,
                    "SELECT count(*) FROM ledger WHERE tid=? AND destination=? AND state='listed' AND lost=1",
                    self._whose,
                )
            )

        await self._ledger.write(work)
        return again
