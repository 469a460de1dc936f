"""The storage commitment SCU (PS3.4 J.3): asks a PACS to answer for what it has taken, and hears its reports.

A PACS may report on the association that asked, while it is open, or on one that it opens to our SCP; both are
listened to, and whoever knows the transaction takes the first. After the last request the association stays for
`idle` seconds: a PACS that reports in the same association does so soon.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from clients.gateway.dicom.asker import Asker
from clients.gateway.dicom.commitment import PUSH_INSTANCE, PUSH_MODEL, REQUEST, encode_request, read_event
from clients.gateway.dicom.courier import Caller, NoAssociationError
from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.scu import Commit, Done, Reported
from clients.gateway.dicom.structure import IMPLICIT_LITTLE


class Committer(Asker[Commit]):
    """Asks one PACS. `tell` gets a `Done` for each job, and a `Reported` for each report that comes here."""

    look = 0.1

    def __init__(self, caller: Caller, idle: float, tell: Callable[[Done | Reported], None]) -> None:
        super().__init__(caller, (PUSH_MODEL, IMPLICIT_LITTLE), idle)
        self._tell = tell

    def answer(self, job: Commit) -> None:
        """Asks; every job is answered, whatever goes wrong here."""
        self._caller.room_wanted_at = time.monotonic()
        data = encode_request(job.transaction, job.references)

        def request(assoc: SoleReader, context: int) -> int | None:
            status = assoc.act(context, PUSH_MODEL, PUSH_INSTANCE, REQUEST, data)
            if status is not None:
                self.hear(assoc)
            return status

        try:
            done = Done(job.id, self.over(request))
        except NoAssociationError as why:
            done = Done(job.id, None, "pacs-commit" if why.code == "pacs-context" else why.code)
        except Exception:
            traceback.print_exc()  # to the owner, who logs where and what kind
            self.drop()
            done = Done(job.id, None, "dicom-child")
        self._tell(done)

    def hear(self, assoc: SoleReader) -> None:
        """Hands on what was reported."""
        for event in assoc.events():
            if (report := read_event(event, implicit=True)) is not None:
                self._tell(Reported(report))
