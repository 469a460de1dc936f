"""The storage SCP as a process of its own: `python -m clients.gateway.dicom.scp_child`, started by `StorageScp`."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from pynetdicom import AE, _config, evt
from pynetdicom.dimse_messages import N_ACTION_RQ, N_EVENT_REPORT_RQ, DIMSEMessage
from pynetdicom.sop_class import Verification

from clients.gateway.dicom.arriving import Undecided, announced
from clients.gateway.dicom.child import Owner
from clients.gateway.dicom.commitment import MAX_REPORT, PUSH_MODEL, read_event
from clients.gateway.dicom.contexts import is_storage, plain, preferred
from clients.gateway.dicom.finder import STUDY_ROOT
from clients.gateway.dicom.guard import NOT_TRUSTED, TOO_MANY, Gate, GuardedServer, Pace, admit
from clients.gateway.dicom.landing import Folder, Held, Landing
from clients.gateway.dicom.part10 import IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
from clients.gateway.dicom.refusals import REFUSALS, SUCCESS
from clients.gateway.dicom.scp import (
    AssociationClosed,
    Failed,
    Ready,
    Received,
    Refused,
    Reported,
    ScpConfig,
    Start,
)
from clients.gateway.dicom.structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from clients.gateway.dicom.tls import server_context
from clients.gateway.dicom.upper_layer import MAX_PDU, Association, install
from clients.gateway.errors import ConfigError, IntakeError
from clients.gateway.networks import networks_of

NO_SUCH_CLASS, INVALID_ARGUMENT, UNRECOGNIZED_OPERATION = 0x0118, 0x0115, 0x0211
"""Of a report that is none, and of a request to commit (PS3.7 C.5)."""
_SERVED = frozenset({str(Verification), PUSH_MODEL})
"""What is served beside storage."""
_LAST_ANSWERS = 2.0
"""Seconds that instances which are whole have to be answered after the owner said stop."""


class Incoming(Association):
    """An association that a peer opened with us."""

    receiver: Receiver

    def __init__(self, ae: Any, mode: str) -> None:
        super().__init__(ae, mode)
        self.address = ""
        self.entered: socket.socket | None = None
        """What the gate counts it under."""
        self.label = secrets.token_hex(8)
        self.stored = self.refused = 0

    @property
    def calling(self) -> str:
        """The peer's AE title, as text that can be shown."""
        request = self.requestor.primitive
        title = str(request.calling_ae_title) if request is not None else ""
        return "".join(c for c in title if c.isprintable()).strip()[:16]

    def landing(self, message: DIMSEMessage) -> BytesIO:
        """A C-STORE's data set goes to a file, another's into memory. Which it is, its first fragment finds."""
        return Undecided(message, self._place)

    def _place(self, message: DIMSEMessage) -> BytesIO:
        if isinstance(message, N_EVENT_REPORT_RQ | N_ACTION_RQ):
            return Held(MAX_REPORT)
        return Landing(self.receiver.folder, lambda: announced(self, message))

    def run_reactor(self) -> None:
        """The association's whole life."""
        try:
            super().run_reactor()
        finally:
            if self.dimse.message is not None and isinstance(self.dimse.message.data_set, Landing):
                self.dimse.message.data_set.discard()
            self.receiver.gone(self)


class Receiver:
    """Takes what peers bring, and tells the owner of it."""

    def __init__(self, owner: Owner[Start], config: ScpConfig, folder: Folder) -> None:
        self._owner, self._config, self.folder = owner, config, folder
        pace = Pace(config.connects_per_second, config.connects_at_once)
        networks = networks_of("dicom.allow_addresses", config.allow_addresses)
        self.gate = Gate(2 * config.max_associations, config.max_per_address, pace, networks)
        self._busy, self._lock = 0, threading.Lock()
        self._associated: set[Incoming] = set()

    def opened(self, event: Any) -> None:
        """A connection was accepted."""
        event.assoc.address, event.assoc.entered = event.address[0], event.assoc.dul.socket.socket

    def stranger(self) -> None:
        """A TLS handshake came to nothing."""
        self._owner.tell(Refused(code=NOT_TRUSTED.code, status=0, calling_aet="", association=""))

    def requested(self, event: Any) -> None:
        """Judges an A-ASSOCIATE-RQ, and picks each context's transfer syntax."""
        assoc = cast(Incoming, event.assoc)
        request = assoc.requestor.primitive
        rejection = admit(
            aet=self._config.aet,
            allow_aets=self._config.allow_aets,
            called=str(request.called_ae_title),
            calling=str(request.calling_ae_title),
            address=assoc.address,
        )
        if rejection is None and not self._take_up(assoc):
            rejection = TOO_MANY
        if rejection is not None:
            self._owner.tell(
                Refused(code=rejection.code, status=0, calling_aet=assoc.calling, association=assoc.label)
            )
            assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            assoc.kill()
            return
        assoc.dul.socket.socket.settimeout(self._config.stall_seconds)
        for context in request.presentation_context_definition_list:
            if context.abstract_syntax not in _SERVED and not is_storage(context.abstract_syntax):
                # pynetdicom takes a class for storage whose keyword it does not have: worklist, for one
                context.abstract_syntax = STUDY_ROOT  # it has this one, and we do not serve it
                continue
            syntax = (
                plain(context.transfer_syntax)
                if context.abstract_syntax == PUSH_MODEL
                else preferred(context.transfer_syntax)
            )
            if syntax:
                context.transfer_syntax = [syntax]
            else:  # judged as Verification, which is not spoken in it either: "transfer syntaxes not supported"
                context.abstract_syntax = Verification

    def _take_up(self, assoc: Incoming) -> bool:
        """Counts an association, if there is room for one more."""
        with self._lock:
            if len(self._associated) >= self._config.max_associations:
                return False
            self._associated.add(assoc)
        if assoc.entered is not None:
            self.gate.settle(assoc.entered)
        return True

    def store(self, event: Any) -> int:
        """C-STORE: on disk, told, answered; in this order."""
        with self._lock:
            self._busy += 1
        try:
            originator = event.request.MoveOriginatorMessageID or 0
            return self._store(cast(Incoming, event.assoc), event.request.DataSet, originator)
        finally:
            with self._lock:
                self._busy -= 1

    def _store(self, assoc: Incoming, landing: Landing, originator: int) -> int:
        try:
            landing.check()
            name = landing.settle()
        except IntakeError as why:
            landing.discard()
            status = REFUSALS[why.code].status
            assoc.refused += 1
            self._owner.tell(
                Refused(code=why.code, status=status, calling_aet=assoc.calling, association=assoc.label)
            )
            return status
        assoc.stored += 1
        meta = landing.meta
        self._owner.tell(
            Received(
                name=name,
                size=landing.size,
                data_offset=meta.data_offset,
                calling_aet=assoc.calling,
                sop_class=meta.sop_class,
                sop_uid=meta.sop_uid,
                syntax=meta.syntax,
                association=assoc.label,
                originator=originator,
            )
        )
        return SUCCESS

    def report(self, event: Any) -> tuple[int, None]:
        """N-EVENT-REPORT: told, whatever it says; only who asked knows what to make of it."""
        assoc = cast(Incoming, event.assoc)
        implicit = str(event.context.transfer_syntax) == IMPLICIT_LITTLE
        if str(event.request.AffectedSOPClassUID) != PUSH_MODEL:
            return NO_SUCH_CLASS, None
        if (told := read_event(event.request, implicit=implicit)) is None:
            return INVALID_ARGUMENT, None
        self._owner.tell(Reported(report=told, calling_aet=assoc.calling))
        return SUCCESS, None

    def asked(self, event: Any) -> tuple[int, None]:
        """Somebody takes us for an archive that commits. Said, not aborted: it would ask again and again."""
        return UNRECOGNIZED_OPERATION, None

    def gone(self, assoc: Incoming) -> None:
        """An association is over."""
        if assoc.entered is not None:
            self.gate.leave(assoc.entered)
        with self._lock:
            self._associated.discard(assoc)
        if assoc.calling:
            self._owner.tell(
                AssociationClosed(
                    association=assoc.label,
                    calling_aet=assoc.calling,
                    stored=assoc.stored,
                    refused=assoc.refused,
                    orderly=bool(assoc.is_released),
                )
            )

    def finish(self) -> None:
        """Waits for the answers that are under way."""
        until = time.monotonic() + _LAST_ANSWERS
        while self._busy and time.monotonic() < until:
            time.sleep(0.01)


def build_server(receiver: Receiver, config: ScpConfig) -> GuardedServer:
    """A server that listens. Raises `OSError`, `ConfigError`."""
    install(Incoming)
    Incoming.receiver = receiver
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    ae = AE(config.aet)
    ae.implementation_class_uid, ae.implementation_version_name = IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
    ae.add_supported_context(Verification)
    ae.add_supported_context(PUSH_MODEL, [IMPLICIT_LITTLE, EXPLICIT_LITTLE], scu_role=False, scp_role=True)
    ae.maximum_pdu_size = MAX_PDU
    ae.maximum_associations = 2**16  # it counts whoever is connected; we count those that associated
    ae.acse_timeout, ae.network_timeout = config.request_seconds, config.idle_seconds
    ae.dimse_timeout = config.stall_seconds
    server: GuardedServer = ae.make_server(
        (config.host, config.port),
        evt_handlers=[
            (evt.EVT_CONN_OPEN, receiver.opened),
            (evt.EVT_REQUESTED, receiver.requested),
            (evt.EVT_C_STORE, receiver.store),
            (evt.EVT_N_EVENT_REPORT, receiver.report),
            (evt.EVT_N_ACTION, receiver.asked),
        ],
        server_class=GuardedServer,
        gate=receiver.gate,
        patience=config.request_seconds,
        tls=None if config.tls is None else server_context(config.tls),
        stranger=receiver.stranger,
    )
    return server


def main() -> None:
    """The process."""
    owner = Owner(Start)
    lines = owner.lines()
    start = next(lines, None)
    if start is None:
        return
    try:
        folder = Folder(Path(start.folder), start.config.min_free_bytes, start.config.max_instance_bytes)
        folder.sweep()
    except OSError:
        owner.tell(Failed("dicom-folder"))
        return
    receiver = Receiver(owner, start.config, folder)
    try:
        server = build_server(receiver, start.config)
    except OSError as why:
        owner.tell(Failed("dicom-port" if why.errno == errno.EADDRINUSE else "dicom-address"))
        return
    except ConfigError as why:  # the certificate was changed since the owner looked
        owner.tell(Failed(why.code))
        return
    host, port = server.server_address[:2]
    threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()
    owner.tell(Ready(host, port))
    for _ in lines:  # nothing more is said; the end of it is the sign
        pass
    server.close()
    receiver.finish()
    folder.close()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
