"""An `Engine` that lives in memory: what the staff pages are tested against, and drawn with.

It keeps the promises of `clients.gateway.views.Engine` with plain dictionaries: sending makes an offer with a
link and a PIN, stopping and re-opening follow `transfer.states`, the audit log only grows. What a phone or the
other site would do, a test does with `change`. `hospital()` fills one with a day's work.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from clients.gateway.clock import Clock, Signal, SystemClock
from clients.gateway.console.staff import hash_password
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.sending.notes import asked, words_of
from clients.gateway.sending.reports import Draft, check
from clients.gateway.sending.scans import read_scanned
from clients.gateway.views import (
    AuditView,
    CheckView,
    NoteView,
    NoticeView,
    PeerView,
    ReportView,
    SeriesProgress,
    SeriesView,
    SessionView,
    StudyView,
    TransferView,
    UserView,
)
from tests.fake_archive import FakeArchive
from tests.fake_identity import FakeIdentity, entry
from transfer.errors import StateError
from transfer.ids import SiteId
from transfer.links import VOICE_DIGITS, Door, make_address, make_link, make_nameplate, make_pin, spoken
from transfer.sites import Identity, fingerprint
from transfer.states import SENDER, TERMINAL, step
from transfer.tries import VOICE_SECONDS

T = TypeVar("T")
PASSWORD = "four unrelated words"
_HASHED = ""


def hashed_password() -> str:
    """The hash of `PASSWORD`, made once."""
    global _HASHED
    _HASHED = _HASHED or hash_password(PASSWORD)
    return _HASHED


class FakeEngine(FakeIdentity, FakeArchive):
    """A gateway in memory."""

    def __init__(self, clock: Clock | None = None, name: str = "Valley ED") -> None:
        super().__init__()
        self.name = name
        self.site = Identity(os.urandom(32)).site.text
        self.policy, self.add_seconds = "prefix", 86400
        self.page = "https://relay.example"
        self.clock = clock or SystemClock()
        self.fails: dict[str, Exception] = {}
        """By name of a method: what it raises instead of answering."""
        self.all_studies: dict[str, StudyView] = {}
        self.all_peers: dict[str, PeerView] = {}
        self.all_transfers: dict[str, TransferView] = {}
        self.lines: list[AuditView] = []
        self.reports: dict[tuple[str, str, str, bytes], str] = {}
        """Study, title, text and PDF of each report, and who added it."""
        self.people: dict[str, tuple[UserView, str]] = {}
        self.sessions: dict[str, SessionView] = {}
        self.signal = Signal()
        self.watchers = 0
        self.watched = asyncio.Event()

    def change(self, tid: str, **values: Any) -> TransferView:
        """What a phone, the other site or the network did to a transfer."""
        self.all_transfers[tid] = view = replace(self.all_transfers[tid], **values)
        self.signal.set()
        return view

    def put_study(self, study: StudyView) -> StudyView:
        """A study arrived, or got more images."""
        self.all_studies[study.id] = study
        self.signal.set()
        return study

    def put_peer(self, name: str, place: str = "", *, reachable: bool = True) -> PeerView:
        """A site is paired."""
        site = Identity(os.urandom(32)).site
        peer = PeerView(
            site=site.text, name=name, place=place, fingerprint=fingerprint(SiteId(site)), reachable=reachable,
            pinned_at=self.clock.now() - 30 * 86400, pinned_by="admin", roles=["send", "receive"],
        )  # fmt: skip
        self.all_peers[peer.site] = peer
        return peer

    def put_user(self, name: str, role: str) -> None:
        """A member of staff whose password is `PASSWORD`."""
        view = UserView(name=name, role=role, created_at=self.clock.now(), disabled=False)
        self.people[name] = (view, hashed_password())

    def disable(self, name: str) -> None:
        """A member of staff left."""
        view, hashed = self.people[name]
        self.people[name] = (replace(view, disabled=True), hashed)

    def actions(self) -> list[str]:
        """What the audit log says was done, oldest first."""
        return [line.action for line in self.lines]

    # The engine's own methods

    async def studies(self, query: str = "", limit: int = 100) -> list[StudyView]:
        self._may_fail("studies")
        words = query.casefold().split()
        found = [
            s for s in self.all_studies.values()
            if all(w in f"{s.patient_name} {s.patient_id} {s.accession}".casefold() for w in words)
        ]  # fmt: skip
        return sorted(found, key=lambda s: -s.last_at)[:limit]

    async def study(self, study_id: str) -> StudyView:
        self._may_fail("study")
        return entry(self.all_studies, study_id)

    async def close_study(self, study_id: str, actor: str) -> None:
        self.put_study(replace(await self.study(study_id), open=False))
        await self.record(actor, "study-closed", study_id)

    async def peers(self) -> list[PeerView]:
        self._may_fail("peers")
        return list(self.all_peers.values())

    async def pin_peer(self, card: str, actor: str) -> PeerView:
        raise GatewayError

    async def unpin_peer(self, name: str, actor: str) -> PeerView:
        raise GatewayError

    async def send(
        self, study_id: str, to: str, reason: str, actor: str, alt: Sequence[str] = (), add: int | None = None
    ) -> TransferView:
        self._may_fail("send")
        study, peer, now = await self.study(study_id), entry(self.all_peers, to), self.clock.now()
        view = blank(
            tid=secrets.token_hex(16), role="send", peer=peer.name, state="OFFERED", study=study.id, reason=reason,
            patient_name=study.patient_name, birth_date=study.birth_date, what=f"{study.modalities}, {study.date}",
            created_at=now, expires_at=now + 7200, link=make_link("https://relay.example", os.urandom(16)),
            alternates=[entry(self.all_peers, site).name for site in alt], add_until=now + add if add else 0,
            pin=make_pin(os.urandom), tries_left=5, reopens_left=3, bytes=study.bytes // 2, instances=study.instances,
            series=[_sealed(s) for s in study.series],
        )  # fmt: skip
        self.all_transfers[view.tid] = view
        self.put_study(replace(study, transfers=[view.tid, *study.transfers]))
        await self.record(actor, "offered", view.tid)
        return view

    async def transfers(self, role: str = "", limit: int = 100) -> list[TransferView]:
        self._may_fail("transfers")
        found = [t for t in self.all_transfers.values() if role in ("", t.role)]
        return sorted(found, key=lambda t: -t.created_at)[:limit]

    async def transfer(self, tid: str) -> TransferView:
        self._may_fail("transfer")
        return entry(self.all_transfers, tid)

    async def close_additions(self, tid: str, actor: str) -> TransferView:
        self._may_fail("close_additions")
        await self.record(actor, "close-additions", tid)
        return self.change(tid, add_until=self.clock.now())

    async def divert(self, tid: str, to: str, actor: str) -> TransferView:
        self._may_fail("divert")
        old = await self.transfer(tid)
        new = await self.send(old.study, to, old.reason, actor)
        covered = new.peer in old.alternates and old.decided_at
        self.change(
            tid,
            state="DIVERTED",
            ended_at=self.clock.now(),
            link="",
            pin="",
            after=new.tid,
            after_peer=new.peer,
        )
        await self.record(actor, "diverted", tid)
        moved = (
            {"state": "RELEASED", "released_at": self.clock.now(), "link": "", "pin": ""} if covered else {}
        )
        return self.change(new.tid, kind="divert", before=tid, **moved)

    async def cancel(self, tid: str, actor: str) -> TransferView:
        view = await self.transfer(tid)
        state = step(SENDER, view.state, "stop").to
        await self.record(actor, "stopped", tid)
        return self.change(tid, state=state, ended_at=self.clock.now(), link="", pin="")

    async def stop_asked(self, tid: str, asker: str, reason: str, actor: str) -> TransferView:
        view, words, now = await self.transfer(tid), asked(asker, reason), self.clock.now()
        await self.record(actor, "stop-asked", tid, words)
        notes = [*view.notes, NoteView(at=now, by=actor, text=words)]
        if view.ended_at:
            return self.change(tid, notes=notes, stop_asked=now)
        return self.change(tid, notes=notes, state="REVOKED", ended_at=now, link="", pin="")

    async def reopen(self, tid: str, actor: str) -> TransferView:
        view = await self.transfer(tid)
        if view.reopens_left == 0:
            raise StateError
        await self.record(actor, "reopened", tid)
        if view.state in TERMINAL:
            to = next(p.site for p in self.all_peers.values() if p.name == view.peer)
            return await self.send(view.study, to, view.reason, actor)
        step(SENDER, view.state, "reopen")
        link = make_link("https://relay.example", os.urandom(16))
        return self.change(
            tid,
            link=link,
            pin=make_pin(os.urandom),
            locked=False,
            tries_left=5,
            reopens_left=view.reopens_left - 1,
        )

    async def note(self, tid: str, minor: bool, interpreter: str, basis: str, actor: str) -> TransferView:
        view, words = await self.transfer(tid), words_of(minor, interpreter, basis)
        await self.record(actor, "noted", tid, words)
        return self.change(tid, notes=[*view.notes, NoteView(at=self.clock.now(), by=actor, text=words)])

    async def door(self, tid: str, door: str, scanned: str, actor: str) -> TransferView:
        view = await self.transfer(tid)
        step(SENDER, view.state, "switch")
        if door == "scan":
            read_scanned(scanned)
        await self.record(actor, "door", tid)
        values: dict[str, Any] = {
            "number": "",
            "code_until": 0,
            "codes": view.codes + 1,
            "pin": make_pin(os.urandom),
        }
        if door == "qr":
            values["link"] = make_link("https://relay.example", os.urandom(16))
        else:
            values["link"] = make_address("https://relay.example", cast(Door, door))
        if door == "voice":
            values |= {
                "number": make_nameplate(os.urandom).name, "pin": spoken(make_pin(os.urandom, VOICE_DIGITS)),
                "code_until": self.clock.now() + VOICE_SECONDS, "tries_left": 3,
            }  # fmt: skip
        return self.change(tid, door=door, joined_at=0, check="", **values)

    async def call_peer(self, name: str, call: str, actor: str) -> PeerView:
        raise GatewayError

    async def allow_peer(self, name: str, kinds: list[str], actor: str) -> PeerView:
        raise GatewayError

    async def attest(self, tid: str, reason: str, word: str, actor: str) -> TransferView:
        view = await self.transfer(tid)
        if not word:
            now = self.clock.now()
            return self.change(
                tid, vouched_by=actor, vouched_why=reason, vouched_at=now, word=f"{now} {actor}"
            )
        assert word == view.word
        return self._decided(
            view, "attest", f"attested by two clinicians: {view.vouched_by} and {actor}", view.vouched_why
        )

    async def override(self, tid: str, reason: str, actor: str) -> TransferView:
        return self._decided(await self.transfer(tid), "override", f"emergency override: {actor}", reason)

    def _decided(self, view: TransferView, rung: str, by: str, why: str) -> TransferView:
        state, now = step(SENDER, view.state, rung).to, self.clock.now()
        return self.change(
            view.tid, state=state, rung=rung, decided_by=by, decided_why=why, decided_at=now, released_at=now,
            link="", pin="", rungs=[],
        )  # fmt: skip

    async def again(self, tid: str, reason: str, actor: str) -> TransferView:
        view = await self.transfer(tid)
        to = next(p.site for p in self.all_peers.values() if p.name == view.peer)
        new = await self.send(view.study, to, view.reason, actor)
        return self.change(new.tid, again=reason, refused_at=view.ended_at)

    async def notice(self, tid: str) -> NoticeView:
        view = await self.transfer(tid)
        if not view.decided_why:
            raise AbsentError
        return NoticeView(
            tid=tid, rung=view.rung, by=view.decided_by.partition(": ")[2], at=view.decided_at, why=view.decided_why,
            to=view.peer, what=view.what, call="Ward 3, 555 0100", link=make_link("https://relay.example", bytes(16)),
            pin="271828", refused_at=view.refused_at,
        )  # fmt: skip

    async def import_path(self, path: str, actor: str, early: bool = False) -> dict[str, Any]:
        raise GatewayError

    async def add_report(self, study_id: str, title: str, text: str, pdf: bytes, actor: str) -> ReportView:
        self._may_fail("add_report")
        study, key = await self.study(study_id), (study_id, title, text, pdf)
        check(Draft(title=title, text=text, pdf=pdf))
        if (same := key in self.reports) is False:
            self.reports[key] = actor
            self.put_study(replace(study, instances=study.instances + 1))
        late = any(t.study == study_id and t.state == "RELEASED" for t in self.all_transfers.values())
        return ReportView(study=study_id, same=same, late=late and not same)

    async def report_file(self, study_id: str, path: str, title: str, actor: str) -> ReportView:
        raise GatewayError

    async def checks(self) -> list[CheckView]:
        self._may_fail("checks")
        said = {
            "relay": "The relay answers.",
            "clock": "The clock differs from the relay's by less than a second.",
            "pacs": "The PACS does not answer C-ECHO. Check its address and that it knows this AE title.",
            "dicom": "The listener TRAUMATX accepts associations on port 11112.",
        }
        return [CheckView(name=n, ok=n != "pacs", sentence=s) for n, s in said.items()]

    async def audit(self, before: int = 0, limit: int = 100) -> list[AuditView]:
        self._may_fail("audit")
        return [line for line in reversed(self.lines) if not before or line.seq < before][:limit]

    async def record(self, actor: str, action: str, subject: str = "", detail: str = "") -> None:
        self._may_fail("record")
        seq, at = len(self.lines) + 1, self.clock.now()
        self.lines.append(
            AuditView(seq=seq, at=at, actor=actor, action=action, subject=subject, detail=detail)
        )

    async def changes(self) -> AsyncIterator[None]:
        self.watchers += 1
        self.watched.set()
        try:
            async for _ in self.signal.changes(0.01):
                yield
        finally:
            self.watchers -= 1

    async def user_add(self, name: str, role: str, password_hash: str, actor: str) -> None:
        view = UserView(name=name, role=role, created_at=self.clock.now(), disabled=False)
        self.people[name] = (view, password_hash)

    async def user_remove(self, name: str, actor: str) -> None:
        view, hashed = entry(self.people, name)
        self.people[name] = (replace(view, disabled=True), hashed)

    async def user_hash(self, name: str) -> tuple[str, str]:
        self._may_fail("user_hash")
        view, hashed = entry(self.people, name)
        if view.disabled:
            raise AbsentError
        return hashed, view.role

    async def users(self) -> list[UserView]:
        return [view for view, _ in self.people.values()]

    async def session_put(self, token_hash: str, session: SessionView) -> None:
        self.sessions[token_hash] = session

    async def session_get(self, token_hash: str) -> SessionView | None:
        return self.sessions.get(token_hash)

    async def session_drop(self, token_hash: str) -> None:
        self.sessions.pop(token_hash, None)

    def _may_fail(self, method: str) -> None:
        if method in self.fails:
            raise self.fails[method]


def _sealed(series: SeriesView) -> SeriesProgress:
    label = f"{series.modality} {series.number} · {series.description}"
    return SeriesProgress(label=label, have=series.instances, want=series.instances, closed=True)


def blank(**values: Any) -> TransferView:
    """A transfer in which nothing has happened, but for `values`."""
    nothing: dict[str, Any] = {
        "why": "", "sentence": "", "study": "", "patient_name": "", "birth_date": "", "what": "", "reason": "transfer",
        "created_at": 0, "expires_at": 0, "ended_at": 0, "link": "", "pin": "", "check": "", "tries_left": 0,
        "locked": False, "reopens_left": 0, "joined_at": 0, "decided_at": 0, "decided_by": "",
        "released_at": 0, "first_stored_at": 0,
        "bytes": 0, "moved": 0, "speed": 0.0, "stalled": False, "instances": 0, "total": 0, "stored": 0, "gaps": 0,
        "proof": "", "receipt_code": "", "series": [], "alarms": [],
    }  # fmt: skip
    return TransferView(**{**nothing, **values})


def study(
    name: str, birth_date: str, now: int, *, number: int = 1, minutes: int = 5, **values: Any
) -> StudyView:
    """A CT of the head and body that arrived `minutes` ago."""
    series = [
        ("1", "Scout", 2, 600_000), ("2", "Head 5 mm", 63, 33_000_000), ("3", "C-spine 1 mm bone", 211, 111_000_000),
        ("4", "Chest abdomen pelvis 3 mm", 298, 157_000_000), ("5", "Dose report", 1, 120_000),
    ]  # fmt: skip
    views = [
        SeriesView(
            uid=f"2.25.{number}{no}", number=no, modality="CT", description=text, instances=count, bytes=size
        )
        for no, text, count, size in series
    ]
    at = now - 60 * minutes
    facts: dict[str, Any] = {
        "id": secrets.token_hex(16), "uid": f"2.25.{number}", "patient_name": name, "birth_date": birth_date,
        "sex": "F", "patient_id": f"{400000 + number}", "accession": f"A{7700 + number}",
        "date": time.strftime("%Y-%m-%d", time.localtime(at)), "time": time.strftime("%H:%M", time.localtime(at)),
        "description": "Trauma head to pelvis", "modalities": "CT",
        "instances": sum(v.instances for v in views), "bytes": sum(v.bytes for v in views), "first_at": at - 90,
        "last_at": at, "open": False, "source": "CT_SCANNER_1", "refused": 0, "series": views, "transfers": [],
    }  # fmt: skip
    return StudyView(**{**facts, **values})


STAFF = {"desk1": "clerk", "dr-lee": "clinician", "admin": "pacs-admin", "privacy": "privacy-officer"}
PATIENTS = (
    ("DOE, JANE", "1984-03-12"), ("TEST, ALPHA", "1951-11-02"), ("TEST, BRAVO", "2016-07-30"), ("", ""),
    ("TEST, CHARLIE", "1990-01-01"), ("TEST, DELTA", "1973-05-18"), ("TEST, ECHO", "2001-12-24"),
    ("TEST, FOXTROT", "1966-09-09"),
)  # fmt: skip


def hospital(clock: Clock | None = None) -> FakeEngine:
    """A gateway in the middle of its day: staff, two trauma centers, eight studies; no transfer yet."""
    engine = FakeEngine(clock)
    now = engine.clock.now()
    for user, role in STAFF.items():
        engine.put_user(user, role)
    engine.put_peer("Lakeside Trauma Center", "Lakeside")
    engine.put_peer("Summit University Hospital", "Summit", reachable=False)
    for i, (name, born) in enumerate(PATIENTS):
        engine.put_study(
            study(name, born, now, number=i + 1, minutes=1 + 37 * i, open=i == 0, refused=3 if i == 3 else 0)
        )
    return engine
