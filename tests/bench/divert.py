"""Whole gateways in one process: a study that goes to another hospital instead, to the first instance at the new PACS.

Before the yes: the new hospital has it sealed, and the time runs from the yes, which named that place. After the
yes, while the first hospital has it: the time runs from the action at the desk, with a new key (sealed and uploaded
anew) and with the same.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Literal

from clients.gateway.views import TransferView
from tests.bench.studies import long_study, workspace
from tests.bench.table import ROUNDS, Row, at_most, emit, shrunk
from tests.world import Site, World

_INSTANCES = 680
_LOOK = 0.01
_NORTH = "Northside Trauma Center"
Moment = Literal["before", "new-key", "same-key"]
_ROWS: dict[Moment, str] = {
    "before": "divert before the yes: from the yes to the first instance at the new PACS, prefetched",
    "new-key": "divert after the yes, new key: to the first instance at the new PACS",
    "same-key": "divert after the yes, same key: to the first instance at the new PACS",
}


async def _fetched(world: World, north: Site, view: TransferView) -> None:
    """Until the new hospital has every pack."""
    while True:
        sent = await world.sender.engine.transfer(view.tid)
        there = {t.tid: t for t in await north.engine.transfers("receive")}.get(view.tid)
        if sent.total and there and sent.moved == sent.bytes == there.moved:
            return
        await asyncio.sleep(_LOOK)


async def _first(north: Site, tid: str, start: float) -> float:
    """Seconds from `start` to the first instance at its PACS."""
    while True:
        there = {t.tid: t for t in await north.engine.transfers("receive")}.get(tid)
        if there and there.stored:
            return time.monotonic() - start
        await asyncio.sleep(_LOOK)


async def once(study: Path, moment: Moment) -> float:
    """One diversion."""
    with workspace() as folder:
        world = World(folder)
        await world.open()
        try:
            north = await world.another(_NORTH)
            settings = world.sender.folder / "gateway.toml"
            if moment == "same-key":
                await world.sender.close()
                settings.write_text(
                    settings.read_text().replace('# divert = "same-key"', 'divert = "same-key"')
                )
                await world.sender.open()
            view = await world.offer(study, alt=(_NORTH,))
            await world.sender.eventually(lambda: _sealed(world, view))
            if moment == "before":
                child = await world.sender.engine.divert(view.tid, _NORTH, "bench")
                await _fetched(world, north, child)
                start = time.monotonic()
                await world.answer(view)
            else:
                await world.receiver.close()
                await world.answer(view)
                start = time.monotonic()
                child = await world.sender.engine.divert(view.tid, _NORTH, "bench")
            took = await _first(north, child.tid, start)
            if moment != "before":
                await world.receiver.open()
            return took
        finally:
            await world.close()


async def _sealed(world: World, view: TransferView) -> object:
    now = await world.sender.engine.transfer(view.tid)
    return True if now.total and now.moved == now.bytes else None


async def _run() -> None:
    study = long_study(shrunk(_INSTANCES, 12), "divert")
    for moment, what in _ROWS.items():
        values = [await once(study, moment) for _ in range(ROUNDS)]
        emit(Row(what=what, unit="s", values=values, better="less", gate=at_most(2.0)))


def main() -> None:
    """Emits the rows."""
    asyncio.run(_run())
