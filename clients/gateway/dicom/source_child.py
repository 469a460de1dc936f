"""The query/retrieve SCU as a process: `python -m clients.gateway.dicom.source_child`, started by `Source`.

Three threads, each with its own queue: searches, which staff wait for; lists of all images of a study; and retrieves,
of which one takes an hour. Each job opens its association and releases it; a retrieve proposes what its images need,
so no two are alike.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from clients.gateway.dicom.child import Owner
from clients.gateway.dicom.contexts import MAX_CONTEXTS, Pair
from clients.gateway.dicom.courier import Caller, NoAssociationError
from clients.gateway.dicom.landing import Folder
from clients.gateway.dicom.part10 import is_uid
from clients.gateway.dicom.query import (
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    ImageEntry,
    SeriesEntry,
    image_identifier,
    read_failed,
    read_image,
    read_match,
    read_series,
    retrieve_identifier,
    series_identifier,
    study_identifier,
)
from clients.gateway.dicom.race import PENDING
from clients.gateway.dicom.retriever import Puller
from clients.gateway.dicom.scu_child import build_entity
from clients.gateway.dicom.source import (
    MAX_IMAGES,
    Cancel,
    Done,
    Found,
    List,
    Listed,
    Missed,
    Moved,
    Open,
    Ready,
    Request,
    Retrieve,
    Search,
)
from clients.gateway.dicom.structure import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
)

T = TypeVar("T")
_LEAVE = 4.0
_AT_ONCE = 100
"""Entries of one line through the door."""
_MAX_SERIES = 2000
_ALSO_READ = 400
"""Answers beyond those that are shown which are looked at: a PACS may match more than it was asked."""
_FIND: Pair = (STUDY_FIND, IMPLICIT_LITTLE)
_MOVE: Pair = (STUDY_MOVE, IMPLICIT_LITTLE)
_GET: Pair = (STUDY_GET, IMPLICIT_LITTLE)
GET_SYNTAXES = (
    EXPLICIT_LITTLE, IMPLICIT_LITTLE, "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.5", DEFLATED_LITTLE, EXPLICIT_BIG,
)  # fmt: skip
"""In which images of a C-GET may come; a PACS sends an image as it is where its own syntax is among them."""
_STORAGE = "1.2.840.10008.5.1.4.1.1."
USUAL = tuple(
    _STORAGE + rest
    for rest in (
        "2", "2.1", "4", "4.1", "1", "1.1", "12.1", "12.2", "6.1", "3.1", "7", "7.2", "7.3", "7.4", "20", "128",
        "88.11", "88.22", "88.33", "88.34", "88.59", "88.67", "104.1", "11.1", "66", "66.4", "77.1.4.1", "9.1.1",
        "481.2", "481.3", "481.5",
    )
)  # fmt: skip
"""Classes of a C-GET where the PACS does not say which it has: what a trauma patient's studies hold."""


class Works(threading.Thread):
    """One thread of jobs."""

    def __init__(self, caller: Caller, owner: Owner[Request], folder: Folder | None, own_aet: str) -> None:
        super().__init__(daemon=True)
        self.jobs: queue.Queue[Search | List | Retrieve | None] = queue.Queue()
        self._caller, self._owner, self._folder, self._own = caller, owner, folder, own_aet
        self.cancelled: set[int] = set()

    def run(self) -> None:
        """Until told to leave; every job is answered, whatever goes wrong here."""
        while (job := self.jobs.get()) is not None:
            try:
                done = self._do(job)
            except NoAssociationError as why:
                done = Done(id=job.id, trouble=_named(why.code, job))
            except Exception:
                traceback.print_exc()  # to the owner, who logs where and what kind
                done = Done(id=job.id, trouble="dicom-child")
            self._owner.tell(done)

    def _do(self, job: Search | List | Retrieve) -> Done:
        if isinstance(job, Retrieve):
            return self._retrieve(job)
        assoc = self._open((_FIND,))
        try:
            return self._search(assoc, job) if isinstance(job, Search) else self._list(assoc, job)
        finally:
            assoc.part()

    def _open(self, pairs: tuple[Pair, ...], roles: tuple[str, ...] = ()) -> Puller:
        assoc = self._caller.open(pairs, roles)
        assert isinstance(assoc, Puller)
        assoc.folder = self._folder
        return assoc

    def _search(self, assoc: Puller, job: Search) -> Done:
        """Those that fit, each study once."""
        seen: set[str] = set()
        strangers, more = 0, False
        answers = assoc.search(assoc.contexts()[_FIND], study_identifier(job.terms), job.most + _ALSO_READ)
        status: int | None = None
        for status, identifier in answers:
            if status not in PENDING:
                continue
            match = read_match(identifier)
            if match is None or not job.terms.fit(match):
                strangers += 1
            elif match.uid not in seen and len(seen) >= job.most:
                more = True
            elif match.uid not in seen:
                seen.add(match.uid)
                self._owner.tell(Found(job.id, match))
        if status == 0xFE00:
            status, more = 0x0000, True
        return self._ended(assoc, job.id, status, more=more, strangers=strangers)

    def _list(self, assoc: Puller, job: List) -> Done:
        """Its series, then the images of each (PS3.4 C.4.1.2.1: every unique key above the level is given)."""
        context = assoc.contexts()[_FIND]
        series: dict[str, SeriesEntry] = {}
        status: int | None = None
        for status, identifier in assoc.search(context, series_identifier(job.study), _MAX_SERIES):
            if status in PENDING and (entry := read_series(identifier, job.study)) is not None:
                series[entry.uid] = entry
        for part in _parts(series.values()):
            self._owner.tell(Listed(job.id, series=part))
        if status != 0x0000:
            return self._ended(assoc, job.id, status, more=status == 0xFE00)
        left = MAX_IMAGES
        for uid in series:
            images: list[ImageEntry] = []
            for status, identifier in assoc.search(context, image_identifier(job.study, uid), left):
                if status in PENDING and (image := read_image(identifier, job.study, uid)) is not None:
                    images.append(image)
                    left -= 1
                if len(images) == _AT_ONCE:  # as they come: so the owner sees that it goes on
                    self._owner.tell(Listed(job.id, images=images))
                    images = []
            self._owner.tell(Listed(job.id, images=images))
            if status is None or status in PENDING or status == 0xFE00:
                return self._ended(assoc, job.id, status, more=status == 0xFE00)
            if status != 0x0000:
                return Done(id=job.id, status=0x0000, no_images=True)
        return Done(id=job.id, status=0x0000)

    def _retrieve(self, job: Retrieve) -> Done:
        if not is_uid(job.study):
            return Done(id=job.id, trouble="source-refused")

        def cancelled() -> bool:
            return job.id in self.cancelled

        if cancelled():
            return Done(id=job.id, status=0xFE00)
        identifier = retrieve_identifier(job.study)
        if job.how == "move":
            assoc = self._open((_MOVE,))
            responses = assoc.move(assoc.contexts()[_MOVE], job.message, self._own, identifier, cancelled)
        else:
            pairs, classes = storage_pairs(job.classes)
            assoc = self._open((_GET, *pairs), classes)
            if _GET not in assoc.contexts():
                assoc.part()
                raise NoAssociationError("pacs-context")
            responses = assoc.get(
                assoc.contexts()[_GET], job.message, identifier, cancelled, self._owner.tell
            )
        try:
            for response in responses:
                self._owner.tell(
                    Moved(
                        id=job.id, completed=response.completed, failed=response.failed, warning=response.warning,
                        remaining=response.remaining,
                    )
                )  # fmt: skip
                if response.is_last:
                    for uids in _parts(read_failed(response.identifier)):
                        self._owner.tell(Missed(job.id, uids))
                    assoc.part()
                    return Done(id=job.id, status=response.status)
            lost = assoc.is_over()
        finally:
            assoc.drop()
        return Done(id=job.id, trouble="pacs-lost" if lost else "pacs-late")

    def _ended(
        self, assoc: Puller, number: int, status: int | None, *, more: bool = False, strangers: int = 0
    ) -> Done:
        """The end of a query: its last status, or what kept it from having one."""
        if status is None or status in PENDING:
            return Done(
                id=number, trouble="pacs-lost" if assoc.is_over() else "pacs-late", strangers=strangers
            )
        return Done(id=number, status=status, more=more, strangers=strangers)


def storage_pairs(classes: Iterable[str]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The contexts of a C-GET's images, and their classes: those of the study, or the usual ones, each in as many
    transfer syntaxes as 128 contexts have room for.
    """
    chosen = [c for c in dict.fromkeys(classes) if is_uid(c)][: MAX_CONTEXTS // 2 - 1] or list(USUAL)
    room = (MAX_CONTEXTS - 1) // len(chosen)
    return tuple((c, syntax) for c in chosen for syntax in GET_SYNTAXES[:room]), tuple(chosen)


def _parts(entries: Iterable[T]) -> Iterator[list[T]]:
    """In lists that each fit a line."""
    whole = list(entries)
    for i in range(0, len(whole), _AT_ONCE):
        yield whole[i : i + _AT_ONCE]


def _named(code: str, job: Search | List | Retrieve) -> str:
    """A refused context by what it was for."""
    if code != "pacs-context":
        return code
    return f"source-no-{job.how}" if isinstance(job, Retrieve) else "pacs-query"


def main() -> None:
    """The process."""
    owner: Owner[Request] = Owner(Request)  # type: ignore[arg-type]
    lines = owner.lines()
    first = next(lines, None)
    if not isinstance(first, Open):
        return
    to, landed = first.source, first.landed
    caller = Caller(build_entity(to, Puller), to)
    folder = Folder(Path(landed.folder), landed.min_free_bytes, landed.max_instance_bytes)
    works = [Works(caller, owner, folder, to.calling_aet) for _ in range(3)]
    for work in works:
        work.start()
    owner.tell(Ready())
    searches, lists, retrieves = works
    for line in lines:
        if isinstance(line, Search):
            searches.jobs.put(line)
        elif isinstance(line, List):
            lists.jobs.put(line)
        elif isinstance(line, Retrieve):
            retrieves.jobs.put(line)
        elif isinstance(line, Cancel):
            retrieves.cancelled.add(line.id)
    until = time.monotonic() + _LEAVE
    for work in works:
        work.jobs.put(None)
        work.join(max(0.0, until - time.monotonic()))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
