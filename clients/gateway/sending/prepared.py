"""Transfers that rules prepare: a study from this scanner, with this description, for that trauma center.

A rule only proposes. The desk shows the study as prepared for a site; a person makes the offer with one click, or
dismisses it, and both are in the audit log with their name. Nothing is sealed, offered or sent before that. What was
dismissed stays so: a study is prepared once.

A rule names patterns as a shell does (`*`, `?`, without regard to case); all that it names must fit, those of a series
in one and the same series. The station's name is read where it lies, in the first image of each series.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import OrderedDict
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.config import PrepareSection
from clients.gateway.dicom.header import Texts
from clients.gateway.dicom.part10 import read_meta
from clients.gateway.dicom.structure import read_elements
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.peers.pins import Pins
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, rows
from transfer.ids import SiteId

log = structlog.get_logger()
_STATION, _CHARSET = 0x00081010, 0x00080005
_LOOKED = 10_000
_SERIES = 200


class Facts(msgspec.Struct, frozen=True):
    """What rules look at: one series of a study."""

    calling_aet: str
    study_description: str
    series_description: str
    modality: str
    station: str


class Prepared:
    """Holds studies against the rules as they arrive."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        pins: Pins,
        rules: tuple[PrepareSection, ...],
        incoming: Path,
        arrived: Signal,
        changed: Signal,
    ) -> None:
        self._db, self._clock, self._pins, self._rules = db, clock, pins, rules
        self._incoming, self._arrived, self._changed = incoming, arrived, changed
        self._looked: OrderedDict[tuple[str, str], None] = OrderedDict()
        """(study, series) that fitted no rule."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            seen = self._arrived.seen
            await self.look()
            await self._arrived.wait(seen, 60.0)

    async def look(self) -> None:
        """Holds what is new against the rules."""
        for row in await self._db.run(_new_series):
            await self._look(row)

    async def _look(self, row: sqlite3.Row) -> None:
        key = (row["study"], row["uid"])
        if key in self._looked:
            return
        station = await asyncio.to_thread(station_of, self._incoming / row["file"])
        facts = Facts(row["source"], row["study_text"], row["text"], row["modality"], station)
        number = next((i for i, rule in enumerate(self._rules, 1) if fits(rule, facts)), 0)
        if not number:
            self._looked[key] = None
            if len(self._looked) > _LOOKED:
                self._looked.popitem(last=False)
            return
        rule = self._rules[number - 1]
        try:
            peer = await self._pins.find(rule.to)
        except AbsentError:
            log.warning("a prepare rule names no paired site", rule=number)
            self._looked[key] = None
            return
        now = self._clock.now()

        def work(con: Con) -> None:
            con.execute(
                "INSERT OR IGNORE INTO prepared (study, peer, reason, rule, state, at) VALUES (?,?,?,?,'prepared',?)",
                (row["study"], peer.site, rule.reason, number, now),
            )
            audit.record(con, "gateway", "study.prepared", row["study"], f"rule {number}", now)

        await self._db.run(work)
        self._changed.set()

    async def wanted(self, study: str) -> tuple[SiteId, str]:
        """Whom a study is prepared for, and why it would be sent. Raises `GatewayError`."""
        row = await self._db.run(lambda con: waiting(con, study))
        if row is None:
            raise GatewayError(
                "No transfer is prepared for this study any more. Reload the desk and choose again.",
                code="prepared",
            )
        return SiteId(row["peer"]), str(row["reason"])

    async def settle(self, study: str, state: str, actor: str) -> None:
        """It was offered, or dismissed. Raises `AbsentError` where nothing was prepared."""
        now = self._clock.now()

        def work(con: Con) -> None:
            done = con.execute(
                "UPDATE prepared SET state=?, by=?, at=? WHERE study=? AND state='prepared'",
                (state, actor, now, study),
            ).rowcount
            if not done:
                raise AbsentError
            audit.record(con, actor, f"study.prepared-{state}", study, "", now)

        await self._db.run(work)
        self._changed.set()


def waiting(con: Con, study: str) -> sqlite3.Row | None:
    """What is prepared for a study and neither offered nor dismissed: peer, its name, reason and rule."""
    return one(
        con,
        "SELECT p.*, s.name FROM prepared p JOIN peers s ON s.site=p.peer AND s.unpinned_at=0 WHERE p.study=?"
        " AND p.state='prepared' AND NOT EXISTS (SELECT 1 FROM sends x WHERE x.study=p.study AND x.peer=p.peer)",
        (study,),
    )


def _new_series(con: Con) -> list[sqlite3.Row]:
    """Series of studies that no rule has fitted yet and that nobody has sent, each with its first image."""
    return rows(
        con,
        "SELECT r.study, r.uid, r.modality, r.description AS text, s.source, s.description AS study_text,"
        " (SELECT i.file FROM instances i WHERE i.study=r.study AND i.series=r.uid ORDER BY i.id LIMIT 1) AS file"
        " FROM series r JOIN studies s ON s.id=r.study"
        " WHERE NOT EXISTS (SELECT 1 FROM prepared p WHERE p.study=r.study)"
        " AND NOT EXISTS (SELECT 1 FROM sends x WHERE x.study=r.study)"
        " AND EXISTS (SELECT 1 FROM instances i WHERE i.study=r.study AND i.series=r.uid)"
        " ORDER BY s.last_at DESC, r.no LIMIT ?",
        (_SERIES,),
    )


def fits(rule: PrepareSection, facts: Facts) -> bool:
    """Whether a series is what a rule describes."""
    pairs = (
        (rule.calling_aet, facts.calling_aet), (rule.station, facts.station), (rule.modality, facts.modality),
        (rule.study_description, facts.study_description), (rule.series_description, facts.series_description),
    )  # fmt: skip
    return all(fnmatchcase(said.casefold(), pattern.casefold()) for pattern, said in pairs if pattern)


def station_of(path: Path) -> str:
    """Station Name (0008,1010) of a file of ours; empty where it has none, or is gone."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        meta = read_meta(lambda at, n: os.pread(fd, n, at))
        size = os.fstat(fd).st_size
        wanted = frozenset({_STATION, _CHARSET})
        found = read_elements(lambda at, n: os.pread(fd, n, at), meta.data_offset, size, meta.syntax, wanted)
    except (GatewayError, OSError):
        return ""
    finally:
        os.close(fd)
    return Texts(found).text(_STATION)
