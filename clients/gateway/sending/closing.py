"""When a study closes by itself: nothing has come for a while, and nothing says that more will (protocol s. 6).

An import or a pull that is under way keeps it open, and so do images that the archive lists and that are not here, for
`HOLD` seconds past the last one that came. After that it closes with what there is, and its transfers say what is
missing: better a study that is named incomplete in time than none.
"""

from __future__ import annotations

from clients.gateway.store import audit
from clients.gateway.store.database import Con, quoted, rows, value
from transfer.states import OPEN_SENDER

HOLD = 900
OPEN_PULLS = "('WAITING', 'RUNNING')"
"""States of a pull that has not ended."""


def is_pulled(con: Con, study: str) -> bool:
    """Whether a pull of this study is under way, or waits."""
    found = value(
        con,
        f"SELECT 1 FROM pulls p JOIN studies s ON s.uid=p.uid WHERE s.id=? AND p.state IN {OPEN_PULLS}",
        (study,),
    )
    return found is not None


def close_quiet(con: Con, before: int, now: int) -> int:
    """Closes the studies that are quiet since `before`, save those that something or somebody still adds to; returns
    how many. Where images are known to be missing, their transfers say so.
    """
    quiet = rows(
        con,
        "SELECT s.id, coalesce(a.missing, 0) AS missing FROM studies s LEFT JOIN archive_says a ON a.study=s.id"
        " WHERE s.closed=0 AND s.last_at<=?1"
        " AND NOT EXISTS (SELECT 1 FROM imports m WHERE m.study=s.id AND m.stopped='')"
        f" AND NOT EXISTS (SELECT 1 FROM pulls p WHERE p.uid=s.uid AND p.state IN {OPEN_PULLS})"
        " AND (coalesce(a.missing, 0)<=0 OR s.last_at<=?2)",
        (before, now - HOLD),
    )
    for row in quiet:
        con.execute("UPDATE studies SET closed=1, closed_by='quiet' WHERE id=?", (row["id"],))
        if row["missing"] > 0:
            _alarm(con, row["id"], row["missing"], now)
    return len(quiet)


def _alarm(con: Con, study: str, missing: int, now: int) -> None:
    found = rows(con, f"SELECT tid FROM sends WHERE study=? AND state IN ({quoted(OPEN_SENDER)})", (study,))
    for (tid,) in found:
        audit.alarm(
            con, tid, "archive-missing",
            f"The PACS lists {missing} more images of this study than came here. Get them from there and send again.",
            now,
        )  # fmt: skip
