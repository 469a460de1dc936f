"""What comes after a transfer was closed, and belongs to it: a late series, a report (protocol s. 7, kind `add`).

The question named a time, and the yes covers what arrives in it. Then each burst of late images is a child offer with
its own tid, content key, manifest, receipt and end; it is released in the transaction that signs it, and nobody is
asked again. The parent is not touched: its state and its last record are what they were.

An addition waits until R has acknowledged the parent's release: what came first there would be refused. It follows
only while the parent may still have one (`_LIVING`): the time runs, staff or the person have not closed it, and the
images went to where the yes said.
"""

from __future__ import annotations

import sqlite3

from clients.gateway.errors import GatewayError
from clients.gateway.sending.diversion import Diversion
from clients.gateway.sending.offering import Parent
from clients.gateway.store import audit
from clients.gateway.store.database import Con, quoted, rows, value
from transfer.errors import StateError
from transfer.ids import SiteId, Tid
from transfer.states import OPEN_SENDER

MOST = 7 * 86400
"""Seconds for which additions may follow (protocol s. 2)."""
CLOSED = "additions-closed"
"""Why an addition was stopped that had not left when the time was over."""
LATE = "late-images"
_LATE = "Images or reports came after additions to this transfer were closed. Send them as a new transfer."
_LATE_DIVERTED = (
    "Images or reports came after the study was sealed for this hospital. After a diversion nothing follows by itself:"
    " send the study again."
)
ELSEWHERE = "parent-diverted"
"""Why an addition ended whose transfer was diverted."""

_LIVING = (
    "s.release IS NOT NULL AND s.parent IS NULL AND s.state IN ('RELEASED','COMPLETE','PARTIAL')"
    " AND EXISTS (SELECT 1 FROM peers WHERE site=s.peer AND unpinned_at=0)"
)
_SENT = """
(SELECT CASE count(*) WHEN count(p.frozen) THEN max(p.frozen) END FROM spools p WHERE p.cid IN
    (SELECT cid FROM sends WHERE tid=s.tid UNION SELECT cid FROM sends WHERE parent=s.tid AND kind='add'))
"""
"""The newest instance that transfer `s` or one of its additions holds; NULL while one of them takes up what comes."""
_LATE_BEHIND = f"(SELECT max(id) FROM instances WHERE study=s.study)>{_SENT}"
_BEGIN = f"""
SELECT s.*, {_SENT} AS sent FROM sends s WHERE s.add_until>0 AND s.add_until>?1 AND {_LIVING}
AND NOT EXISTS (SELECT 1 FROM sends s2 WHERE s2.study=s.study AND s2.peer=s.peer AND s2.rowid>s.rowid
    AND s2.add_until>0 AND s2.add_until>?1 AND {_LIVING.replace("s.", "s2.")})
AND {_LATE_BEHIND}
"""
"""Of two transfers of one study to one place the newer one has the additions."""
_OVER = f"""
SELECT s.* FROM studies t CROSS JOIN sends s ON s.study=t.id
WHERE ((s.parent IS NULL AND s.add_until>0 AND s.add_until<=?1) OR
    (s.kind='divert' AND EXISTS (SELECT 1 FROM sends f WHERE f.tid=s.parent AND f.add_until>0)))
AND s.state IN ('RELEASED','COMPLETE','PARTIAL')
AND NOT EXISTS (SELECT 1 FROM alarms a WHERE a.tid=s.tid AND a.code='{LATE}') AND {_LATE_BEHIND}
"""
"""What had additions, and whose late images follow no more: their time is over, or the study was diverted. By way of
the studies that are kept (CROSS JOIN: in this order), since transfers are kept for good.
"""
_CUT = """
UPDATE spools SET frozen=(SELECT max(id) FROM instances WHERE study=spools.study) WHERE frozen IS NULL AND cid IN
(SELECT c.cid FROM sends c JOIN sends s ON s.tid=c.parent WHERE c.kind='add' AND c.state='RELEASED' AND s.add_until<=?)
"""
"""What has left goes on with what it has by then."""


class Additions(Diversion):
    """The part of `Offers` that knows of late images."""

    async def follow_up(self) -> bool:
        """Begins an addition for each transfer that has late images, and ends those whose time was over before they
        left. True while one waits for R to have its parent.
        """
        now = self._clock.now()

        def work(con: Con) -> tuple[bool, bool]:
            late = rows(con, _BEGIN, (now,))
            for row in late:
                self._begin(con, row, row["sent"], now)
            over = self._end_overdue(con, now)
            waits = (
                "SELECT 1 FROM sends WHERE parent IS NOT NULL AND kind='add' AND state='PREPARING' LIMIT 1"
            )
            return bool(late) or over, value(con, waits) is not None

        happened, waits = await self._db.run(work)
        if happened:
            await self._db.scrub()
            self._changed.set()
        return waits

    def _begin(self, con: Con, row: sqlite3.Row, sent: int, now: int) -> None:
        parent = Parent(Tid(row["tid"]), "add", after=sent)
        self._create(con, row["study"], SiteId(row["peer"]), row["reason"], "gateway", now, parent=parent)

    def _end_overdue(self, con: Con, now: int) -> bool:
        waiting = rows(
            con,
            "SELECT c.* FROM sends c JOIN sends s ON s.tid=c.parent WHERE c.kind='add' AND c.state='PREPARING'"
            f" AND NOT (s.add_until>? AND {_LIVING})",
            (now,),
        )
        for child in waiting:
            self._end(con, child, "stop", now, why=CLOSED)
            audit.record(con, "gateway", "transfer.stop", bytes(child["tid"]).hex(), CLOSED, now)
            audit.alarm(con, child["parent"], LATE, _LATE, now)
        con.execute(_CUT, (now,))
        late = rows(con, _OVER, (now,))
        for row in late:
            audit.alarm(con, row["tid"], LATE, _LATE_DIVERTED if row["parent"] else _LATE, now)
        return bool(waiting or late)

    def _release_addition(self, con: Con, child: sqlite3.Row, now: int) -> None:
        """`covered`, in the transaction that signed its offer. Raises `StateError` where the parent covers nothing."""
        living = f"SELECT * FROM sends s WHERE s.tid=? AND s.add_until>? AND {_LIVING}"
        found = rows(con, living, (child["parent"], now))
        if not found or not self._cover(con, child, found[0], now):
            raise StateError

    async def close_additions(self, tid: Tid, actor: str) -> None:
        """Staff: nothing follows any more. What has left goes on. Raises `GatewayError` where nothing could follow."""
        now = self._clock.now()

        def work(con: Con) -> None:
            if not self._close_additions(con, self._row(con, tid), actor, now):
                raise GatewayError(
                    "Nothing can be added to this transfer, so there is nothing to close.", code="not-living"
                )

        await self._commit(work, erased=True)

    def _close_additions(self, con: Con, row: sqlite3.Row, actor: str, now: int) -> bool:
        if row["add_until"] <= now:
            return False
        con.execute("UPDATE sends SET add_until=? WHERE tid=?", (now, row["tid"]))
        audit.record(con, actor, "transfer.close-additions", bytes(row["tid"]).hex(), "", now)
        self._end_overdue(con, now)
        return True

    def _end(self, con: Con, row: sqlite3.Row, event: str, now: int, why: str = "") -> None:
        """What was stopped, or goes elsewhere, has nothing added to it either. Any other end is the parent's alone."""
        super()._end(con, row, event, now, why)
        if row["kind"] == "add" or event not in ("stop", "divert"):
            return
        adding = f"SELECT * FROM sends WHERE parent=? AND kind='add' AND state IN ({quoted(OPEN_SENDER)})"
        for child in rows(con, adding, (row["tid"],)):
            elsewhere = event == "divert"
            left = elsewhere and child["state"] != "PREPARING"  # else no offer was made, so nobody is told
            super()._end(con, child, "divert" if left else "stop", now, why=ELSEWHERE if elsewhere else "")
            action = "transfer.diverted" if left else "transfer.stop"
            audit.record(con, "gateway", action, bytes(child["tid"]).hex(), "parent", now)

    def stop_by_person(self, con: Con, row: sqlite3.Row, now: int, actor: str = "phone") -> str:
        """Whoever asks to stop, before the end or after it, wants nothing to follow either."""
        self._close_additions(con, row, actor, now)
        return super().stop_by_person(con, row, now, actor)


def additions_of(con: Con, tid: bytes) -> list[str]:
    """What was added to a transfer, oldest first."""
    found = rows(con, "SELECT tid FROM sends WHERE parent=? AND kind='add' ORDER BY rowid", (tid,))
    return [bytes(row["tid"]).hex() for row in found]
