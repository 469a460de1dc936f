"""A relay, two hospitals and a PACS for integration tests: real sockets, real files, real DICOM children, one process.

Nothing is mocked. Clocks can be moved, and any party can be closed and opened again on the same folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from clients.commands.parties import Party
from clients.drill import Phone
from clients.gateway import folder as folders
from clients.gateway.clock import SystemClock
from clients.gateway.dicom.header import read_header
from clients.gateway.engine import GatewayEngine
from clients.gateway.rooms import Rooms
from clients.gateway.views import TransferView
from relay import service
from relay.config import Config
from relay.enroll import enroll

T = TypeVar("T")
PATIENCE = 100.0


class Site:
    """One hospital's gateway."""

    def __init__(self, folder: Path, *, dicom: bool = True) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self._dicom = dicom

    async def open(self) -> None:
        self.rooms = Rooms(self.folder, clock=self.clock, dicom=self._dicom)
        await self.rooms.open()
        self.engine = GatewayEngine(self.rooms)

    async def close(self) -> None:
        await self.rooms.close()

    async def until(self, tid: str, *states: str) -> TransferView:
        """The transfer once it is in one of `states`."""

        async def look() -> TransferView | None:
            try:
                view = await self.engine.transfer(tid)
            except Exception as why:
                if getattr(why, "code", "") == "absent":
                    return None
                raise
            return view if view.state in states else None

        return await self.eventually(look)

    async def eventually(self, look: Callable[[], Awaitable[T | None]], patience: float = PATIENCE) -> T:
        """What `look` finds, asked again after each change."""
        async with asyncio.timeout(patience):
            while True:
                seen = self.rooms.changed.seen
                found = await look()
                if found is not None:
                    return found
                await self.rooms.changed.wait(seen, 0.25)


class World:
    """All parties; `base` holds a folder for each. `commit`: how the receiver's PACS is asked after the last image;
    `identity`: under whose number it files.
    """

    def __init__(self, base: Path, commit: str = "auto", identity: str = "as-is") -> None:
        self.base, self._commit, self._identity = base, commit, identity
        self.sender = Site(base / "sender", dicom=False)  # studies come to it by a path
        self.receiver = Site(base / "receiver")
        self.relay_config = Config(listen="127.0.0.1:0", data=base / "relay", access_log=False)
        self.pacs_folder = base / "pacs"
        self.pacs_port = 0
        self._others: list[tuple[Site, Party]] = []

    async def open(self) -> None:
        await self.start_relay()
        await self.start_pacs()
        for site, name in ((self.sender, "Valley ED"), (self.receiver, "Lakeside Trauma Center")):
            pacs = f"PACS@127.0.0.1:{self.pacs_port}" if site is self.receiver else ""
            identity = await folders.init(
                site.folder,
                name=name,
                relay=self.relay.url,
                dicom="127.0.0.1:0",
                http="127.0.0.1:0",
                pacs=pacs,
                identity=self._identity,
            )
            site.card = folders.own_card(site.folder, identity)  # type: ignore[attr-defined]
            enroll(self.relay_config.data, site.card)  # type: ignore[attr-defined]
        settings = self.receiver.folder / "gateway.toml"
        settings.write_text(settings.read_text().replace('# commit = "auto"', f'commit = "{self._commit}"'))
        await asyncio.gather(self.sender.open(), self.receiver.open())
        await self.sender.engine.pin_peer(self.receiver.card, "test")  # type: ignore[attr-defined]
        await self.receiver.engine.pin_peer(self.sender.card, "test")  # type: ignore[attr-defined]

    async def start_relay(self) -> None:
        self.relay = await service.start(self.relay_config)
        port = self.relay.url.rsplit(":", 1)[1]
        self.relay_config = Config(listen=f"127.0.0.1:{port}", data=self.base / "relay", access_log=False)

    async def start_pacs(self) -> None:
        self.pacs_folder.mkdir(exist_ok=True)
        self.pacs = Party(
            "PACS", self.base / "pacs.log", sys.executable, "-m", "clients.gateway.dicom.pacs", "--dir",
            str(self.pacs_folder), "--port", str(self.pacs_port), "--aet", "PACS",
        )  # fmt: skip
        self.pacs_port = int((await self.pacs.start())["port"])

    async def another(self, name: str) -> Site:
        """One more hospital that receives, paired with the sender, with a PACS of its own in its folder's `pacs`."""
        site = Site(self.base / name)
        folder = site.folder.with_name(f"{name} pacs")
        folder.mkdir()
        pacs = Party(
            "PACS", self.base / f"{name}.log", sys.executable, "-m", "clients.gateway.dicom.pacs", "--dir",
            str(folder), "--port", "0", "--aet", "PACS",
        )  # fmt: skip
        port = (await pacs.start())["port"]
        identity = await folders.init(
            site.folder, name=name, relay=self.relay.url, dicom="127.0.0.1:0", http="127.0.0.1:0",
            pacs=f"PACS@127.0.0.1:{port}", identity=self._identity,
        )  # fmt: skip
        card = folders.own_card(site.folder, identity)
        enroll(self.relay_config.data, card)
        await site.open()
        self._others.append((site, pacs))
        await site.engine.pin_peer(self.sender.card, "test")  # type: ignore[attr-defined]
        await self.sender.engine.pin_peer(card, "test")
        return site

    async def close(self) -> None:
        for site, pacs in self._others:
            await site.close()
            await pacs.stop()
        await self.sender.close()
        await self.receiver.close()
        await self.pacs.stop()
        await self.relay.stop()

    async def offer(
        self, source: Path, reason: str = "transfer", alt: tuple[str, ...] = (), add: int | None = None
    ) -> TransferView:
        """Imports `source` at the sender and offers it to the receiver. `alt`: the other sites that are named; `add`:
        seconds in which additions may follow.
        """
        result = await self.sender.engine.import_path(str(source), "test")
        assert len(result["studies"]) == 1, result
        view = await self.sender.engine.send(
            result["studies"][0], "Lakeside Trauma Center", reason, "test", alt, add
        )
        assert view.state == "OFFERED"
        return view

    async def answer(self, view: TransferView, d: str = "approve") -> str:
        """A phone with the right PIN answers; the state that S tells it."""
        async with Phone(view.link, view.pin) as phone:
            await phone.ask()
            status = await phone.decide(d, by="patient", name="", rel="self")
            assert status.refused == ""
            return status.state

    def stored(self) -> dict[str, bytes]:
        """SHA-256 of each data set at the PACS, by SOP Instance UID; two files of one UID are an error."""
        return hashes(self.pacs_folder)


def hashes(folder: Path) -> dict[str, bytes]:
    """SHA-256 of each data set in a folder, by SOP Instance UID."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = read_header(path)
        assert header.sop_uid not in found, "an instance was stored twice"
        found[header.sop_uid] = hashlib.sha256(path.read_bytes()[header.data_offset :]).digest()
    return found
