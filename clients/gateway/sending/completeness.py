"""Whether a study that came here by itself is all of it: asked at the archive, which has it too.

A scanner or a PACS that pushes a study never says how many images it has. So once a study is quiet for a moment, the
archive is asked to list it (C-FIND at IMAGE level), and each image that it lists is looked for here. While some are
missing the study is held open for a while past its last image (`closing`), and asked for again now and then; where the
archive cannot be asked, has the study not, or lists less than is here, quiet time decides as it did before, and the
desk says which of them it was. What an import brought is not in this archive and is not asked for.
"""

from __future__ import annotations

import asyncio
import sqlite3

from clients.gateway.clock import Clock, Signal
from clients.gateway.dicom.source import Source
from clients.gateway.sending.closing import OPEN_PULLS
from clients.gateway.sending.held import held_against, here_of, says
from clients.gateway.store.database import Con, Database, one, value

_SETTLE = 5
"""Seconds without a new image after which the archive is asked."""
_AGAIN = 30
"""Seconds between two questions about the same study."""
_LOOK = 1.0


class Completeness:
    """Asks one archive about the studies here."""

    def __init__(
        self, db: Database, clock: Clock, source: Source | None, changed: Signal, *, quiet: int
    ) -> None:
        self._db, self._clock, self._source, self._changed = db, clock, source, changed
        self._settle = min(_SETTLE, quiet)

    async def run(self) -> None:
        """Until cancelled. Only where there is an archive."""
        source = self._source
        assert source is not None
        while True:
            row = await self._db.run(self._next)
            if row is None:
                await asyncio.sleep(_LOOK)
            else:
                await self._ask(source, row)

    def _next(self, con: Con) -> sqlite3.Row | None:
        """A quiet study about which nothing is known since its last image, or whose images may still come."""
        now = self._clock.now()
        return one(
            con,
            "SELECT s.id, s.uid, s.last_at FROM studies s LEFT JOIN archive_says a ON a.study=s.id"
            " WHERE s.source<>'import' AND s.last_at<=?1 AND EXISTS (SELECT 1 FROM instances i WHERE i.study=s.id)"
            f" AND NOT EXISTS (SELECT 1 FROM pulls p WHERE p.uid=s.uid AND p.state IN {OPEN_PULLS})"
            " AND (a.study IS NULL OR (a.at<s.last_at+?3 AND a.at<=?2-?3) OR (s.closed=0 AND a.at<=?2-?4"
            " AND (a.missing<>0 OR a.code<>'' OR a.listed<(SELECT count(*) FROM instances i WHERE i.study=s.id))))"
            " ORDER BY s.last_at DESC LIMIT 1",
            (now - self._settle, now, self._settle, _AGAIN),
        )

    async def _ask(self, source: Source, row: sqlite3.Row) -> None:
        listing = await source.listing(row["uid"])
        code = listing.trouble or ("" if listing.status == 0 else "source-status")
        now = self._clock.now()

        def work(con: Con) -> None:
            if not value(con, "SELECT 1 FROM studies WHERE id=?", (row["id"],)):
                return
            listed, missing = held_against(listing, here_of(con, row["uid"]))
            says(con, row["id"], now, code, listed, missing)

        await self._db.run(work)
        self._changed.set()


def words(con: Con, study: sqlite3.Row, here: int) -> tuple[str, int]:
    """How complete a study is, in words, and how many images are missing; -1: not known."""
    row = one(con, "SELECT * FROM archive_says WHERE study=?", (study["id"],))
    if row is not None and row["missing"] > 0:
        return f"{row['missing']:,} missing: PACS says {row['listed']:,}, here {here:,}", row["missing"]
    if row is not None and row["missing"] == 0 and row["listed"] == here:
        return f"complete: PACS says {here:,}, here {here:,}", 0
    return _without(study, row, here), -1


def _without(study: sqlite3.Row, row: sqlite3.Row | None, here: int) -> str:
    """Where the archive does not settle it."""
    if row is not None and row["code"]:
        why = f"the PACS could not be asked ({row['code']})"
    elif row is not None and row["listed"] > 0:
        why = f"PACS says {row['listed']:,}, here {here:,}"
    elif row is not None:
        why = "the PACS does not have it"
    else:
        why = ""
    if not study["closed"]:
        end = "still arriving"
    elif study["closed_by"] == "quiet":
        end = "nothing new for a while"
    elif study["source"] == "import":
        end = "imported"
    else:
        end = f"closed by {study['closed_by']}"
    return f"{why}; {end}" if why else end
