"""What follows a transfer here, under its yes (protocol s. 7, kind `add`): what it brings, and which of it is changed.

An addition is a transfer of its own, with its own ledger and receipt; whose images it has is its parent's (`identity`).
A report that comes in the place of an earlier one of the study is flagged: somebody may have acted on the first. It
is known by its title, without what a sender appends to say which edition it is; where it has none, by its series.
"""

from __future__ import annotations

import re
import sqlite3

from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.receiving.holdings import HAD
from clients.gateway.sending.words import contents
from clients.gateway.store import audit
from clients.gateway.store.database import Con, rows, value
from transfer import jws
from transfer.ids import Cid, Digest, SiteId, Tid
from transfer.messages import ItemEntry
from transfer.states import OPEN_RECEIVER

CHANGED = "report-changed"
_CHANGED = (
    "A report of this study was changed: the newer one came with this addition. Read it, and tell who acted on the"
    " first."
)
_REPORTS = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(88\.(?!59\Z)[0-9]+|104\.[12])\Z")
"""Structured reports without Key Object Selection, Encapsulated PDF and CDA (PS3.4 B.5)."""
_NEWER = """
SELECT i.tid, i.no FROM in_reports i JOIN receives r ON r.tid=i.tid
JOIN receives t ON t.tid=?2 AND coalesce(r.parent, r.tid)=coalesce(t.parent, t.tid)
WHERE i.title=?1 AND EXISTS (SELECT 1 FROM in_reports e JOIN receives o ON o.tid=e.tid
    WHERE e.title=i.title AND (e.sop_uid<>i.sop_uid OR e.hash<>i.hash) AND o.rowid<r.rowid
    AND coalesce(o.parent, o.tid)=coalesce(t.parent, t.tid))
"""
"""Reports of one family under one title that another transfer, offered before, brought otherwise."""
_EDITION = re.compile(r"\s*\([^()]*\)\s*\Z")
"""What `sending.reports` appends, as "(corrected)"."""


def parent_of(con: Con, peer: SiteId, offer: Digest) -> Tid | None:
    """The transfer of this site whose offer this is, if its study was opened here (protocol s. 7)."""
    opened = rows(
        con, "SELECT r.tid, r.offer FROM used u JOIN receives r ON r.tid=u.tid WHERE r.peer=?", (peer,)
    )
    return next((Tid(row["tid"]) for row in opened if jws.digest(row["offer"]) == offer), None)


def is_report(sop_class: str) -> bool:
    """Whether instances of this class are documents that somebody reads as a report."""
    return _REPORTS.match(sop_class) is not None


def note_report(con: Con, tid: Tid, item: ItemEntry, h: InstanceHeader, now: int) -> None:
    """Remembers a report, and flags it where another transfer of the same study brought one under its title."""
    title = _EDITION.sub("", h.document_title).strip().casefold() or h.series_uid
    con.execute(
        "INSERT OR IGNORE INTO in_reports (tid, no, sop_uid, hash, title, changed) VALUES (?,?,?,?,?,0)",
        (tid, item.no, item.sop_uid, item.hash, title),
    )
    for row in rows(con, _NEWER, (title, tid)):  # the earlier one may be on its way still
        con.execute("UPDATE in_reports SET changed=1 WHERE tid=? AND no=?", (row["tid"], row["no"]))
        if audit.alarm(con, row["tid"], CHANGED, _CHANGED, now):
            audit.record(con, "gateway", "incoming.report-changed", bytes(row["tid"]).hex(), "", now)


def additions_of(con: Con, tid: bytes) -> list[str]:
    """What was added to a transfer, oldest first."""
    return [
        bytes(r["tid"]).hex()
        for r in rows(con, "SELECT tid FROM receives WHERE parent=? ORDER BY rowid", (tid,))
    ]


def contents_of(con: Con, row: sqlite3.Row) -> str:
    """What an addition brings that was not here: "7 images, 1 report". Once it has ended: what of it is stored."""
    ended = "" if row["state"] in OPEN_RECEIVER else " AND l.state='stored'"
    found = rows(
        con,
        "SELECT s.modality, count(DISTINCT l.no) AS n FROM ledger l JOIN in_series s ON s.cid=?2 AND s.no=l.series"
        f" WHERE l.tid=?1 AND l.note<>'{HAD}'{ended} GROUP BY s.no ORDER BY s.no",
        (row["tid"], Cid(row["cid"])),
    )
    return contents([(r["modality"], r["n"]) for r in found]) if found else ""


def changed_reports(con: Con, tid: bytes) -> int:
    """Reports of a transfer that came in the place of earlier ones."""
    return int(value(con, "SELECT count(*) FROM in_reports WHERE tid=? AND changed=1", (tid,)))
