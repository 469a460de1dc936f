"""What ended is remembered for thirty days with its names, and after that without them (docs/security/privacy.md).

Staff need a while to look back: who was it, what is missing, whom to call. After `REMEMBER` seconds past
its end a transfer keeps its state, its signed messages and its audit lines; the words about the patient,
the series and the UIDs go, and so do files that were refused.
"""

from __future__ import annotations

from clients.gateway.store.database import Con, quoted, rows
from transfer.states import OPEN_RECEIVER

REMEMBER = 30 * 24 * 3600
_BATCH = 50


def forget(con: Con, now: int) -> tuple[bool, list[str]]:
    """(whether something was erased, names of refused files to delete)."""
    before = now - REMEMBER
    erased = con.execute(
        "UPDATE sends SET summary=NULL WHERE summary IS NOT NULL AND ended_at>0 AND ended_at<?", (before,)
    ).rowcount
    erased += con.execute(
        "DELETE FROM spool_series WHERE NOT EXISTS"
        " (SELECT 1 FROM sends s WHERE s.cid=spool_series.cid AND (s.ended_at=0 OR s.ended_at>=?))",
        (before,),
    ).rowcount
    old = rows(
        con,
        "SELECT tid, cid FROM receives r WHERE ended_at>0 AND ended_at<? AND (patient_name<>'' OR birth_date<>''"
        " OR what<>'' OR EXISTS (SELECT 1 FROM ledger l WHERE l.tid=r.tid)"
        " OR EXISTS (SELECT 1 FROM in_records i WHERE i.cid=r.cid)) AND NOT EXISTS"
        f" (SELECT 1 FROM receives o WHERE o.cid=r.cid AND o.state IN ({quoted(OPEN_RECEIVER)})) LIMIT ?",
        (before, _BATCH),
    )
    for row in old:
        con.execute("UPDATE receives SET patient_name='', birth_date='', what='' WHERE tid=?", (row["tid"],))
        for table in ("ledger", "presented", "identities", "identity_changes", "in_reports"):
            con.execute(f"DELETE FROM {table} WHERE tid=?", (row["tid"],))
        for table in ("in_records", "in_series"):
            con.execute(f"DELETE FROM {table} WHERE cid=?", (row["cid"],))
    files = [r["file"] for r in rows(con, "SELECT file FROM refusals WHERE at<? LIMIT ?", (before, _BATCH))]
    con.executemany("DELETE FROM refusals WHERE file=? AND at<?", [(file, before) for file in files])
    return erased + len(old) > 0, files
