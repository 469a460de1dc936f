"""Whole programs: from the yes to the first and the last instance stored, everything prefetched.

The study's own C-STORE time stands beside: the same files, by the same SCU over one association (the default), to a
PACS of the same kind, with nothing else to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec.structs import replace

from clients.commands.demo import RECEIVER, Demo
from clients.commands.output import Speaker
from clients.drill import Phone
from clients.gateway.views import TransferView
from tests.bench.dimse import headers, our_scp, send_ours
from tests.bench.machine import cpu_seconds
from tests.bench.studies import long_study, workspace
from tests.bench.table import ROUNDS, Row, at_most, emit, shrunk

_INSTANCES = 680
_LOOK = 0.01
_LATER = 0.05
"""Between two looks once the first is there: each costs the receiver a millisecond of a core."""


@contextlib.asynccontextmanager
async def parties() -> AsyncIterator[Demo]:
    """The demo's parties in a folder that goes away."""
    with workspace() as folder:
        demo = Demo(folder, Speaker(as_json=False))
        try:
            await demo.open("bundled")
            yield demo
        finally:
            await demo.close()


async def offered(demo: Demo, study: Path) -> TransferView:
    """An offer with its link, while the packs are still on their way."""
    result = await demo.sender.import_path(str(study), "bench", early=True)
    view = await demo.sender.send(result["studies"][0], RECEIVER, "drill", "bench")
    while not view.link:
        await asyncio.sleep(_LOOK)
        view = await demo.sender.transfer(view.tid)
    return view


async def prefetched(demo: Demo, study: Path) -> TransferView:
    """An offer whose every pack is at the receiver, still sealed."""
    view = await offered(demo, study)
    while True:
        sent = await demo.sender.transfer(view.tid)
        there = {t.tid: t for t in await demo.receiver.transfers("receive")}.get(view.tid)
        if sent.total and there and sent.moved == sent.bytes == there.moved:
            return sent
        await asyncio.sleep(0.1)


async def deliver(demo: Demo, view: TransferView) -> tuple[float, float, float]:
    """Seconds from the yes to the first and to the last instance stored; and what the receiver and its DICOM children
    took of a core.
    """
    (receiver,) = [party.process.pid for party in demo._parties if party.name == "receiver" and party.process]
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
        spent = cpu_seconds(receiver)
        start, first = time.monotonic(), 0.0
        answer = asyncio.create_task(phone.decide("approve", by="patient", name="", rel="self"))
        while True:
            there = await demo.receiver.transfer(view.tid)
            now = time.monotonic() - start
            if there.stored and not first:
                first = now
            if there.state == "COMPLETE":
                await answer
                return first, now, cpu_seconds(receiver) - spent
            await asyncio.sleep(_LATER if first else _LOOK)


def c_store(study: Path) -> float:
    """Seconds that the study's C-STOREs take by themselves."""
    files = headers(sorted(study.rglob("*.dcm")))
    with workspace() as folder, our_scp(folder / "pacs") as port:
        return send_ours(port, files, 1)[0]


async def _run() -> None:
    count = shrunk(_INSTANCES, 12)
    study = long_study(count, "journey")
    first, last, alone, cores = list[float](), list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        alone.append(await asyncio.to_thread(c_store, study))
        async with parties() as demo:
            to_first, to_last, spent = await deliver(demo, await prefetched(demo, study))
        cores.append(spent)
        first.append(to_first)
        last.append(to_last)
    row = Row(
        what="from the yes to the first instance stored, prefetched", unit="s", values=first, better="less"
    )
    emit(replace(row, gate=at_most(0.5)))
    over = [took - bare for took, bare in zip(last, alone, strict=True)]
    row = Row(what=f"from the yes to the last of {count}, prefetched", unit="s", values=last, better="less")
    emit(replace(row, peer="C-STORE alone", beside=alone))
    row = Row(what="the same beyond the study's C-STORE time", unit="s", values=over, better="less")
    emit(replace(row, gate=at_most(1.0)))
    emit(replace(row, what="the same: what the receiving gateway and its SCU took of a core", values=cores))


def main() -> None:
    """Emits the rows."""
    asyncio.run(_run())
