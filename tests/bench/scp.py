"""First hop: a scanner's storescu sends to our SCP, which is durable before it answers, and to DCMTK's."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from msgspec.structs import replace

from clients.gateway.dicom.berths import force
from tests.bench.dimse import DCMTK, MISSING, arrived, have_dcmtk, our_scp, storescp, storescu
from tests.bench.studies import noise, workspace
from tests.bench.table import ROUNDS, Row, emit, ratio, shrunk

_COUNT, _BYTES = 400, 2**19
_AHEAD = 16
"""Names that are made at once, as in `clients.gateway.dicom.berths`."""
_WHAT = "first hop: SCP, on disk before it answers, 0.5 MB"
Scp = Callable[[Path], AbstractContextManager[int]]


def rates(base: Path, source: Path, count: int, each: float) -> tuple[list[float], list[float]]:
    """What (ours, DCMTK's) took a second, one after the other in each round."""
    ours, theirs = list[float](), list[float]()
    for number in range(ROUNDS):
        pair: tuple[tuple[list[float], Scp], ...] = ((theirs, storescp), (ours, our_scp))
        for found, scp in pair if number % 2 else reversed(pair):
            folder = base / "in"
            with scp(folder) as port:
                seconds = storescu(source, port)
            if (there := arrived(folder)) != count:
                raise SystemExit(f"{there} of {count} instances arrived")
            found.append(count * each / seconds)
            shutil.rmtree(folder)
    return ours, theirs


def disk(base: Path, count: int, size: int) -> float:
    """Files a second that this disk alone takes as our SCP writes them: into names that were forced before, each file
    forced, and then given its last name.
    """
    folder, data = base / "disk", os.urandom(size)
    folder.mkdir()
    names, start = os.open(folder, os.O_RDONLY), time.monotonic()
    for number in range(count):
        if number % _AHEAD == 0:
            for name in range(number, number + _AHEAD):
                (folder / str(name)).touch()
            os.fsync(names)
        with (folder / str(number)).open("r+b") as file:
            file.write(data)
            file.flush()
            force(file.fileno())
        (folder / str(number)).rename(folder / f"{number}.dcm")
    took = time.monotonic() - start
    os.close(names)
    shutil.rmtree(folder)
    return count / took


def main() -> None:
    """Emits the row."""
    if not have_dcmtk():
        emit(Row(what=_WHAT, note=MISSING))
        return
    count = shrunk(_COUNT, 8)
    with workspace() as base:
        noise(base / "study", count, _BYTES)
        alone = disk(base, count, _BYTES) * _BYTES / 1e6
        ours, theirs = rates(base, base / "study", count, _BYTES / 1e6)
    row = Row(what=_WHAT, unit="MB/s", values=ours, peer=f"{DCMTK} storescp", beside=theirs)
    emit(replace(row, gate=ratio(0.3), goal=ratio(0.5), note=f"this disk alone {alone:.0f} MB/s"))
