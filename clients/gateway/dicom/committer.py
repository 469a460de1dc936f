"""The storage commitment SCU (PS3.4 J.3): asks a PACS to answer for what it has taken, and hears its reports.

One association of its own. A PACS may report on it, while it is open, or on one that it opens to our SCP; both are
listened to, and whoever knows the transaction takes the first. After the last request the association stays for
`idle` seconds: a PACS that reports in the same association does so soon.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable

import msgspec

from clients.gateway.dicom.commitment import PUSH_INSTANCE, PUSH_MODEL, REQUEST, encode_request, read_event
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.courier import Caller, NoAssociationError
from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.scu import Commit, Done, Reported
from clients.gateway.dicom.structure import IMPLICIT_LITTLE

_PAIR: Pair = (PUSH_MODEL, IMPLICIT_LITTLE)
_LOOK = 0.1


class Job(msgspec.Struct, frozen=True):
    """What to ask."""

    what: Commit


class Committer(threading.Thread):
    """Asks one PACS. `tell` gets a `Done` for each job, and a `Reported` for each report that comes here."""

    def __init__(self, caller: Caller, idle: float, tell: Callable[[Done | Reported], None]) -> None:
        super().__init__(daemon=True)
        self._caller, self._idle, self._tell = caller, idle, tell
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._assoc: SoleReader | None = None
        self._used_at = 0.0

    def ask(self, what: Commit) -> None:
        """Adds a job."""
        self._jobs.put(Job(what))

    def leave(self, grace: float) -> None:
        """Releases the association after the request that is under way, within `grace` seconds."""
        self._jobs.put(None)
        self.join(grace)

    def run(self) -> None:
        """Until told to leave."""
        while True:
            try:
                job = self._jobs.get(timeout=_LOOK if self._assoc else None)
            except queue.Empty:
                self._tend()
                continue
            if job is None:
                break
            self._tell(self._answer(job.what))
        if self._assoc is not None:
            self._assoc.part()

    def _answer(self, what: Commit) -> Done:
        """Asks; every job is answered, whatever goes wrong here."""
        try:
            return self._act(what)
        except NoAssociationError as why:
            return Done(what.id, None, "pacs-commit" if why.code == "pacs-context" else why.code)
        except Exception:
            traceback.print_exc()  # to the owner, who logs where and what kind
            self._drop()
            return Done(what.id, None, "dicom-child")

    def _act(self, what: Commit) -> Done:
        """Asks over the open association, or a new one where the PACS ended that as we used it."""
        data = encode_request(what.transaction, what.references)
        while True:
            assoc, fresh = self._open()
            status = assoc.act(assoc.contexts()[_PAIR], PUSH_MODEL, PUSH_INSTANCE, REQUEST, data)
            self._used_at = time.monotonic()
            if status is not None:
                self._hear()
                return Done(what.id, status)
            late = not assoc.is_over()
            self._drop()
            if fresh or late:
                return Done(what.id, None, "pacs-late" if late else "pacs-lost")

    def _hear(self) -> None:
        """Hands on what was reported."""
        assert self._assoc is not None
        for event in self._assoc.events():
            if (report := read_event(event, implicit=True)) is not None:
                self._tell(Reported(report))

    def _open(self) -> tuple[SoleReader, bool]:
        """The association, and whether it is new. Raises `NoAssociationError`."""
        self._tend()
        if self._assoc is not None:
            return self._assoc, False
        self._assoc = self._caller.open((_PAIR,))
        return self._assoc, True

    def _tend(self) -> None:
        if self._assoc is None:
            return
        try:
            self._hear()
            if time.monotonic() - self._used_at > self._idle:
                self._assoc.part()
                self._assoc = None
            elif not self._assoc.tend():
                self._assoc = None
        except Exception:
            traceback.print_exc()  # to the owner, who logs where and what kind
            self._drop()

    def _drop(self) -> None:
        assoc, self._assoc = self._assoc, None
        if assoc is not None:
            assoc.drop()
