"""The hospital's own archive as a source of studies, this side of the door: what it has, and bringing it here.

`find` asks at STUDY level (PS3.4 C.4.1), `listing` for every image of one study, `retrieve` brings a study by C-MOVE
to our own SCP or by C-GET over the same association (C.4.2, C.4.3). A child of its own does the networking (ADR
0008, ADR 0020): a pull of an hour holds up no delivery, and what ends it ends nothing else.

Every call ends, whatever the archive does, with its status or with what stood in its way. Answers, images and times
are bounded in the child; a child that says nothing for too long is ended here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from clients.gateway.dicom.door import Door, DoorClosedError
from clients.gateway.dicom.on_call import OnCall
from clients.gateway.dicom.query import ImageEntry, Match, SeriesEntry, Terms
from clients.gateway.dicom.scp import INCOMING, Received, scan
from clients.gateway.dicom.scu import Destination
from clients.gateway.dicom.tls import client_context

log = structlog.get_logger()
How = Literal["move", "get"]
MAX_MATCHES = 200
"""Studies of one search. More are cut off, and that is said."""
MAX_IMAGES = 100_000
"""Images of one study that are listed."""
_LOST_WITHIN = 900.0
"""Seconds before a child's end from which images that it could not tell of are looked for."""


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """Where images of a C-GET go: the folder of what arrived, with the SCP's limits."""

    folder: str
    min_free_bytes: int = 2**28
    max_instance_bytes: int = 2**31


class Line(msgspec.Struct, frozen=True, tag=True):
    """Base of the lines through the door."""


class Open(Line, frozen=True):
    """The first line to the child."""

    source: Destination
    landed: Landed


class Search(Line, frozen=True):
    """A C-FIND at STUDY level."""

    id: int
    terms: Terms
    most: int


class List(Line, frozen=True):
    """C-FINDs at SERIES and IMAGE level below one study."""

    id: int
    study: str


class Retrieve(Line, frozen=True):
    """A C-MOVE or C-GET of one study; `message` is its request's id, which a C-MOVE's images name (PS3.7 9.1.1)."""

    id: int
    how: How
    study: str
    message: int
    classes: list[str]
    """SOP classes that are to come, where they are known."""


class Cancel(Line, frozen=True):
    """A C-CANCEL of a retrieve that is under way, or waits."""

    id: int


class Ready(Line, frozen=True):
    """The child is there."""


class Found(Line, frozen=True):
    """One study."""

    id: int
    match: Match


class Listed(Line, frozen=True):
    """Some of the images; or a series, `images` being what the archive says of it."""

    id: int
    images: list[ImageEntry] = []
    series: list[SeriesEntry] = []


class Moved(Line, frozen=True, kw_only=True):
    """The sub-operations of a retrieve so far; -1: the archive does not say."""

    id: int
    completed: int = -1
    failed: int = -1
    warning: int = -1
    remaining: int = -1


class Missed(Line, frozen=True):
    """Some of the images that the archive says it could not send."""

    id: int
    uids: list[str]


class Done(Line, frozen=True, kw_only=True):
    """The end of `id`: its status, or a code of `SOURCE_TROUBLES`."""

    id: int
    status: int | None = None
    trouble: str = ""
    more: bool = False
    """Of a search: there were more than asked for. Of a listing: it was too long."""
    strangers: int = 0
    """Of a search: answers that were not asked for, and are not shown."""
    no_images: bool = False
    """Of a listing: the archive answers no queries at IMAGE level; the numbers of its series are all there is."""


Request = Open | Search | List | Retrieve | Cancel
_Lines = Ready | Found | Listed | Moved | Missed | Done | Received
Answer = Found | Listed | Moved | Missed | Done


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive says that a study consists of. `status` 0: it answered, and this is all of it."""

    images: dict[str, ImageEntry]
    """By SOP Instance UID; empty where it answers no queries at IMAGE level (`by_image` is False then)."""
    series: dict[str, int]
    """Images by series, as its numbers say; -1: not said."""
    by_image: bool = True
    status: int | None = 0
    trouble: str = ""

    @property
    def answered(self) -> bool:
        """The archive gave the whole list."""
        return self.status == 0 and not self.trouble


class Matches(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found."""

    matches: list[Match]
    more: bool
    strangers: int
    status: int | None
    trouble: str


class Source(OnCall[_Lines]):
    """Asks one archive."""

    def __init__(
        self,
        archive: Destination,
        landed: Landed,
        *,
        received: Callable[[Received], None] = lambda event: None,
        patience: float = 0.0,
    ) -> None:
        super().__init__("clients.gateway.dicom.source_child", _Lines, "dicom source")  # type: ignore[arg-type]
        self.archive = archive
        self._landed, self._received = landed, received
        d = archive
        self._patience = patience or d.connect + d.association + 2 * (d.stall + d.response) + 10
        self._moved_at = float("-inf")
        self._waiting: dict[int, asyncio.Queue[Answer]] = {}
        self._next = 0

    async def start(self) -> None:
        """Starts the child; the archive need not be there. Raises `ConfigError` for TLS files, `DoorClosedError`."""
        if self.archive.tls is not None:
            await asyncio.to_thread(client_context, self.archive.tls)
        await self._opened()

    async def find(self, terms: Terms, most: int = MAX_MATCHES) -> Matches:
        """The studies that fit, `most` at the most. Never raises for what an archive does."""
        matches: list[Match] = []
        end = Done(id=0, trouble="dicom-child")
        async with contextlib.aclosing(self._ask(lambda number: Search(number, terms, most))) as answers:
            async for line in answers:
                if isinstance(line, Found):
                    matches.append(line.match)
                elif isinstance(line, Done):
                    end = line
        return Matches(
            matches=matches, more=end.more, strangers=end.strangers, status=end.status, trouble=end.trouble
        )

    async def listing(self, study: str) -> Listing:
        """Every image of a study, as the archive lists it."""
        images: dict[str, ImageEntry] = {}
        series: dict[str, int] = {}
        end = Done(id=0, trouble="dicom-child")
        async with contextlib.aclosing(self._ask(lambda number: List(number, study))) as answers:
            async for line in answers:
                if isinstance(line, Listed):
                    images.update((image.uid, image) for image in line.images)
                    series.update((entry.uid, entry.instances) for entry in line.series)
                elif isinstance(line, Done):
                    end = line
        trouble = end.trouble or ("source-too-many" if end.more else "")
        return Listing(
            images=images, series=series, by_image=not end.no_images, status=end.status, trouble=trouble
        )

    async def retrieve(
        self, how: How, study: str, message: int, classes: list[str], cancelled: asyncio.Event
    ) -> AsyncGenerator[Moved | Missed | Done, None]:
        """Brings a study: what the archive says on the way, and `Done` at last. Its images come by themselves. Whoever
        iterates must bound it: an archive may take its time.
        """
        number = 0

        def request(ident: int) -> Retrieve:
            nonlocal number
            number = ident
            return Retrieve(ident, how, study, message, classes)

        async def cancel() -> None:
            await cancelled.wait()
            with contextlib.suppress(DoorClosedError):
                await (await self._opened()).send(Cancel(number))

        canceller = asyncio.create_task(cancel())
        try:
            async with contextlib.aclosing(self._ask(request, bounded=False)) as answers:
                async for line in answers:
                    if isinstance(line, Moved | Missed | Done):
                        yield line
        finally:
            canceller.cancel()
            await asyncio.gather(canceller, return_exceptions=True)

    async def _ask(
        self, request: Callable[[int], Line], *, bounded: bool = True
    ) -> AsyncGenerator[Answer, None]:
        """The answers to a request; `Done` is the last, and always comes."""
        self._next += 1
        number = self._next
        answers = self._waiting[number] = asyncio.Queue()
        try:
            door = await self._opened()
            await door.send(request(number))
            while True:
                line = await self._answer(answers, number, door, bounded=bounded)
                yield line
                if isinstance(line, Done):
                    return
        except DoorClosedError:
            yield Done(id=number, trouble="dicom-child")
        finally:
            self._waiting.pop(number, None)

    async def _answer(
        self, answers: asyncio.Queue[Answer], number: int, door: Door[_Lines], *, bounded: bool
    ) -> Answer:
        """The next line for a request; a child that says nothing at all for too long is ended, with every call."""
        self._moved_at = max(self._moved_at, time.monotonic())
        while True:
            left = self._moved_at + self._patience - time.monotonic()
            if bounded and left <= 0:
                log.error("dicom source makes no step")
                door.kill()
                return Done(id=number, trouble="dicom-child")
            try:
                async with asyncio.timeout(left if bounded else None):
                    return await answers.get()
            except TimeoutError:
                continue

    def _first(self) -> Open:
        return Open(self.archive, self._landed)

    def _heard(self, line: _Lines) -> None:
        self._moved_at = time.monotonic()
        if isinstance(line, Received):
            self._received(line)
        elif not isinstance(line, Ready) and (waiting := self._waiting.get(line.id)) is not None:
            waiting.put_nowait(line)

    def _abandon(self) -> None:
        for number, waiting in self._waiting.items():
            waiting.put_nowait(Done(id=number, trouble="dicom-child"))

    async def _recover(self, ended: float) -> None:
        """What it put on disk and could not tell."""
        folder = Path(self._landed.folder)
        if folder.name == INCOMING:
            for lost in await asyncio.to_thread(scan, folder.parent, ended - _LOST_WITHIN):
                self._received(lost)
