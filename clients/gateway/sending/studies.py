"""Studies that arrived here, from a scanner, a PACS or a folder.

A file is in `DIR/incoming`, whole and on disk, before this module hears of it: the SCP answered 0x0000, so
it may not be lost. `adopt` reads its header, hashes its data set and gives it a row; a file without a row
(a crash, a full disk) is adopted later. What cannot be used goes to `DIR/refused` with a named reason and is
counted at its study; it stays there for thirty days (`store.retention`):

    dicom-two-patients   another patient's identity in the same study
    dicom-conflict       a SOP Instance UID that is here already, with other bytes
    (and the codes of `dicom.header`)

The same instance again, byte for byte, is no error and no second copy.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import uuid
from collections import Counter
from pathlib import Path

import msgspec
import structlog

from clients.gateway.clock import Clock, Signal
from clients.gateway.dicom.berths import recover
from clients.gateway.dicom.header import InstanceHeader, read_header
from clients.gateway.errors import AbsentError, GatewayError, ImportingError
from clients.gateway.sending.closing import close_quiet, is_pulled
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, quoted, rows, value
from transfer.states import OPEN_SENDER

log = structlog.get_logger()
_BATCH = 32
_CHUNK = 2**20
_RETRY = 5.0
"""Seconds after which files that a full disk left without a row are tried again."""
_GONE = "gone"
"""No code of a refusal: an earlier start has put this file away, before its sender's event came."""


class Arrival(msgspec.Struct, frozen=True):
    """A whole file in `incoming`, and where it came from (a calling AE title, or "import")."""

    path: Path
    source: str


class Adopted(msgspec.Struct, frozen=True):
    """What became of one arrival: its study, or the code of a refusal."""

    study: str
    code: str = ""


class _Read(msgspec.Struct, frozen=True):
    arrival: Arrival
    header: InstanceHeader
    size: int
    hash: bytes


def _tidy(incoming: Path) -> None:
    """Before anybody writes or reads there: what had landed when an earlier life ended has its name, which a row may
    know already; what was being imported is half.
    """
    try:
        kept, _ = recover(incoming)
        for part in incoming.glob("*.part"):
            part.unlink()
    except OSError as why:  # the SCP tries again, and says so
        log.error("the folder of what arrived cannot be tidied", kind=type(why).__name__)
    else:
        if kept:
            log.info("kept what had arrived before a crash", instances=kept)


class Studies:
    """Adopts files, closes studies, forgets them when their time is over."""

    def __init__(self, db: Database, clock: Clock, folder: Path, arrived: Signal, changed: Signal) -> None:
        self._db, self._clock = db, clock
        self._arrived, self._changed = arrived, changed
        self.incoming, self.refused = folder / "incoming", folder / "refused"
        for path in (self.incoming, self.refused):
            path.mkdir(mode=0o700, exist_ok=True)
        _tidy(self.incoming)
        self._queue: asyncio.Queue[tuple[Arrival, asyncio.Future[Adopted]]] = asyncio.Queue(1000)
        self._early: dict[str, Adopted] = {}
        self._owing = False
        self._looked = asyncio.Event()
        self.results = Counter({"taken": 0, "same": 0, "refused": 0})
        """What became of files, since the start."""

    async def adopt(self, arrival: Arrival) -> Adopted:
        """Takes one file in; returns when it has its row or its refusal."""
        done: asyncio.Future[Adopted] = asyncio.get_running_loop().create_future()
        await self._queue.put((arrival, done))
        return await done

    async def settled(self) -> None:
        """Returns when the files that an earlier start left without a row were looked at."""
        await self._looked.wait()

    async def run(self) -> None:
        """Adopts what comes, in batches of one transaction, until cancelled."""
        await self._adopt_leftovers()
        self._looked.set()
        while True:
            batch = await self._next_batch()
            if not batch:
                await self._adopt_leftovers()
                continue
            results = [Adopted("", "gateway")] * len(batch)
            try:
                results = await self._adopt_batch([arrival for arrival, _ in batch])
            finally:  # whatever happened: nobody waits for ever, and the files are in `incoming`
                for (_, done), result in zip(batch, results, strict=True):
                    if not done.done():
                        done.set_result(result)
            self.tell()

    async def _next_batch(self) -> list[tuple[Arrival, asyncio.Future[Adopted]]]:
        """What has come; nothing, after a while, where files wait for their row."""
        try:
            async with asyncio.timeout(_RETRY if self._owing else None):
                batch = [await self._queue.get()]
        except TimeoutError:
            return []
        while len(batch) < _BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    def tell(self) -> None:
        """Something of a study changed."""
        self._arrived.set()
        self._changed.set()

    async def _adopt_leftovers(self) -> None:
        self._owing = False
        known = await self._db.run(lambda con: {r[0] for r in rows(con, "SELECT file FROM instances")})
        left = [p for p in self.incoming.iterdir() if p.suffix == ".dcm" and p.name not in known]
        left.sort(key=_written_at)  # of two patients in one study the first has it
        for i in range(0, len(left), _BATCH):
            paths = left[i : i + _BATCH]
            for path, result in zip(
                paths, await self._adopt_batch([Arrival(p, "") for p in paths]), strict=True
            ):
                if result.code:
                    self._early[path.name] = result
        if left:
            self.tell()

    async def _adopt_batch(self, arrivals: list[Arrival]) -> list[Adopted]:
        readings = await asyncio.to_thread(lambda: [_read(a) for a in arrivals])
        now = self._clock.now()

        def work(con: Con) -> list[Adopted]:
            return [self._adopt(con, a, r, now) for a, r in zip(arrivals, readings, strict=True)]

        try:
            results = await self._db.run(work)
        except GatewayError as why:  # the files stay in `incoming`
            self._owing = True
            return [Adopted("", why.code) for _ in arrivals]
        self.results.update({"": "taken", "same": "same"}.get(r.code, "refused") for r in results)
        await asyncio.to_thread(self._put_away, arrivals, results)
        return results

    def _adopt(self, con: Con, arrival: Arrival, read: _Read | str, now: int) -> Adopted:
        if read == _GONE:
            return self._early.pop(arrival.path.name, Adopted("", "dicom-unreadable"))
        return (
            self._refuse(con, arrival, read, now) if isinstance(read, str) else self._insert(con, read, now)
        )

    def _put_away(self, arrivals: list[Arrival], results: list[Adopted]) -> None:
        for arrival, result in zip(arrivals, results, strict=True):
            try:
                if result.code == "same":
                    arrival.path.unlink(missing_ok=True)
                elif result.code and arrival.path.exists():
                    os.replace(arrival.path, self.refused / arrival.path.name)
            except OSError as why:  # at the next start
                log.error("a refused file cannot be put away", kind=type(why).__name__)

    def _refuse(self, con: Con, arrival: Arrival, code: str, now: int, study: str = "") -> Adopted:
        if value(con, "SELECT 1 FROM refusals WHERE file=?", (arrival.path.name,)):
            return Adopted(study, code)  # counted before a crash, not yet put away
        con.execute(
            "INSERT INTO refusals (study, code, file, source, at) VALUES (?,?,?,?,?)",
            (study or None, code, arrival.path.name, arrival.source, now),
        )
        con.execute("UPDATE studies SET refused=refused+1 WHERE id=?", (study,))
        log.warning("instance refused", code=code)
        return Adopted(study, code)

    def _insert(self, con: Con, read: _Read, now: int) -> Adopted:
        h = read.header
        study = one(con, "SELECT * FROM studies WHERE uid=?", (h.study_uid,))
        if study is None:
            ident = add_study(con, h, read.arrival.source, now)
        else:
            ident = study["id"]
            if other_patient(study, h):
                return self._refuse(con, read.arrival, "dicom-two-patients", now, ident)
            twin = one(con, "SELECT * FROM instances WHERE study=? AND sop_uid=?", (ident, h.sop_uid))
            if twin is not None:
                if twin["file"] == read.arrival.path.name:
                    return Adopted(ident)
                if twin["hash"] == read.hash:
                    return Adopted(ident, "same" if self._intact(twin) else self._replace(con, twin, read))
                return self._refuse(con, read.arrival, "dicom-conflict", now, ident)
            learn(con, ident, h)
        self._insert_instance(con, ident, read, now)
        return Adopted(ident)

    def _intact(self, instance: sqlite3.Row) -> bool:
        """Whether its file still is what it was when it came."""
        try:
            with (self.incoming / instance["file"]).open("rb") as file:
                file.seek(instance["data_offset"])
                return hashlib.file_digest(file, "sha256").digest() == bytes(instance["hash"])
        except OSError:
            return False

    def _replace(self, con: Con, instance: sqlite3.Row, read: _Read) -> str:
        """The file was lost or changed on this disk: the same instance, come again, takes its place."""
        con.execute(
            "UPDATE instances SET file=?, data_offset=? WHERE id=?",
            (read.arrival.path.name, read.header.data_offset, instance["id"]),
        )
        return ""

    def _insert_instance(self, con: Con, study: str, read: _Read, now: int) -> None:
        h = read.header
        add_series(con, study, h)
        con.execute(
            "INSERT INTO instances (study, series, sop_uid, sop_class, syntax, file, data_offset, size, hash, scout,"
            " number, at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (study, h.series_uid, h.sop_uid, h.sop_class, h.syntax, read.arrival.path.name, h.data_offset,
             read.size, read.hash, int(h.scout), h.instance_number, now),
        )  # fmt: skip
        con.execute("UPDATE studies SET last_at=?, closed=0 WHERE id=?", (now, study))
        late = rows(
            con,
            "SELECT s.tid FROM sends s JOIN spools p ON p.cid=s.cid WHERE s.study=? AND p.frozen IS NOT NULL"
            f" AND s.add_seconds=0 AND s.kind<>'add' AND s.state IN ({quoted(OPEN_SENDER)})",
            (study,),
        )
        for row in late:  # what may have additions has them, or says itself that it is too late
            audit.alarm(
                con, row["tid"], "late-images",
                "Images arrived after this transfer was closed. Send the study again when it is complete.", now,
            )  # fmt: skip

    async def close(self, study: str, by: str) -> None:
        """Staff say that the study is complete. Raises `AbsentError`, or `ImportingError` while an import says that
        it is not.
        """
        now = self._clock.now()

        def work(con: Con) -> None:
            if not value(con, "SELECT 1 FROM studies WHERE id=?", (study,)):
                raise AbsentError
            if value(con, "SELECT 1 FROM imports WHERE study=? AND stopped=''", (study,)):
                raise ImportingError
            if is_pulled(con, study):
                raise ImportingError(
                    "Images of this study are still being fetched from the PACS. Stop the pull first, or wait.",
                    code="pulling",
                )
            con.execute("UPDATE studies SET closed=1, closed_by=? WHERE id=? AND closed=0", (by, study))
            audit.record(con, by, "study.close", study, "", now)

        await self._db.run(work)
        self.tell()

    async def close_quiet(self, quiet: int) -> None:
        """Closes studies to which nothing was added for `quiet` seconds, and nothing is about to be (`closing`)."""
        now = self._clock.now()
        if await self._db.run(lambda con: close_quiet(con, now - quiet, now)):
            self.tell()

    async def forget_old(self, keep: int) -> None:
        """Deletes studies whose last image and last transfer are over for `keep` seconds, with their files.

        The files go before their rows: what a crash leaves is deleted the next time, and never adopted again.
        """
        now = self._clock.now()
        before = now - keep

        def work(con: Con) -> int:
            old = rows(
                con,
                "SELECT id FROM studies t WHERE closed=1 AND last_at<? AND NOT EXISTS (SELECT 1 FROM sends s WHERE"
                f" s.study=t.id AND (s.state IN ({quoted(OPEN_SENDER)}) OR s.ended_at>=? OR s.add_until>?)) LIMIT 2",
                (before, before, now),
            )
            for (study,) in old:
                for row in rows(con, "SELECT file FROM instances WHERE study=?", (study,)):
                    (self.incoming / row["file"]).unlink(missing_ok=True)
                con.execute("DELETE FROM studies WHERE id=?", (study,))
                audit.record(con, "gateway", "study.forget", study, "", now)
            return len(old)

        if await self._db.run(work):
            await self._db.scrub()
            self._changed.set()


def _written_at(path: Path) -> int:
    """ns since the epoch; 0 where it is gone, which `_read` says."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read(arrival: Arrival) -> _Read | str:
    """Header, data-set length and hash of a file; or the code of what is wrong with it."""
    if not arrival.path.exists():
        return _GONE
    try:
        header = read_header(arrival.path)
        digest, size = hashlib.sha256(), 0
        with arrival.path.open("rb") as file:
            file.seek(header.data_offset)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except GatewayError as why:
        return why.code
    except OSError:
        return "dicom-unreadable"
    return _Read(arrival, header, size, digest.digest())


def add_study(con: Con, h: InstanceHeader, source: str, now: int) -> str:
    """A study that nothing was known of; its id here."""
    ident = uuid.uuid4().hex
    con.execute(
        "INSERT INTO studies (id, uid, patient_name, patient_id, issuer, birth_date, sex, accession, date,"
        " time, description, source, first_at, last_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (ident, h.study_uid, h.patient_name, h.patient_id, h.issuer, h.birth_date, h.sex, h.accession,
         h.study_date, h.study_time, h.study_description, source, now, now),
    )  # fmt: skip
    return ident


def add_series(con: Con, study: str, h: InstanceHeader) -> None:
    """The series of an image: the next one, where it is new."""
    no = value(con, "SELECT count(*) FROM series WHERE study=?", (study,))
    con.execute(
        "INSERT INTO series (study, uid, no, number, modality, description, scout) VALUES (?,?,?,?,?,?,?)"
        " ON CONFLICT (study, uid) DO UPDATE SET scout=max(scout, excluded.scout)",
        (study, h.series_uid, no, h.series_number, h.modality, h.series_description, int(h.scout)),
    )


def other_patient(study: sqlite3.Row, h: InstanceHeader) -> bool:
    """Whether an instance names another patient than its study: by id and birth date, or by name where neither is
    known on both sides. A name alone decides nothing else: it is spelt in many ways.
    """
    pairs = [
        (a, b)
        for a, b in ((study["patient_id"], h.patient_id), (study["birth_date"], h.birth_date))
        if a and b
    ]
    if not pairs:
        names = [_letters(study["patient_name"]), _letters(h.patient_name)]
        pairs = [(names[0], names[1])] if all(names) else []
    return any(a != b for a, b in pairs)


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def learn(con: Con, study: str, h: InstanceHeader) -> None:
    """What the study's first instances did not say."""
    known = {
        "patient_name": h.patient_name, "patient_id": h.patient_id, "issuer": h.issuer, "birth_date": h.birth_date,
        "sex": h.sex, "accession": h.accession, "date": h.study_date, "time": h.study_time,
        "description": h.study_description,
    }  # fmt: skip
    sets = ", ".join(f"{name}=CASE {name} WHEN '' THEN ? ELSE {name} END" for name in known)
    con.execute(f"UPDATE studies SET {sets} WHERE id=?", (*known.values(), study))
