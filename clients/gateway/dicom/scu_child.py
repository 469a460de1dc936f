"""The storage and query SCU as a process: `python -m clients.gateway.dicom.scu_child`, started by `StoreScu`."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from clients.gateway.dicom.child import Owner
from clients.gateway.dicom.committer import Committer
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.courier import Caller, Crew, Job, NoAssociationError
from clients.gateway.dicom.finder import Finder
from clients.gateway.dicom.part10 import IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.scu import (
    Commit,
    Destination,
    Done,
    Echo,
    Find,
    Open,
    Prepare,
    Ready,
    Request,
    Store,
)
from clients.gateway.dicom.structure import IMPLICIT_LITTLE
from clients.gateway.dicom.upper_layer import install

_LEAVE = 4.0
_VERIFICATION: tuple[Pair, ...] = ((str(Verification), IMPLICIT_LITTLE),)


def build_entity(to: Destination, association: type[SoleReader] = SoleReader) -> AE:
    """Our application entity, as the PACS sees it; its associations are of that class."""
    install(association)
    ae = AE(to.calling_aet)
    ae.implementation_class_uid, ae.implementation_version_name = IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
    ae.connection_timeout, ae.acse_timeout, ae.dimse_timeout = to.connect, to.association, to.response
    ae.network_timeout = None  # nothing watches an idle association but its courier
    return ae


def echo(caller: Caller, number: int, tell: Callable[[Done], None]) -> None:
    """C-ECHO on an association of its own; always answered."""
    try:
        assoc = caller.open(_VERIFICATION)
        status = assoc.send_c_echo().get("Status")
        assoc.part()
        tell(Done(number, None, "pacs-late") if status is None else Done(number, int(status)))
    except NoAssociationError as why:
        tell(Done(number, None, "pacs-verification" if why.code == "pacs-context" else why.code))
    except Exception:
        traceback.print_exc()  # to the owner, who logs where and what kind
        tell(Done(number, None, "dicom-child"))


def main() -> None:
    """The process."""
    owner: Owner[Request] = Owner(Request)  # type: ignore[arg-type]
    lines = owner.lines()
    first = next(lines, None)
    if not isinstance(first, Open):
        return
    caller = Caller(build_entity(first.destination), first.destination)
    crew = Crew(caller, first.destination.idle, owner.tell, first.associations)
    finder = Finder(caller, first.destination.idle, owner.tell)
    crew.start()
    committer = Committer(caller, first.destination.idle, owner.tell)
    finder.start()
    committer.start()
    owner.tell(Ready())
    for line in lines:
        if isinstance(line, Store):
            crew.jobs.put(Job(line, time.monotonic()))
        elif isinstance(line, Find):
            finder.ask(line)
        elif isinstance(line, Commit):
            committer.put(line)
        elif isinstance(line, Prepare):
            for pair in line.pairs:
                crew.plan.add(pair)
        elif isinstance(line, Echo):
            threading.Thread(target=echo, args=(caller, line.id, owner.tell), daemon=True).start()
    until = time.monotonic() + _LEAVE
    crew.leave(_LEAVE)
    finder.leave(max(0.0, until - time.monotonic()))
    committer.leave(max(0.0, until - time.monotonic()))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
