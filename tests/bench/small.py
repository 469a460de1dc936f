"""Instances of 10 KB, where every message counts more than every byte: each way beside DCMTK, and how many
responses were lost. `BENCH_SMALL` sets how many; 100,000 is the count that the target names."""

from __future__ import annotations

import os
import shutil

from msgspec.structs import replace

from tests.bench import scp
from tests.bench.dimse import DCMTK, MISSING, arrived, have_dcmtk, headers, send_ours, storescp, storescu
from tests.bench.studies import noise, workspace
from tests.bench.table import ROUNDS, Row, at_most, emit, ratio, shrunk

_COUNT, _BYTES = 1000, 10_000
_WHAT = "instances of 10 KB: "


def main() -> None:
    """Emits a row for each way, and one for the responses that were lost."""
    if not have_dcmtk():
        emit(Row(what=f"{_WHAT}each way", note=MISSING))
        return
    count = int(os.environ.get("BENCH_SMALL") or shrunk(_COUNT, 20))
    lost, ours, theirs = 0, list[float](), list[float]()
    with workspace() as base:
        files = headers(noise(base / "study", count, _BYTES))
        received, storescp_received = scp.rates(base, base / "study", count, 1)
        alone = f"this disk alone {scp.disk(base, min(count, _COUNT), _BYTES):.0f}/s"
        row("SCP, on disk before it answers", received, f"{DCMTK} storescp", storescp_received, alone)
        for _ in range(ROUNDS):
            with storescp(base / "out") as port:
                ours_took, missing = send_ours(port, files, 1)
                if (there := arrived(base / "out")) != count:
                    raise SystemExit(f"{there} of {count} instances arrived")
                shutil.rmtree(base / "out")
            with storescp(base / "out") as port:
                theirs_took = storescu(base / "study", port)
                shutil.rmtree(base / "out")
            lost += missing
            ours.append(count / ours_took)
            theirs.append(count / theirs_took)
    row("SCU, 1 association", ours, f"{DCMTK} storescu", theirs)
    emit(
        Row(
            what=f"{_WHAT}responses lost",
            values=[float(lost)],
            note=f"of {ROUNDS * count} sent; all {ROUNDS * count} received were answered",
            gate=at_most(0),
            better="less",
        )
    )


def row(way: str, ours: list[float], peer: str, theirs: list[float], note: str = "") -> None:
    """One way."""
    row = Row(what=_WHAT + way, unit="/s", values=ours, peer=peer, beside=theirs, note=note)
    emit(replace(row, gate=ratio(0.2), goal=ratio(0.5)))
