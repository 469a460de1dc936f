"""The engine: what pages and commands may ask of an open gateway (`clients.gateway.views.Engine`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from clients.gateway.accounts import AccountsEngine
from clients.gateway.edge import tid_of, translated
from clients.gateway.errors import AbsentError, GatewayError, RelayDownError
from clients.gateway.observe import standing
from clients.gateway.observe.checks import check
from clients.gateway.peers.pins import Peer
from clients.gateway.peers.relay import RelayRefusal
from clients.gateway.receiving.choosing import IdentityEngine
from clients.gateway.receiving.view import receive_view
from clients.gateway.rooms import Rooms
from clients.gateway.sending import notes
from clients.gateway.sending.additions import MOST
from clients.gateway.sending.archive import ArchiveEngine
from clients.gateway.sending.offering import ALTERNATES, SiteWords
from clients.gateway.sending.reports import Added, Draft, read_draft
from clients.gateway.sending.view import notice_view, send_view, study_view
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, quoted, rows
from clients.gateway.views import (
    AuditView,
    CheckView,
    NoticeView,
    PeerView,
    ReportView,
    StudyView,
    TransferView,
)
from transfer.errors import StateError
from transfer.ids import Tid
from transfer.sites import fingerprint
from transfer.states import OPEN_SENDER
from transfer.text import one_line

T = TypeVar("T")
CALL_MOST = 80
"""Characters of a name and a telephone number."""
_NO_KEY = (
    "This hospital's gateway has no key at the relay now, so nothing can be sent there. Nothing was changed. Call it,"
    " or use the existing route."
)
_REASONS = ("transfer", "consult", "drill")
_LITERAL = str.maketrans({c: f"!{c}" for c in "!%_"})
"""Characters that mean something in LIKE, as themselves."""
_OFFER_LOOKS = 32
"""How often a call looks for what it began, at each change or every quarter of a second."""


class GatewayEngine(ArchiveEngine, IdentityEngine, AccountsEngine):
    """The real `Engine`, over open rooms."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self.name = rooms.config.site.name
        self.site = rooms.identity.site.text
        self.policy: str = rooms.config.identity.policy
        self.add_seconds = rooms.config.policy.add_seconds
        self.page = rooms.config.site.page or rooms.config.relay.url

    async def _run(self, work: Callable[[Con], T]) -> T:
        return await self._rooms.db.run(work)

    # Studies

    async def studies(self, query: str = "", limit: int = 100) -> list[StudyView]:
        """Newest first; `query` looks in name, patient id, accession and description."""
        like = f"%{query.strip().translate(_LITERAL)}%"
        return await self._run(
            lambda con: [
                study_view(con, row)
                for row in rows(
                    con,
                    "SELECT * FROM studies WHERE patient_name LIKE ?1 ESCAPE '!' OR patient_id LIKE ?1 ESCAPE '!'"
                    " OR accession LIKE ?1 ESCAPE '!' OR description LIKE ?1 ESCAPE '!'"
                    " ORDER BY last_at DESC, rowid DESC LIMIT ?2",
                    (like, min(limit, 500)),
                )
            ]
        )

    async def study(self, study_id: str) -> StudyView:
        """By our id or by Study Instance UID. Raises `AbsentError`."""

        def work(con: Con) -> StudyView:
            row = one(con, "SELECT * FROM studies WHERE id=?1 OR uid=?1", (study_id,))
            if row is None:
                raise AbsentError
            return study_view(con, row)

        return await self._run(work)

    async def close_study(self, study_id: str, actor: str) -> None:
        """Staff say that nothing more will come."""
        await self._rooms.studies.close(study_id, actor)

    async def import_path(self, path: str, actor: str, early: bool = False) -> dict[str, Any]:
        """Folder, file or ZIP: `studies` (our ids), `accepted`, `skipped` as [{name, code}]."""
        imports = self._rooms.imports
        done = await (imports.early if early else imports.whole)(Path(path), actor)
        return {
            "studies": done.studies,
            "accepted": done.accepted,
            "skipped": [{"name": name, "code": code} for name, code in done.skipped],
        }

    async def add_report(self, study_id: str, title: str, text: str, pdf: bytes, actor: str) -> ReportView:
        """A PDF, or else a text, as a document of its study. Raises `IntakeError`, `AbsentError`."""
        draft = Draft(title=title, text=text, pdf=pdf)
        return _report_view(await self._rooms.reports.add(study_id, draft, actor))

    async def report_file(self, study_id: str, path: str, title: str, actor: str) -> ReportView:
        """The same with a file."""
        draft = await asyncio.to_thread(read_draft, Path(path), title)
        return _report_view(await self._rooms.reports.add(study_id, draft, actor))

    # Sites

    async def peers(self) -> list[PeerView]:
        """All paired sites."""
        now = self._rooms.clock.now()
        return [_peer_view(p, now) for p in await self._rooms.pins.all()]

    async def pin_peer(self, card: str, actor: str) -> PeerView:
        """Pins a card whose fingerprint a person has compared."""
        pinned = await translated(self._rooms.pins.pin(card, actor))
        peer = await self._rooms.pins.get(pinned.site)
        assert peer is not None
        return _peer_view(peer, self._rooms.clock.now())

    async def unpin_peer(self, name: str, actor: str) -> PeerView:
        """Trusts a site no more (its id or name): stops what is on its way there, declines what it offers.

        Raises `AbsentError`.
        """
        rooms = self._rooms
        peer = await rooms.pins.find(name)
        await rooms.pins.unpin(peer.site, actor)
        sends = await self._run(
            lambda con: rows(
                con, f"SELECT tid FROM sends WHERE peer=? AND state IN ({quoted(OPEN_SENDER)})", (peer.site,)
            )
        )
        for (tid,) in sends:
            with contextlib.suppress(StateError):  # it has just ended
                await rooms.offers.stop(Tid(tid), actor)
        await rooms.inbox.unpaired(peer.site)
        return _peer_view(peer, rooms.clock.now())

    async def allow_peer(self, name: str, kinds: list[str], actor: str) -> PeerView:
        """What this site's staff may decide in a patient's place, and we open. Raises `AbsentError`."""
        try:
            found = tuple(msgspec.convert(kinds, set[Literal["attest", "override"]]))
        except msgspec.ValidationError:
            raise GatewayError("These are attest and override. Name them, or neither.", code="kind") from None
        peer = await self._rooms.pins.find(name)
        await self._rooms.pins.allow(peer.site, found, actor)
        return _peer_view(await self._rooms.pins.find(peer.site.hex()), self._rooms.clock.now())

    async def call_peer(self, name: str, call: str, actor: str) -> PeerView:
        """Notes whom staff call at a site, by telephone. Raises `AbsentError`."""
        said = one_line(call)
        if len(said) > CALL_MOST:
            raise GatewayError("Whom to call has at most 80 characters. Make it shorter.", code="call")
        peer = await self._rooms.pins.find(name)
        await self._rooms.pins.note_call(peer.site, said, actor)
        self._rooms.changed.set()
        return _peer_view(await self._rooms.pins.find(peer.site.hex()), self._rooms.clock.now())

    # Transfers

    async def send(
        self, study_id: str, to: str, reason: str, actor: str, alt: Sequence[str] = (), add: int | None = None
    ) -> TransferView:
        """Creates a transfer; waits a moment for its offer, so that the view has the link."""
        if reason not in _REASONS:
            raise GatewayError("The reason is one of transfer, consult, drill. Choose one.", code="reason")
        peer = await self._receiver(to)
        others = dict.fromkeys([(await self._receiver(name)).site for name in alt[: ALTERNATES + 1]])
        others.pop(peer.site, None)
        if len(others) > ALTERNATES:
            raise GatewayError("At most four other hospitals can be named. Choose fewer.", code="alternates")
        add = self.add_seconds if add is None else add
        if not 0 <= add <= MOST:
            raise GatewayError("Late images may follow for at most 7 days. Choose less.", code="add")
        study = await self.study(study_id)
        await self._rooms.rungs.not_refused(study.id)
        made = await self._rooms.offers.create(study.id, peer.site, reason, actor, alt=list(others), add=add)
        return await self._offered(made)

    async def _offered(self, tid: Tid) -> TransferView:
        """A new transfer, after a moment for its offer."""
        return await self._look(tid.hex(), lambda view: view.state != "PREPARING")

    async def _look(self, tid: str, ready: Callable[[TransferView], bool]) -> TransferView:
        """The transfer once it is `ready`, or as it is after a few seconds."""
        for _ in range(_OFFER_LOOKS):
            seen = self._rooms.changed.seen
            view = await self.transfer(tid)
            if ready(view):
                break
            await self._rooms.changed.wait(seen, 0.25)
        return view

    async def _receiver(self, name: str) -> Peer:
        """A paired site that receives. Raises `GatewayError`."""
        peer = await self._rooms.pins.find(name)
        if "receive" not in peer.roles:
            raise GatewayError("This site does not receive studies. Choose another one.", code="not-receiver")
        return peer

    async def divert(self, tid: str, to: str, actor: str) -> TransferView:
        """The same study to another site instead; the transfer that takes this one's place."""
        rooms, peer = self._rooms, await self._receiver(to)
        seconds = rooms.config.policy.offer_seconds
        try:
            key = await rooms.pins.prekey_of(peer.site, rooms.clock.now() + seconds)
        except (RelayDownError, RelayRefusal):
            key = None
        if key is None:
            raise GatewayError(_NO_KEY, code="no-prekey")
        words = SiteWords(rooms.config.site.name, rooms.config.site.call)
        same = rooms.config.policy.divert == "same-key"
        divert = rooms.offers.divert(tid_of(tid), peer.site, key, words, seconds, actor, same_key=same)
        made = await translated(divert)
        rooms.uploader.pace.make_way(time.monotonic())
        return await self.transfer(made.hex())

    async def close_additions(self, tid: str, actor: str) -> TransferView:
        """Nothing follows this transfer any more."""
        await translated(self._rooms.offers.close_additions(tid_of(tid), actor))
        return await self.transfer(tid)

    async def transfers(self, role: str = "", limit: int = 100) -> list[TransferView]:
        """Newest first; `role` is "send", "receive" or both."""
        facts = standing.facts_of(self._rooms)

        def work(con: Con) -> list[TransferView]:
            views: list[TransferView] = []
            sql = "SELECT * FROM {} ORDER BY created_at DESC, rowid DESC LIMIT ?"
            if role != "receive":
                views += [
                    self._send_view(con, r, facts) for r in rows(con, sql.format("sends"), (min(limit, 500),))
                ]
            if role != "send":
                views += [
                    self._receive_view(con, r, facts)
                    for r in rows(con, sql.format("receives"), (min(limit, 500),))
                ]
            return sorted(views, key=lambda v: v.created_at, reverse=True)[:limit]

        return await self._run(work)

    async def transfer(self, tid: str) -> TransferView:
        """One transfer. Raises `AbsentError`."""
        ident, facts = tid_of(tid), standing.facts_of(self._rooms)

        def work(con: Con) -> TransferView:
            if (row := one(con, "SELECT * FROM sends WHERE tid=?", (ident,))) is not None:
                return self._send_view(con, row, facts)
            if (row := one(con, "SELECT * FROM receives WHERE tid=?", (ident,))) is not None:
                return self._receive_view(con, row, facts)
            raise AbsentError

        return await self._run(work)

    def _send_view(self, con: Con, row: Any, facts: standing.Facts) -> TransferView:
        view = send_view(con, row, self._rooms.vault, self.page, self._rooms.uploader.meters)
        view = self._rooms.rungs.shown(con, row, view)
        return msgspec.structs.replace(view, waits=standing.of_send(con, row, facts).sentence)

    def _receive_view(self, con: Con, row: Any, facts: standing.Facts) -> TransferView:
        view = receive_view(con, row, self._rooms.vault, self._rooms.prefetch.meters)
        whose = self._rooms.reconciling.view_of(con, Tid(row["parent"] or row["tid"]))
        return msgspec.structs.replace(
            view, waits=standing.of_receive(con, row, facts).sentence, filed=whose.sentence,
            # of an addition: its parent's, where staff say it
            identity="" if view.kind == "add" else "corrected" if whose.changes else whose.how or whose.state,
        )  # fmt: skip

    async def cancel(self, tid: str, actor: str) -> TransferView:
        """Stops a transfer that this site sends."""
        await translated(self._rooms.offers.stop(tid_of(tid), actor))
        return await self.transfer(tid)

    async def stop_asked(self, tid: str, asker: str, reason: str, actor: str) -> TransferView:
        """The person asked staff to stop sharing. Raises `StopRequestError`, `NothingSharedError`."""
        await self._rooms.offers.stop_asked(tid_of(tid), notes.asked(asker, reason), actor)
        return await self.transfer(tid)

    async def reopen(self, tid: str, actor: str) -> TransferView:
        """A new code for a locked offer; a new transfer of the same study where the old one has run out."""
        view = await self.transfer(tid)
        if view.role == "send" and view.state == "EXPIRED":
            row = await self._run(lambda con: one(con, "SELECT * FROM sends WHERE tid=?", (tid_of(tid),)))
            assert row is not None
            peer, add = bytes(row["peer"]).hex(), row["add_seconds"]
            return await self.send(view.study, peer, view.reason, actor, row["alt"].split(), add)
        await translated(self._rooms.offers.reopen(tid_of(tid), actor))
        return await self.transfer(tid)

    async def note(self, tid: str, minor: bool, interpreter: str, basis: str, actor: str) -> TransferView:
        """Notes who answered. Raises `NoteError`, `AbsentError`."""
        ident, words = tid_of(tid), notes.words_of(minor, interpreter, basis)
        await self._run(lambda con: notes.add(con, ident, words, actor, self._rooms.clock.now()))
        self._rooms.changed.set()
        return await self.transfer(tid)

    async def door(self, tid: str, door: str, scanned: str, actor: str) -> TransferView:
        """Another door, or a new code at the same one; waits a moment until the relay knows it."""
        await translated(self._rooms.offers.switch(tid_of(tid), door, scanned, actor))
        return await self._look(tid, lambda view: bool(view.pin))

    # The upper rungs

    async def attest(self, tid: str, reason: str, word: str, actor: str) -> TransferView:
        """A clinician's word that nobody can be asked; with the second one's the key goes."""
        await translated(self._rooms.rungs.attest(tid_of(tid), reason, actor, word))
        return await self.transfer(tid)

    async def override(self, tid: str, reason: str, actor: str) -> TransferView:
        """One clinician decides, in an emergency."""
        await translated(self._rooms.rungs.override(tid_of(tid), reason, actor))
        return await self.transfer(tid)

    async def again(self, tid: str, reason: str, actor: str) -> TransferView:
        """Asks again after a no, as far as the ladder goes."""
        new: Tid = await translated(self._rooms.rungs.again(tid_of(tid), reason, actor))
        return await self._offered(new)

    async def notice(self, tid: str) -> NoticeView:
        """What the patient is told on paper. Raises `AbsentError`."""
        rooms = self._rooms
        page = rooms.config.site.page or rooms.config.relay.url
        return await self._run(
            lambda con: notice_view(con, tid_of(tid), rooms.vault, page, rooms.config.site.call)
        )

    # Health, audit, changes

    async def checks(self) -> list[CheckView]:
        """Each part of this gateway, and what stands still, in words."""
        return await check(self._rooms)

    async def audit(self, before: int = 0, limit: int = 100) -> list[AuditView]:
        """Lines of the log, newest first."""

        def work(con: Con) -> list[AuditView]:
            return [
                AuditView(
                    seq=r["seq"], at=r["at"], actor=r["actor"], action=r["action"], subject=r["subject"],
                    detail=r["detail"],
                )
                for r in rows(
                    con, "SELECT * FROM audit WHERE seq<? ORDER BY seq DESC LIMIT ?", (before or 2**62, min(limit, 500))
                )
            ]  # fmt: skip

        return await self._run(work)

    async def record(self, actor: str, action: str, subject: str = "", detail: str = "") -> None:
        """Adds a line to the audit log."""
        now = self._rooms.clock.now()
        await self._run(lambda con: audit.record(con, actor, action, subject, detail, now))

    def changes(self) -> AsyncIterator[None]:
        """One item after each change."""
        return self._rooms.changed.changes()


def _report_view(added: Added) -> ReportView:
    return ReportView(study=added.study, same=added.same, late=added.late)


def _peer_view(peer: Peer, now: int) -> PeerView:
    return PeerView(
        site=peer.site.text, name=peer.name, place=peer.place, fingerprint=fingerprint(peer.site),
        pinned_at=peer.pinned_at, pinned_by=peer.pinned_by, roles=list(peer.roles), reachable=peer.prekey_exp > now,
        allow=list(peer.allow), call=peer.call,
    )  # fmt: skip
