"""The storage SCP (PS3.4 B), this side of the door: its settings, what it tells, and its life.

Every storage class is taken in every known transfer syntax; the data set's bytes are kept as they came. A
file in `incoming` is on disk before its sender is answered, and before an event tells of it; so a lost event
loses nothing: `scan` finds the file again.

Without a list of calling AE titles only this machine may send; with one, only those titles, from anywhere.
That holds for C-ECHO too.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import structlog

from clients.gateway.dicom.commitment import Report
from clients.gateway.dicom.door import Door, DoorClosedError
from clients.gateway.dicom.part10 import read_meta
from clients.gateway.dicom.tls import TlsFiles, server_context
from clients.gateway.errors import ConfigError, GatewayError, IntakeError

log = structlog.get_logger()
INCOMING = "incoming"
_SAY_EACH = 10.0
"""Seconds between two log lines about refusals for the same reason."""
_PAUSE_FIRST, _PAUSE_MOST = 0.25, 15.0
_LOST_WITHIN = 900.0
"""Seconds before a child's end from which its untold files are looked for."""


class ScpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the SCP listens and what it takes."""

    aet: str
    host: str = "127.0.0.1"
    port: int = 11112
    """0: any that is free; `start` says which."""
    allow_aets: tuple[str, ...] = ()
    allow_addresses: tuple[str, ...] = ()
    """Addresses and networks (CIDR) that may connect; empty: any."""
    max_associations: int = 20
    max_per_address: int = 10
    """Connections from one address."""
    connects_at_once: int = 2000
    """Connections that one address may open in a row; a scanner that opens one for each image does so."""
    connects_per_second: float = 50.0
    """And those that it may open in each second after that."""
    max_instance_bytes: int = 2**31
    min_free_bytes: int = 2**28
    """Below this much free space the sender is told 0xA700 and tries again later."""
    request_seconds: float = 15.0
    """From connection to A-ASSOCIATE-RQ; with TLS once more for the handshake."""
    stall_seconds: float = 30.0
    """For one PDU, either way."""
    idle_seconds: float = 300.0
    """Without anything from a peer that is associated; in the middle of a message it has `stall_seconds`."""
    tls: TlsFiles | None = None
    """None: plain DICOM."""


class Line(msgspec.Struct, frozen=True, tag=True):
    """Base of the lines through the door."""


class Start(Line, frozen=True):
    """The first line to the child."""

    config: ScpConfig
    folder: str


class Ready(Line, frozen=True):
    """It listens."""

    host: str
    port: int


class Failed(Line, frozen=True):
    """It cannot listen."""

    code: str


class Received(Line, frozen=True, kw_only=True):
    """An instance is on disk, at `incoming/name`; its data set begins at `data_offset` and has `size` bytes."""

    name: str
    size: int
    data_offset: int
    calling_aet: str
    sop_class: str
    sop_uid: str
    syntax: str
    association: str
    originator: int = 0
    """The message id of the C-MOVE that it came by (PS3.7 9.1.1.1), or of our C-GET; 0: by none."""


class Refused(Line, frozen=True, kw_only=True):
    """An instance (`status` is what its sender was told) or an association (`status` 0) was refused."""

    code: str
    status: int
    calling_aet: str
    association: str


class AssociationClosed(Line, frozen=True, kw_only=True):
    """An association is over, in good order or not."""

    association: str
    calling_aet: str
    stored: int
    refused: int
    orderly: bool


class Reported(Line, frozen=True, kw_only=True):
    """A PACS has reported on a storage commitment, on an association that it opened."""

    report: Report
    calling_aet: str


Event = Received | Refused | AssociationClosed | Reported
_Lines = Ready | Failed | Received | Refused | AssociationClosed | Reported


class StorageScp:
    """The SCP of one gateway. `events` must be read: a child that nobody listens to stops to answer."""

    def __init__(self, config: ScpConfig, spool: Path) -> None:
        self._config, self._spool = config, spool
        self._door: Door[_Lines] = Door("clients.gateway.dicom.scp_child", _Lines)  # type: ignore[arg-type]
        self._stopping = False
        self._refused, self._said_at = Counter[str](), dict[str, float]()

    @property
    def alive(self) -> bool:
        """A child is there, and takes associations."""
        return self._door.alive

    async def start(self) -> tuple[str, int]:
        """Listens; returns where. Raises `ConfigError` if it cannot, `GatewayError`."""
        if self._config.tls is not None:
            await asyncio.to_thread(server_context, self._config.tls)  # says what is wrong with its files
        first = await self._door.open(Start(self._config, str(self._spool / INCOMING)))
        if isinstance(first, Ready):
            self._config = msgspec.structs.replace(self._config, port=first.port)
            return first.host, first.port
        await self._door.close(0)
        raise _failure(first.code if isinstance(first, Failed) else "", self._config)

    async def events(self) -> AsyncIterator[Event]:
        """What happens, until `stop`. A child that ends is started again, and what it could not tell is told."""
        while True:
            try:
                line = await self._door.receive()
            except DoorClosedError:
                if self._stopping:
                    return
                for lost in await self._start_again():
                    yield lost
                continue
            if isinstance(line, Refused):
                self._log(line.code)
            if isinstance(line, Received | Refused | AssociationClosed | Reported):
                yield line

    def _log(self, code: str) -> None:
        """Who administers the gateway looks here when a scanner cannot send; who attacks it does not fill the log."""
        self._refused[code] += 1
        now = time.monotonic()
        if now >= self._said_at.get(code, now):
            self._said_at[code] = now + _SAY_EACH
            log.warning("dicom refused", code=code, times=self._refused.pop(code))

    async def _start_again(self) -> list[Received]:
        ended, pause = time.time(), _PAUSE_FIRST
        log.warning("dicom scp starts again")
        await self._door.close(0)
        while not self._stopping:
            await asyncio.sleep(pause)
            try:
                await self.start()
            except GatewayError as why:
                log.error("dicom scp does not start", code=why.code)
                pause = min(2 * pause, _PAUSE_MOST)
                continue
            return await asyncio.to_thread(scan, self._spool, ended - _LOST_WITHIN)
        return []

    async def stop(self) -> None:
        """Takes no more; instances that are whole are answered; the port is free."""
        self._stopping = True
        await self._door.close()


def scan(spool: Path, since: float = 0.0) -> list[Received]:
    """The whole files in `incoming` that were written after `since`, oldest first, as if they were told of now."""
    found: list[tuple[float, Received]] = []
    folder = spool / INCOMING
    if not folder.is_dir():
        return []
    for path in folder.iterdir():
        if path.suffix != ".dcm":
            continue
        try:
            at, received = _received(path)
        except (OSError, IntakeError):  # no file of ours; whoever adopts the folder names it
            continue
        if at >= since:
            found.append((at, received))
    return [received for _, received in sorted(found, key=lambda pair: pair[0])]


def _received(path: Path) -> tuple[float, Received]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        facts = os.fstat(fd)
        meta = read_meta(lambda at, n: os.pread(fd, n, at))
    finally:
        os.close(fd)
    return facts.st_mtime, Received(
        name=path.name,
        size=facts.st_size - meta.data_offset,
        data_offset=meta.data_offset,
        calling_aet="",
        sop_class=meta.sop_class,
        sop_uid=meta.sop_uid,
        syntax=meta.syntax,
        association="",
    )


def _failure(code: str, config: ScpConfig) -> GatewayError:
    where = f"{config.host}:{config.port}"
    if code == "dicom-port":
        return ConfigError(
            f"Another program listens on {where}. Stop it, or give the gateway another port for DICOM.",
            code=code,
        )
    if code == "dicom-address":
        return ConfigError(
            f"This machine cannot listen on {where}. Correct dicom.listen and start again.", code=code
        )
    return GatewayError(
        "The DICOM receiver could not be started. Check the gateway's folder.", code="dicom-start"
    )
