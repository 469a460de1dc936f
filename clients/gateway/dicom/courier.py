"""One association to a PACS, kept open and fed (PS3.8 7): opened when needed, released when idle.

A courier takes jobs from the queue one by one. It proposes the pairs of the plan; a pair that its association
did not propose makes it open another with all of them. A PACS that cannot be had is not asked again for the
jobs that waited meanwhile: they share its answer.
"""

from __future__ import annotations

import os
import queue
import ssl
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context, build_role

from clients.gateway.dicom.contexts import Pair, Plan
from clients.gateway.dicom.part10 import read_meta
from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.refusals import refuse
from clients.gateway.dicom.scu import Destination, Done, Store
from clients.gateway.dicom.structure import DEFLATED
from clients.gateway.dicom.tls import client_context, handshake_trouble
from clients.gateway.dicom.wire import Socket
from clients.gateway.errors import ConfigError, IntakeError

_A_ABORT = 0x07
"""PS3.8 9.3.8."""
_LOOK = 0.25
_REST = 60.0
_REJECTIONS = {
    (0x01, 0x03): "pacs-calling-aet",
    (0x01, 0x07): "pacs-called-aet",
    (0x03, 0x01): "pacs-busy",
    (0x03, 0x02): "pacs-busy",
}
"""(source, diagnostic) of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""


class NoAssociationError(Exception):
    """A PACS that cannot be had; the code says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Job(msgspec.Struct, frozen=True):
    """What to send, and since when it waits."""

    what: Store
    at: float


class Caller:
    """Opens associations to one destination."""

    def __init__(self, ae: AE, destination: Destination) -> None:
        self._ae, self._to = ae, destination
        self.room_wanted_at = 0.0
        """When a question after the last image needed an association of its own: a PACS that serves one after the other
        hears nobody as long as an idle one is held.
        """

    def open(self, pairs: tuple[Pair, ...], roles: tuple[str, ...] = ()) -> SoleReader:
        """An association that proposes `pairs`, and to be the SCP of the classes `roles` (PS3.7 D.3.3.4). Raises
        `NoAssociationError`.
        """
        connected, aborted = threading.Event(), threading.Event()
        trouble, tls = list[str](), self._tls()

        def opened(event: Any) -> None:
            peer: Socket = event.assoc.dul.socket
            connected.set()
            try:
                peer.begin(self._to.stall, tls, self._name(), self._to.association)
            except Exception as why:  # pynetdicom would pass over it and go on
                trouble.append(handshake_trouble(why))

        def received(event: Any) -> None:
            if event.pdu.pdu_type == _A_ABORT:
                aborted.set()

        try:
            assoc: SoleReader = self._ae.associate(
                self._to.host,
                self._to.port,
                contexts=[build_context(sop_class, syntax) for sop_class, syntax in pairs],
                ae_title=self._to.aet,
                max_pdu=self._to.max_pdu,
                evt_handlers=[(evt.EVT_CONN_OPEN, opened), (evt.EVT_PDU_RECV, received)],
                ext_neg=[build_role(sop_class, scp_role=True) for sop_class in roles],
            )
        except OSError:  # no such name
            raise NoAssociationError("pacs-down") from None
        if assoc.is_established:
            assoc.unbind(evt.EVT_PDU_RECV, received)
            return assoc
        if trouble:
            raise NoAssociationError(trouble[0])
        if (why := assoc.rejection()) is not None:
            raise NoAssociationError(_REJECTIONS.get(why, "pacs-rejected"))
        if not connected.is_set():
            raise NoAssociationError("pacs-down")
        if assoc.rejected_contexts:  # it took none of the contexts, and pynetdicom ended it for that
            raise NoAssociationError("pacs-context")
        if aborted.is_set():
            raise NoAssociationError("pacs-aborts")
        if tls is not None and assoc.dul.socket.was_cut:
            # With TLS 1.3 our handshake is over before the PACS judges us, and its alert may be lost
            raise NoAssociationError("pacs-tls-refused")
        raise NoAssociationError("pacs-silent")

    def _tls(self) -> ssl.SSLContext | None:
        """Read anew for each association, so that a renewed certificate is taken."""
        if self._to.tls is None:
            return None
        try:
            return client_context(self._to.tls)
        except ConfigError:
            raise NoAssociationError("pacs-tls-files") from None

    def _name(self) -> str:
        """Whom the PACS's certificate must be made out to."""
        return (self._to.tls.name if self._to.tls is not None else "") or self._to.host


class _Link:
    """An open association and what it can carry."""

    def __init__(self, assoc: SoleReader, proposed: tuple[Pair, ...]) -> None:
        self.assoc, self.proposed = assoc, set(proposed)
        self.contexts = assoc.contexts()
        self.used_at = time.monotonic()


class Crew:
    """What the couriers to one destination share. `tell` gets a `Done` for each job."""

    def __init__(self, caller: Caller, idle: float, tell: Callable[[Done], None], size: int) -> None:
        self.caller, self.idle, self.tell = caller, idle, tell
        self.jobs: queue.Queue[Job] = queue.Queue()
        self.plan = Plan()
        self.leaving = threading.Event()
        self._members = [Courier(self) for _ in range(size)]

    def start(self) -> None:
        """Puts everyone to work."""
        for member in self._members:
            member.start()

    def leave(self, grace: float) -> None:
        """Everyone finishes its job and releases its association, within `grace` seconds."""
        self.leaving.set()
        until = time.monotonic() + grace
        for member in self._members:
            member.join(max(0.0, until - time.monotonic()))

    def others_are_up(self, one: Courier) -> bool:
        """Whether another than `one` has an association."""
        return any(member.is_up for member in self._members if member is not one)


class Courier(threading.Thread):
    """One worker with an association of its own (more, where the study has too many contexts for one)."""

    def __init__(self, crew: Crew) -> None:
        super().__init__(daemon=True)
        self._crew = crew
        self._links: dict[int, _Link] = {}
        self._down: tuple[float, str] = (0.0, "")
        self._rests_until = 0.0

    def run(self) -> None:
        """Until told to leave."""
        while not self._crew.leaving.is_set():
            if time.monotonic() < self._rests_until:
                time.sleep(_LOOK)
                continue
            try:
                job = self._crew.jobs.get(timeout=_LOOK)
            except queue.Empty:
                self._tend()
                continue
            if (done := self._try(job)) is not None:
                self._crew.tell(done)
        for link in self._links.values():
            link.assoc.part()

    def _try(self, job: Job) -> Done | None:
        """Sends; every job is answered, whatever goes wrong here."""
        try:
            return self._send(job)
        except Exception:
            traceback.print_exc()  # to the owner, who logs where and what kind
            for link in self._links.values():
                link.assoc.drop()
            self._links.clear()
            return Done(job.what.id, None, "dicom-child")

    @property
    def is_up(self) -> bool:
        """Whether it has an association."""
        return bool(self._links)

    def _tend(self) -> None:
        for group, link in list(self._links.items()):
            idle = time.monotonic() - link.used_at > self._crew.idle
            if idle or link.used_at < self._crew.caller.room_wanted_at:
                del self._links[group]
                link.assoc.part()
            elif not link.assoc.tend():
                del self._links[group]

    def _send(self, job: Job) -> Done | None:
        """Sends; None if the job went back to the others."""
        down_at, code = self._down
        if job.at <= down_at:
            return Done(job.what.id, None, code)
        try:
            fd, offset = _open(job.what)
        except IntakeError as why:
            code = "dicom-uid-mismatch" if why.code == "dicom-uid-mismatch" else "dicom-unreadable"
            return Done(job.what.id, None, code)
        try:
            return self._store(job.what, fd, offset)
        except NoAssociationError as why:
            if why.code != "pacs-context" and self._crew.others_are_up(self):
                # A PACS that takes fewer associations than were set
                self._rests_until = time.monotonic() + _REST
                self._crew.jobs.put(job)
                return None
            if why.code != "pacs-context":
                self._down = (time.monotonic(), why.code)
            return Done(job.what.id, None, why.code)
        finally:
            os.close(fd)

    def _store(self, what: Store, fd: int, offset: int) -> Done:
        pair = (what.sop_class, what.syntax)
        group = self._crew.plan.add(pair)
        while True:
            link, fresh = self._link(group, pair)
            context = link.contexts.get(pair)
            if context is None:
                return Done(what.id, None, "pacs-context")
            began = time.monotonic()
            try:
                status = link.assoc.store(
                    context, what.sop_class, what.sop_uid, fd, offset, pad=what.syntax in DEFLATED
                )
            except OSError:
                self._drop(group)
                return Done(what.id, None, "dicom-unreadable")
            link.used_at = time.monotonic()
            if status is not None:
                return Done(what.id, status)
            late = link.assoc.is_established and not link.assoc.is_over()
            self._drop(group)
            # A PACS that ended an idle association as we used it is asked once more, over a new one; never with an
            # instance that it may have: what to do about those is not decided here
            if fresh or late or link.assoc.whole or time.monotonic() - began > 1.0:
                return Done(what.id, None, "pacs-late" if late else "pacs-lost")

    def _link(self, group: int, pair: Pair) -> tuple[_Link, bool]:
        """An association of `group` that proposed `pair`, and whether it is new. Raises `NoAssociationError`."""
        link = self._links.get(group)
        if link is not None and (pair not in link.proposed or not link.assoc.tend()):
            del self._links[group]
            link.assoc.part()
            link = None
        if link is not None:
            return link, False
        pairs = self._crew.plan.contexts(group)
        self._links[group] = link = _Link(self._crew.caller.open(pairs), pairs)
        return link, True

    def _drop(self, group: int) -> None:
        self._links.pop(group).assoc.drop()


def _open(what: Store) -> tuple[int, int]:
    """The file and where its data set begins. Raises `IntakeError`: not ours, or not the instance that it should be."""
    fd = -1
    try:
        fd = os.open(what.path, os.O_RDONLY)
        meta = read_meta(lambda at, n: os.pread(fd, n, at))
        if (meta.sop_class, meta.sop_uid, meta.syntax) != (what.sop_class, what.sop_uid, what.syntax):
            raise refuse("dicom-uid-mismatch")
    except (OSError, IntakeError) as why:
        if fd >= 0:
            os.close(fd)
        raise why if isinstance(why, IntakeError) else refuse("dicom-unreadable") from None
    return fd, meta.data_offset
