"""Our SCP with its events kept, and callers of it: DCMTK's programs, pynetdicom as it comes, and bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from clients.gateway.dicom.scp import AssociationClosed, Event, ScpConfig, StorageScp
from tests.dicom_kit import FAST, call, encoded


class Running:
    """An SCP whose events are kept."""

    def __init__(self, scp: StorageScp, spool: Path, port: int) -> None:
        self.scp, self.spool, self.port = scp, spool, port
        self.events: list[Event] = []
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(self._take())

    async def _take(self) -> None:
        async for event in self.scp.events():
            self.events.append(event)
            self._changed.set()

    async def until(self, count: int, kind: type[Event] = AssociationClosed) -> list[Event]:
        """The first `count` events of a kind."""
        async with asyncio.timeout(60):
            while len(found := [e for e in self.events if isinstance(e, kind)]) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[:count]

    @property
    def files(self) -> list[Path]:
        """Every file that holds something, also one that is half there."""
        return sorted(p for p in (self.spool / "incoming").rglob("*") if p.is_file() and p.stat().st_size)


@contextlib.asynccontextmanager
async def running(spool: Path, **changes: object) -> AsyncIterator[Running]:
    config = ScpConfig(**{"aet": "SCP", "port": 0, "min_free_bytes": 0, **changes})  # type: ignore[arg-type]
    scp = StorageScp(config, spool)
    _, port = await scp.start()
    held = Running(scp, spool, port)
    try:
        yield held
    finally:
        await scp.stop()
        await held.task


async def run(*command: str) -> int:
    """The exit code of a program."""
    process = await asyncio.create_subprocess_exec(
        *command, env=FAST, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return await process.wait()


def send(assoc: Association, ds: Dataset, change: Callable[[Any], None] | None = None) -> int:
    """The status of a C-STORE by pynetdicom, whose request `change` may spoil."""
    assert assoc.is_established
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    send_msg = assoc.dimse.send_msg

    def changed(request: Any, context: int) -> None:
        if change is not None:
            change(request)
        send_msg(request, context)

    assoc.dimse.send_msg = changed
    status = int(assoc.send_c_store(ds).Status)
    assoc.release()
    return status


async def store(
    port: int, ds: Dataset, change: Callable[[Any], None] | None = None, calling: str = "TEST"
) -> int:
    """The same over an association of its own, in a thread."""
    return await asyncio.to_thread(lambda: send(call(port, ds, calling=calling), ds, change))


def fragments(ds: Dataset) -> list[Any]:
    """A C-STORE request as P-DATA of the second context that `call` proposes."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    request.DataSet = BytesIO(encoded(ds))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return list(message.encode_msg(3, 16384))


def rest_of(sock: socket.socket) -> bytes:
    """What the other side says before it closes, without what may differ."""
    said = b""
    try:
        while chunk := sock.recv(4096):
            said += chunk
    except ConnectionError:
        pass
    return said[:6]


def drip(sock: socket.socket, what: bytes) -> None:
    """Byte by byte, until the other side has enough."""
    for i in range(len(what)):
        try:
            sock.sendall(what[i : i + 1])
        except OSError:
            return
        if select.select([sock], [], [], 0.1)[0]:
            return


def bare(assoc: Association) -> socket.socket:
    """The connection of an association of `call`, to say on it what pynetdicom would not. The caller closes it."""
    sock: socket.socket = assoc.dul.socket.socket
    assoc.dul._kill_thread = True
    assoc.dul.join()
    assoc.kill()
    sock.settimeout(60)
    return sock


def peak_memory(pid: int) -> int:
    """Bytes of memory that a process had at its largest."""
    return _status(pid, "VmHWM") * 1024


def threads(pid: int) -> int:
    """How many threads a process has."""
    return _status(pid, "Threads")


def _status(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
