"""Two questions a machine asks: does this process live (`/healthz`), and can it do its work (`/readyz`)?

A supervisor restarts what does not live; whoever raises the alarm looks at readiness. Its answer is 200, or 503
with the codes of all that is wrong. A code names a part of the gateway, never a patient, a site or a transfer:

    database      it takes no write, or not in time        disk          less room than `dicom.min_free_bytes`
    relay         the newest call to it was not answered   relay-unknown, relay-full  it says no to this site
    dicom         nobody listens for scanners              dicom-sender  what sends to the PACS does not start

The database is asked for a real write, with its flush to the disk: a disk that turned read-only answers all else.
Whether the PACS answers is not asked here but by `gateway echo`: a PACS in maintenance is no fault of a gateway.
"""

from __future__ import annotations

import asyncio
import shutil
import time

from aiohttp import web

from clients.gateway.dicom.door import DoorClosedError
from clients.gateway.errors import GatewayError
from clients.gateway.rooms import Rooms
from clients.gateway.store.database import Con

PATIENCE = 5.0
"""Seconds for the database and the children to answer."""
FRESH = 2.0
"""Seconds for which one answer serves everybody who asks: each costs a flush of the disk."""


class Health:
    """The handlers, over open rooms."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._turn = asyncio.Lock()
        self._known: tuple[float, list[str]] = (float("-inf"), [])

    async def alive(self, _: web.Request) -> web.Response:
        """`GET /healthz`"""
        return web.json_response({"ok": True})

    async def ready(self, _: web.Request) -> web.Response:
        """`GET /readyz`"""
        async with self._turn:
            at, wrong = self._known
            if time.monotonic() - at > FRESH:
                wrong = await self.wrong()
                self._known = time.monotonic(), wrong
        return web.json_response({"ok": not wrong, "wrong": wrong}, status=503 if wrong else 200)

    async def wrong(self) -> list[str]:
        """The codes of all that is wrong now."""
        database, dicom, disk = await asyncio.gather(
            self.database(), self._dicom(), asyncio.to_thread(self._disk)
        )
        return [*database, *disk, *self._relay(), *dicom]

    async def database(self) -> list[str]:
        """Whether a write gets to the disk."""
        now = str(self._rooms.clock.now()).encode()

        def work(con: Con) -> None:
            con.execute("INSERT OR REPLACE INTO own (k, v) VALUES ('alive', ?)", (now,))

        try:
            async with asyncio.timeout(PATIENCE):
                await self._rooms.db.run(work)
        except (TimeoutError, GatewayError):
            return ["database"]
        except Exception:  # SQLite's own, for example of a disk that can only be read
            return ["database"]
        return []

    def _disk(self) -> list[str]:
        try:
            free = shutil.disk_usage(self._rooms.folder).free
        except OSError:
            return ["disk"]
        return ["disk"] if free < self._rooms.config.dicom.min_free_bytes else []

    def _relay(self) -> list[str]:
        if self._rooms.relay.trouble:
            return ["relay-unknown" if self._rooms.relay.trouble == "relay-unknown-site" else "relay"]
        return ["relay-full"] if self._rooms.uploader.full else []

    async def _dicom(self) -> list[str]:
        wrong = []
        if self._rooms.scp is not None and not self._rooms.scp.alive:
            wrong.append("dicom")
        if self._rooms.destinations is not None:
            try:
                async with asyncio.timeout(PATIENCE):
                    # one that has ended starts again here, as with the next image
                    await self._rooms.destinations.restart()
            except (DoorClosedError, TimeoutError):
                wrong.append("dicom-sender")
        return wrong
