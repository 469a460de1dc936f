"""A thread that asks a PACS one thing after another over an association of its own (PS3.8 7).

The association proposes one presentation context, is opened with the first request and kept while there is something
to ask. A PACS may have ended it as we used it: then the request goes over a new one, once. What is asked, and what an
answer is, say `finder` and `committer`.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.courier import Caller, NoAssociationError
from clients.gateway.dicom.race import SoleReader

J = TypeVar("J")
T = TypeVar("T")


class Asker(threading.Thread, Generic[J]):
    """Asks one PACS; `J` is a job. Every job is answered, by `answer`."""

    look = 0.25
    """Seconds between two looks at an association that nothing is asked over."""

    def __init__(self, caller: Caller, pair: Pair, idle: float) -> None:
        super().__init__(daemon=True)
        self._caller, self._pair, self._idle = caller, pair, idle
        self._jobs: queue.Queue[J | None] = queue.Queue()
        self._assoc: SoleReader | None = None
        self._used_at = 0.0

    def put(self, job: J) -> None:
        """Adds a job."""
        self._jobs.put(job)

    def leave(self, grace: float) -> None:
        """Releases the association after the request that is under way, within `grace` seconds."""
        self._jobs.put(None)
        self.join(grace)

    def run(self) -> None:
        """Until told to leave."""
        while True:
            try:
                job = self._jobs.get(timeout=self.look if self._assoc else None)
            except queue.Empty:
                self._tend()
                continue
            if job is None:
                break
            self.answer(job)
        self._part()

    def answer(self, job: J) -> None:
        """Asks, and tells."""
        raise NotImplementedError

    def hear(self, assoc: SoleReader) -> None:
        """Takes what the PACS says of itself."""

    def over(self, request: Callable[[SoleReader, int], T | None]) -> T:
        """What `request` gets over the association and its context; None from it: no answer. Raises
        `NoAssociationError`, for no answer either (`pacs-late`, `pacs-lost`).
        """
        while True:
            assoc, fresh = self._open()
            found = request(assoc, assoc.contexts()[self._pair])
            self._used_at = time.monotonic()
            if found is not None:
                return found
            late = not assoc.is_over()
            self.drop()
            if fresh or late:
                raise NoAssociationError("pacs-late" if late else "pacs-lost")

    def drop(self) -> None:
        """Ends the association without asking."""
        assoc, self._assoc = self._assoc, None
        if assoc is not None:
            assoc.drop()

    def _open(self) -> tuple[SoleReader, bool]:
        """The association, and whether it is new. Raises `NoAssociationError`."""
        self._tend()
        if self._assoc is not None:
            return self._assoc, False
        self._assoc = self._caller.open((self._pair,))
        return self._assoc, True

    def _tend(self) -> None:
        if self._assoc is None:
            return
        try:
            self.hear(self._assoc)
            if time.monotonic() - self._used_at > self._idle:
                self._part()
            elif not self._assoc.tend():
                self._assoc = None
        except Exception:
            traceback.print_exc()  # to the owner, who logs where and what kind
            self.drop()

    def _part(self) -> None:
        assoc, self._assoc = self._assoc, None
        if assoc is not None:
            assoc.part()
