"""Last hop: our SCU, with one association and with two, and DCMTK's storescu, to the same storescp."""

from __future__ import annotations

import shutil

from tests.bench.dimse import DCMTK, MISSING, arrived, have_dcmtk, headers, send_ours, storescp, storescu
from tests.bench.studies import noise, workspace
from tests.bench.table import ROUNDS, Row, emit, ratio, shrunk

_COUNT, _BYTES = 700, 2**19
_WHAT = "last hop: SCU, {} association{}, 0.5 MB"


def main() -> None:
    """Emits a row for one association and one for two."""
    if not have_dcmtk():
        emit(Row(what=_WHAT.format(1, ""), note=MISSING))
        return
    count = shrunk(_COUNT, 8)
    size = count * _BYTES / 1e6
    rates: dict[str, list[float]] = {"storescu": [], "1": [], "2": []}
    with workspace() as base:
        files = headers(noise(base / "study", count, _BYTES))
        for number in range(ROUNDS):
            for who in rates if number % 2 else reversed(rates):
                with storescp(base / "out") as port:
                    seconds = (
                        storescu(base / "study", port)
                        if who == "storescu"
                        else send_ours(port, files, int(who))[0]
                    )
                    if (there := arrived(base / "out")) != count:
                        raise SystemExit(f"{there} of {count} instances arrived")
                rates[who].append(size / seconds)
                shutil.rmtree(base / "out")
    for associations, gate, goal in (("1", ratio(0.35), None), ("2", ratio(0.35), ratio(0.6))):
        emit(
            Row(
                what=_WHAT.format(associations, "s" if associations == "2" else ""),
                unit="MB/s",
                values=rates[associations],
                peer=f"{DCMTK} storescu",
                beside=rates["storescu"],
                gate=gate,
                goal=goal,
            )
        )
