"""PUT and GET of 1 MiB packs at the relay, signed and forced to disk, beside nginx, which does neither; and how
long a small request waits meanwhile. The callers share the machine with both."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from msgspec.structs import replace

from tests.bench.calls import Probe, all_of, written
from tests.bench.servers import NO_NGINX, PACK, nginx, relay
from tests.bench.studies import workspace
from tests.bench.table import ROUNDS, Row, at_least, at_most, emit, ratio, shrunk
from transfer.ids import Cid

_COUNT, _CONNECTIONS = 300, 4
_SMALL = 0.99

Round = tuple[float, float, float]
"""MB/s of PUT, MB/s of GET, milliseconds of small requests."""


def of_relay(base: Path, count: int) -> Round:
    """One round on a fresh relay."""
    with relay(base) as there:
        cid = Cid(os.urandom(16))
        puts = [there.put(cid, n) for n in range(count)]
        gets = [there.get(cid, n) for n in range(count)]
        with Probe(there.url, there.small) as probe:
            up, down = all_of(there.url, puts, _CONNECTIONS), all_of(there.url, gets, _CONNECTIONS)
    return _rates(count, up, down, probe)


def of_nginx(base: Path, count: int) -> Round:
    """One round on a fresh nginx."""
    with nginx(base) as url:
        puts = [written("PUT", f"/{n}", PACK) for n in range(count)]
        gets = [written("GET", f"/{n}") for n in range(count)]
        with Probe(url, lambda: written("GET", "/small")) as probe:
            up, down = all_of(url, puts, _CONNECTIONS), all_of(url, gets, _CONNECTIONS)
    return _rates(count, up, down, probe)


def _rates(count: int, up: float, down: float, probe: Probe) -> Round:
    size = count * len(PACK) / 1e6
    return size / up, size / down, probe.percentile(_SMALL)


def main() -> None:
    """Emits the rows."""
    count = shrunk(_COUNT, 8)
    ours, theirs = list[Round](), list[Round]()
    with workspace() as base:
        for _ in range(ROUNDS):
            ours.append(of_relay(base / "relay", count))
            shutil.rmtree(base / "relay")
            if shutil.which("nginx"):
                theirs.append(of_nginx(base / "nginx", count))
                shutil.rmtree(base / "nginx")
    puts, gets, small = zip(*ours, strict=True)
    their_puts, their_gets, their_small = zip(*theirs, strict=True) if theirs else ((), (), ())
    note = "" if theirs else NO_NGINX
    for what, values, beside, gate in (
        ("relay: PUT of 1 MiB packs, signed, on disk", puts, their_puts, 150),
        ("relay: GET of 1 MiB packs, signed", gets, their_gets, 400),
    ):
        row = Row(what=what, unit="MB/s", values=list(values), peer="nginx", beside=list(beside), note=note)
        emit(replace(row, gate=at_least(gate), goal=ratio(0.5)))
    row = Row(what="relay: p99 of a small request meanwhile", unit="ms", values=list(small), better="less")
    emit(replace(row, peer="nginx", beside=list(their_small), gate=at_most(50), note=note))
