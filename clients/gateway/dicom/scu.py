"""The storage and query SCU (PS3.4 B, C), this side of the door: instances to one PACS.

`store` may be called for several instances at once; the child sends them in the order of the calls, over one
association for the study (two, where the PACS allows it). Every call ends, whatever the PACS does: with its
status, or with what stood in its way. Sending an instance again is safe; `find` tells whether it is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

import msgspec
import structlog

from clients.gateway.dicom.commitment import Report
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.door import Door, DoorClosedError
from clients.gateway.dicom.on_call import OnCall
from clients.gateway.dicom.statuses import (
    TROUBLES,
    CommitResult,
    EchoResult,
    FindResult,
    Kind,
    StoreResult,
    answered,
    found,
    requested,
    troubled,
)
from clients.gateway.dicom.tls import TlsFiles, client_context

log = structlog.get_logger()
_IN_FLIGHT = 32
_SLOWEST = 2**16
"""Bytes a second below which a PACS counts as silent."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A PACS, and how patient we are with it. Times are in seconds."""

    aet: str
    host: str
    port: int
    calling_aet: str
    max_pdu: int = 131072
    connect: float = 10.0
    association: float = 20.0
    response: float = 60.0
    """From the last byte of an instance to its status."""
    stall: float = 30.0
    """For one PDU that the PACS does not take."""
    idle: float = 20.0
    """Then the association is released: before the PACS loses patience (Orthanc's is 30 s)."""
    tls: TlsFiles | None = None
    """None: plain DICOM."""


class Line(msgspec.Struct, frozen=True, tag=True):
    """Base of the lines through the door."""


class Open(Line, frozen=True):
    """The first line to the child."""

    destination: Destination
    associations: int


class Prepare(Line, frozen=True):
    """Pairs that will come, so that the next association proposes them."""

    pairs: list[Pair]


class Store(Line, frozen=True):
    """One instance to send."""

    id: int
    path: str
    sop_class: str
    sop_uid: str
    syntax: str


class Echo(Line, frozen=True):
    """A C-ECHO on an association of its own."""

    id: int


class Find(Line, frozen=True):
    """A C-FIND for one instance, on an association of its own."""

    id: int
    study: str
    series: str
    sop_uid: str


class Commit(Line, frozen=True):
    """An N-ACTION that asks for storage commitment of (SOP class, SOP instance) pairs."""

    id: int
    transaction: str
    references: list[Pair]


class Ready(Line, frozen=True):
    """The child is there."""


class Done(Line, frozen=True):
    """What became of `id`: the status, or a code of `TROUBLES`."""

    id: int
    status: int | None = None
    trouble: str = ""
    found: bool = False
    """Of a C-FIND: an answer named the instance."""


class Reported(Line, frozen=True):
    """The PACS has reported on the association that asked."""

    report: Report


Request = Open | Prepare | Store | Echo | Find | Commit
_Lines = Ready | Done | Reported


class StoreScu(OnCall[_Lines]):
    """Sends to one PACS."""

    def __init__(
        self,
        destination: Destination,
        *,
        associations: int = 1,
        reported: Callable[[Report], None] = lambda report: None,
    ) -> None:
        super().__init__("clients.gateway.dicom.scu_child", _Lines, "dicom scu")  # type: ignore[arg-type]
        self._reported = reported
        self._destination, self._associations = destination, associations
        self._pending: dict[int, asyncio.Future[Done]] = {}
        self._known: dict[Pair, None] = {}
        self._next = 0
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._moved_at = 0.0
        self.answers: Counter[str] = Counter(dict.fromkeys(get_args(Kind), 0))
        """What became of instances, since the start."""

    async def start(self) -> None:
        """Starts the child. The PACS need not be there. Raises `ConfigError` for TLS files, `DoorClosedError`."""
        if self._destination.tls is not None:
            await asyncio.to_thread(client_context, self._destination.tls)
        await self._opened()

    async def prepare(self, contexts: Iterable[Pair]) -> None:
        """Announces pairs before their first instance comes. Raises `DoorClosedError`."""
        door = await self._opened()
        pairs = dict.fromkeys((str(sop_class), str(syntax)) for sop_class, syntax in contexts)
        new = [pair for pair in pairs if pair not in self._known]
        self._known.update(dict.fromkeys(new))
        await self._announce(door, new)

    async def _announce(self, door: Door[_Lines], pairs: list[Pair]) -> None:
        for i in range(0, len(pairs), 100):
            await door.send(Prepare(pairs[i : i + 100]))

    async def store(
        self, path: Path, sop_class: str, sop_uid: str, syntax: str, contexts: Iterable[Pair] = ()
    ) -> StoreResult:
        """C-STOREs the DICOM file at `path`, whose instance the caller names. Never raises for what a PACS does."""
        size = _size(path)
        async with self._room:
            done = await self._ask(
                lambda number: Store(number, str(path), str(sop_class), str(sop_uid), str(syntax)),
                [*contexts, (sop_class, syntax)],
                self._patience() + size / _SLOWEST,
            )
        result = answered(done.status) if done.status is not None else troubled(done.trouble)
        self.answers[result.kind] += 1
        return result

    async def echo(self) -> EchoResult:
        """C-ECHO (PS3.4 A): whether the PACS answers, and to us."""
        done = await self._ask(Echo, [], self._patience())
        if done.status == 0:
            return EchoResult(True, f"{self._destination.aet} answers.")
        if done.status is not None:
            return EchoResult(
                False, f"The PACS answered the C-ECHO with status {done.status:04X}.", "pacs-echo"
            )
        return EchoResult(False, TROUBLES[done.trouble][1], done.trouble)

    async def find(self, study: str, series: str, sop_uid: str) -> FindResult:
        """C-FIND (PS3.4 C.4.1): whether the PACS has this instance. Never raises for what a PACS does."""
        done = await self._ask(lambda number: Find(number, study, series, sop_uid), [], self._patience())
        return found(done.status, done.trouble, there=done.found)

    async def commit(self, transaction: str, references: list[Pair]) -> CommitResult:
        """N-ACTION (PS3.4 J.3.2): whether the PACS will report on these. Never raises for what a PACS does."""
        done = await self._ask(lambda number: Commit(number, transaction, references), [], self._patience())
        return requested(done.status, done.trouble)

    def _patience(self) -> float:
        d = self._destination
        return d.connect + d.association + 2 * (d.stall + d.response) + 10

    async def _ask(self, request: Callable[[int], Line], pairs: list[Pair], patience: float) -> Done:
        self._next += 1
        number = self._next
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        try:
            await self.prepare(pairs)
            self._pending[number] = future
            door = await self._opened()
            await door.send(request(number))
            return await self._wait(future, patience)
        except DoorClosedError:
            return Done(number, None, "dicom-child")
        finally:
            self._pending.pop(number, None)

    async def _wait(self, future: asyncio.Future[Done], patience: float) -> Done:
        """The answer; a child that makes no step for `patience` seconds is ended, and every call with it."""
        self._moved_at = max(self._moved_at, time.monotonic())
        while True:
            left = self._moved_at + patience - time.monotonic()
            if left <= 0 and self._door is not None:
                log.error("dicom scu makes no step")
                self._door.kill()
                return await future
            await asyncio.wait({future}, timeout=left)
            if future.done():
                return future.result()

    def _first(self) -> Open:
        return Open(self._destination, self._associations)

    async def _greet(self, door: Door[_Lines]) -> None:
        await self._announce(door, list(self._known))

    def _heard(self, line: _Lines) -> None:
        if isinstance(line, Reported):
            self._reported(line.report)
        elif isinstance(line, Done) and (future := self._pending.get(line.id)) is not None:
            self._moved_at = time.monotonic()
            if not future.done():
                future.set_result(line)

    def _abandon(self) -> None:
        for number, future in self._pending.items():
            if not future.done():
                future.set_result(Done(number, None, "dicom-child"))


def _size(path: Path) -> int:
    """Asked for here: it was written a moment ago, and a thread would cost a hundred times as much."""
    try:
        return path.stat().st_size
    except OSError:  # the child names it
        return 0
