"""What the PACS side adds to a delivery, each beside the same delivery without it: another identity in every instance,
and storage commitment by Orthanc; and how long one instance of 10 KB waits for its answer.

A delivery changes an instance in a thread while others are on the wire; so it is measured here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from clients.gateway.dicom.coercion import Change, Local
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.dicom.scp import Reported, ScpConfig, StorageScp
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.receiving.commitment import Commitments
from clients.gateway.receiving.restoring import restore
from tests.bench.dimse import DCMTK, MISSING, have_dcmtk, headers, our_scu, storescp, storescu
from tests.bench.studies import noise, workspace
from tests.bench.table import ROUNDS, Row, emit, shrunk
from tests.faults.real_pacs import orthanc
from tests.peers import NAMES
from transfer.ids import Digest
from transfer.messages import ItemEntry

_COUNT, _BYTES = 700, 2**19
_COMMITTED = 200
_SMALL, _SMALL_BYTES = 300, 10_000
_AT_ONCE = 8
_PATIENCE = 120.0
CHANGE = Change(
    local=Local(patient_id="VALLEYED4X7A-4711", issuer="LAKESIDE"), system="BENCH", source="Valley ED",
    at="20261124120000+0000",
)  # fmt: skip
Files = list[tuple[Path, InstanceHeader]]


async def _deliver(files: Files, folder: Path, port: int, change: Change | None) -> float:
    """Seconds from the coded instances to the last answer: written, changed if that is wanted, stored."""
    room = asyncio.Semaphore(_AT_ONCE)

    async with our_scu(port, 1) as scu:

        async def one(number: int, path: Path, h: InstanceHeader) -> None:
            async with room:
                new = folder / f"{number}.dcm"
                await asyncio.to_thread(_write, path, h, number, new, change)
                result = await scu.store(new, h.sop_class, h.sop_uid, h.syntax)
                new.unlink()
                if result.kind != "ok":
                    raise SystemExit(f"an instance was not stored: {result.code}")

        begun = time.monotonic()
        await scu.prepare((h.sop_class, h.syntax) for _, h in files)
        await asyncio.gather(*(one(number, path, h) for number, (path, h) in enumerate(files)))
        return time.monotonic() - begun


def _write(path: Path, h: InstanceHeader, number: int, new: Path, change: Change | None) -> None:
    data = path.read_bytes()[h.data_offset :]
    item = ItemEntry(
        number, 0, h.sop_class, h.sop_uid, h.syntax, "raw", 0, len(data), len(data),
        Digest(hashlib.sha256(data).digest()),
    )  # fmt: skip
    if restore(item, data, new, change) is None:
        raise SystemExit("the disk is full")


def coercion(base: Path) -> None:
    """Emits the row."""
    count = shrunk(_COUNT, 8)
    files = headers(noise(base / "study", count, _BYTES))
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(ROUNDS):
        for changed in (True, False) if number % 2 else (False, True):
            folder = base / "restored"
            folder.mkdir()
            with storescp(base / "out") as port:
                took = asyncio.run(_deliver(files, folder, port, CHANGE if changed else None))
            rates[changed].append(count * _BYTES / 1e6 / took)
            shutil.rmtree(folder)
            shutil.rmtree(base / "out")
    emit(
        Row(
            what="delivery with another identity, 0.5 MB", unit="MB/s", values=rates[True], peer="unchanged",
            beside=rates[False],
        )
    )  # fmt: skip


@contextlib.contextmanager
def _committing(folder: Path, port: int) -> Iterator[int]:
    """Orthanc, which reports to `port`; its own."""
    with orthanc(folder, find=False, knows={"bench": ("BENCH", "127.0.0.1", port)}) as pacs:
        yield pacs


async def _commit(base: Path, files: Files) -> tuple[float, float]:
    """(seconds to the last C-STORE, seconds to the last report) of one study at Orthanc."""
    commitments = Commitments()
    scp = StorageScp(ScpConfig(aet="BENCH", port=0), base)
    _, port = await scp.start()

    async def listen() -> None:
        async for event in scp.events():
            if isinstance(event, Reported):
                commitments.report(event.report)

    listening = asyncio.create_task(listen())
    try:
        with _committing(base / "orthanc", port) as pacs:
            to = Destination(aet="PACS", host="127.0.0.1", port=pacs, calling_aet="BENCH")
            scu = StoreScu(to, reported=commitments.report)
            await scu.start()
            begun = time.monotonic()
            results = await asyncio.gather(
                *(scu.store(path, h.sop_class, h.sop_uid, h.syntax) for path, h in files)
            )
            stored = time.monotonic() - begun
            answered = await commitments.ask(scu, [(h.sop_class, h.sop_uid) for _, h in files], _PATIENCE)
            whole = time.monotonic() - begun
            await scu.stop()
    finally:
        await scp.stop()
        await listening
    if {r.kind for r in results} != {"ok"} or len(answered.safe) != len(files):
        raise SystemExit(f"{len(answered.safe)} of {len(files)} were committed: {answered.why}")
    return stored, whole


def commitment(base: Path) -> None:
    """Emits the row."""
    count = shrunk(_COMMITTED, 8)
    files = headers(noise(base / "study", count, _BYTES))
    alone, whole = list[float](), list[float]()
    for number in range(ROUNDS):
        folder = base / f"round-{number}"
        folder.mkdir()
        stored, committed = asyncio.run(_commit(folder, files))
        alone.append(stored)
        whole.append(committed)
        shutil.rmtree(folder)
    emit(
        Row(
            what=f"{count} instances of 0.5 MB to Orthanc, committed", unit="s", values=whole, peer="stored only",
            beside=alone, better="less",
        )
    )  # fmt: skip


async def _waits(files: Files, port: int) -> list[float]:
    """Milliseconds for each instance, one at a time over one association."""
    async with our_scu(port, 1) as scu:
        found = []
        for path, h in files:
            begun = time.monotonic()
            result = await scu.store(path, h.sop_class, h.sop_uid, h.syntax)
            found.append((time.monotonic() - begun) * 1000)
            if result.kind != "ok":
                raise SystemExit(f"an instance was not stored: {result.code}")
        return found[1:]  # the first one waits for the association


def latency(base: Path) -> None:
    """Emits the rows; storescu says no times, so its mean over one association stands beside."""
    count = shrunk(_SMALL, 20)
    files = headers(noise(base / "study", count, _SMALL_BYTES))
    middle, slow, theirs = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        with storescp(base / "out") as port:
            found = sorted(asyncio.run(_waits(files, port)))
        middle.append(statistics.median(found))
        slow.append(found[int(len(found) * 0.95)])
        shutil.rmtree(base / "out")
        with storescp(base / "out") as port:
            theirs.append(storescu(base / "study", port) / count * 1000)
        shutil.rmtree(base / "out")
    row = Row(what="an instance of 10 KB and its answer, median", unit="ms", values=middle, better="less")
    emit(replace(row, peer=f"{DCMTK} storescu, mean", beside=theirs))
    emit(replace(row, what="the same, 95 of 100 within", values=slow, beside=[], peer=""))


def main() -> None:
    """Emits the rows of the three."""
    if not have_dcmtk():
        emit(Row(what="delivery with another identity", note=MISSING))
        return
    with workspace() as base:
        for number, part in enumerate((coercion, latency)):
            part(base / str(number))
        if any(map(shutil.which, NAMES["Orthanc"])):
            commitment(base / "committed")
        else:
            emit(Row(what="storage commitment", note="Orthanc is not installed"))
