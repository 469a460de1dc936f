"""Whole programs: from the yes to the last instance, and how much memory each process takes at its peak."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from clients.commands.demo import RECEIVER, Demo
from clients.commands.output import Speaker
from clients.drill import Phone
from clients.gateway.views import TransferView
from clients.phantom import write_study
from tests.bench.table import ROUNDS, line

_SLICES = 240


@contextlib.asynccontextmanager
async def parties() -> AsyncIterator[Demo]:
    """The demo's parties in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder), Speaker(as_json=False))
        try:
            await demo.open("bundled")
            yield demo
        finally:
            await demo.close()


async def prefetched(demo: Demo, study: Path) -> TransferView:
    """An offer whose every pack is at the receiver, still sealed."""
    result = await demo.sender.import_path(str(study), "bench")
    view = await demo.sender.send(result["studies"][0], RECEIVER, "drill", "bench")
    while True:
        sent = await demo.sender.transfer(view.tid)
        there = {t.tid: t for t in await demo.receiver.transfers("receive")}.get(view.tid)
        if sent.total and there and sent.moved == sent.bytes == there.moved:
            return sent
        await asyncio.sleep(0.1)


async def deliver(demo: Demo, view: TransferView) -> tuple[float, float, int]:
    """(seconds from the yes to the first and to the last instance stored, instances)."""
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
        start = time.monotonic()
        await phone.decide("approve", by="patient", name="", rel="self")
        first = 0.0
        while True:
            there = await demo.receiver.transfer(view.tid)
            now = time.monotonic() - start
            if there.stored and not first:
                first = now
            if there.state == "COMPLETE":
                return first, now, there.stored
            await asyncio.sleep(0.01)


def peaks(demo: Demo) -> dict[str, float]:
    """Peak resident memory in MB of each party and of its children."""
    found: dict[str, float] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            status = dict(
                x.split(":", 1) for x in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in x
            )
        except (OSError, ValueError):
            continue
        if not any(str(demo.base) in word for word in words) and not _child_of(status, demo):
            continue
        name = " ".join(
            w for w in words if w in ("relay", "gateway") or w.startswith("clients.gateway.dicom")
        )
        side = next((s for s in ("sender", "receiver") if any(w.endswith(s) for w in words)), "")
        key = f"{name} {side}".strip() or "other"
        found[key] = max(found.get(key, 0.0), int(status["VmHWM"].split()[0]) / 1024)
    return found


def _child_of(status: dict[str, str], demo: Demo) -> bool:
    parent = status["PPid"].strip()
    try:
        return str(demo.base) in Path(f"/proc/{parent}/cmdline").read_bytes().decode()
    except OSError:
        return False


async def _run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for factor in (1, 4):
            write_study(base / str(factor), slices=_SLICES * factor, seed=factor)
        runs = []
        for _ in range(ROUNDS):
            async with parties() as demo:
                runs.append(await deliver(demo, await prefetched(demo, base / "1")))
                small = peaks(demo)
        runs.sort(key=lambda r: r[1])
        first, last, n = runs[len(runs) // 2]
        line("from the yes to the first instance stored, prefetched", f"{first:.2f} s", "0.5 s")
        line(f"from the yes to the last of {n}, prefetched", f"{last:.2f} s ({n / last:.0f}/s)")
        async with parties() as demo:
            await deliver(demo, await prefetched(demo, base / "4"))
            large = peaks(demo)
        for name in sorted(large):
            gate = "200 MB" if "relay" in name else "400 MB"
            line(
                f"peak memory 1 x / 4 x the study: {name}",
                f"{small.get(name, 0):.0f} / {large[name]:.0f} MB",
                gate,
            )


def main() -> None:
    """Prints the rows."""
    asyncio.run(_run())
