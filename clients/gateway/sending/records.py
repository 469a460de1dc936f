"""What a manifest record of S says, from the rows of its spool (protocol s. 6).

A record names every pack and item that no record has named yet, and the series that they belong to. The last one
names all series, with the number of images that each should have: those that came until the study was closed, and
those of an import that was stopped and never came. So neither side calls a study complete that is not.
"""

from __future__ import annotations

import msgspec

from clients.gateway.store.database import Con, rows, value
from transfer.ids import Cid, Digest
from transfer.messages import ItemEntry, PackEntry, SeriesEntry

ITEMS = 4000
"""Items of one record."""

_NAME_SERIES = """
INSERT OR IGNORE INTO spool_series (cid, no, uid)
SELECT ?1, (SELECT count(*) FROM spool_series WHERE cid=?1) + row_number() OVER (ORDER BY s.no) - 1, s.uid
FROM series s WHERE s.study=?2 AND s.uid NOT IN (SELECT uid FROM spool_series WHERE cid=?1)
AND (EXISTS (SELECT 1 FROM instances i JOIN spools p ON p.cid=?1 WHERE i.study=?2 AND i.series=s.uid
AND i.id<=p.frozen AND i.id>p.after)
OR EXISTS (SELECT 1 FROM imports m JOIN import_files f ON f.import=m.id JOIN spools p ON p.cid=?1 WHERE m.study=?2
AND m.stopped<>'' AND m.id>p.after_import AND f.series=s.uid))
"""
"""A series of which no image could be sent is named all the same."""

_WANT = """
SELECT (SELECT count(*) FROM instances i WHERE i.study=?1 AND i.series=?2 AND i.id<=p.frozen AND i.id>p.after)
+ (SELECT count(DISTINCT f.sop_uid) FROM imports m JOIN import_files f ON f.import=m.id
   WHERE m.study=?1 AND m.stopped<>'' AND m.id>p.after_import AND f.series=?2 AND NOT EXISTS
   (SELECT 1 FROM instances i WHERE i.study=?1 AND i.sop_uid=f.sop_uid AND i.id<=p.frozen))
FROM spools p WHERE p.cid=?3 AND p.frozen IS NOT NULL
"""
"""Images of a series: those that came until it was closed, and those of an import that never came. Of an addition:
since what was sent before."""


class Loose(msgspec.Struct, frozen=True):
    """What no record has named yet."""

    packs: list[PackEntry]
    series: list[SeriesEntry]
    items: list[ItemEntry]
    total: int
    """Items of the spool so far."""


def gather(con: Con, cid: Cid, study: str, *, end: bool) -> Loose:
    """What the next record names; `end`: it is the last one."""
    packs = [
        PackEntry(r["kind"], r["n"], r["size"], Digest(r["hash"]))
        for r in rows(
            con, "SELECT * FROM packs WHERE cid=? AND kind='D' AND record IS NULL ORDER BY n", (cid,)
        )
    ]
    items = [
        ItemEntry(
            r["no"], r["series"], r["sop_class"], r["sop_uid"], r["syntax"], r["codec"], r["offset"],
            r["length"], r["size"], Digest(r["hash"]),
        )
        for r in rows(
            con,
            "SELECT x.no, x.series, i.sop_class, i.sop_uid, i.syntax, x.codec, x.offset, x.length, i.size, i.hash"
            " FROM items x JOIN instances i ON i.id=x.instance WHERE x.cid=? AND x.record IS NULL"
            " ORDER BY x.no LIMIT ?",
            (cid, ITEMS),
        )
    ]  # fmt: skip
    if end:
        con.execute(_NAME_SERIES, (cid, study))
    series = []
    for entry in _all_series(con, cid, study):
        have = sum(1 for x in items if x.series == entry.no)
        if have or end:
            series.append(SeriesEntry(entry.no, entry.uid, have, entry.want, end))
    total = value(con, "SELECT count(*) FROM items WHERE cid=?", (cid,))
    return Loose(packs, series, items, total)


def keep(con: Con, cid: Cid, study: str, i: int, n: int, digest: Digest, loose: Loose, *, end: bool) -> None:
    """Record `i` is in pack `n`: what it names is named, and the last one ends the spool."""
    con.execute("UPDATE packs SET record=? WHERE cid=? AND kind='D' AND record IS NULL", (i, cid))
    con.executemany("UPDATE items SET record=? WHERE cid=? AND no=?", [(i, cid, x.no) for x in loose.items])
    con.execute("INSERT INTO records (cid, i, n, hash) VALUES (?,?,?,?)", (cid, i, n, digest))
    con.execute(
        "UPDATE spools SET next_i=?, last_record=?, ended=? WHERE cid=?", (i + 1, digest, int(end), cid)
    )
    if end:
        con.execute("UPDATE spool_series SET closed=1 WHERE cid=?", (cid,))
        unsent = sum(s.want for s in _all_series(con, cid, study)) - loose.total
        con.execute("UPDATE spools SET unsent=? WHERE cid=?", (unsent, cid))


def _all_series(con: Con, cid: Cid, study: str) -> list[SeriesEntry]:
    """Every series of the spool, with the number of its images once that is known."""
    found = rows(con, "SELECT * FROM spool_series WHERE cid=? ORDER BY no", (cid,))
    return [
        SeriesEntry(
            r["no"], r["uid"], 0,
            value(con, _WANT, (study, r["uid"], cid)) or 0, bool(r["closed"]),
        )
        for r in found
    ]  # fmt: skip
