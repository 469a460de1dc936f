"""An open gateway with its engine, for tests: real rooms on a real folder, beside a relay and a paired destination."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from clients.gateway import folder as folders
from clients.gateway.engine import GatewayEngine
from clients.gateway.rooms import Rooms
from relay.enroll import enroll
from tests.dicom_kit import save
from tests.gateway_kit import House, StillClock, a_relay, an_instance, eventually


class Desk:
    """A sender with all its rooms, and a receiver that only has keys: `house` speaks for it."""

    def __init__(self, rooms: Rooms, engine: GatewayEngine, house: House, clock: StillClock) -> None:
        self.rooms, self.engine, self.house, self.clock = rooms, engine, house, clock
        self.folder = rooms.folder

    async def study(self, name: str = "one", **changes: object) -> str:
        """An imported study; its id."""
        source = self.folder.parent / name
        write_files(source, 2, **changes)
        result = await self.engine.import_path(str(source), "test")
        assert len(result["studies"]) == 1, result
        return str(result["studies"][0])

    async def offered(self) -> str:
        """A transfer that waits for its answer; its tid."""
        await self.house.pins.renew()
        view = await self.engine.send(await self.study(), "Lakeside Trauma Center", "transfer", "clerk")

        async def look() -> bool:
            return (await self.engine.transfer(view.tid)).state == "OFFERED"

        await eventually(look)
        return view.tid


def write_files(folder: Path, count: int, **changes: object) -> None:
    """A study as it is on a disc."""
    folder.mkdir(exist_ok=True)
    for i in range(1, count + 1):
        save(an_instance(InstanceNumber=i, **changes), folder / f"{i}.dcm")


@asynccontextmanager
async def a_desk(base: Path) -> AsyncIterator[Desk]:
    """Everything open and paired."""
    clock = StillClock(int(time.time()))
    async with a_relay(base / "relay", clock) as relay:
        house = await House(base / "r", clock, relay.url).make(
            "Lakeside Trauma Center", pacs="PACS@127.0.0.1:9"
        )
        identity = await folders.init(
            base / "s", name="Valley ED", relay=relay.url, dicom="127.0.0.1:0", http="127.0.0.1:0"
        )
        for card in (house.card, folders.own_card(base / "s", identity, clock)):
            enroll(base / "relay", card, clock=clock)
        rooms = Rooms(base / "s", clock=clock, dicom=False)
        await rooms.open()
        try:
            engine = GatewayEngine(rooms)
            await engine.pin_peer(house.card, "test")
            yield Desk(rooms, engine, house, clock)
        finally:
            await rooms.close()
            await house.close()
