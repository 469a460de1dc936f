"""`attached`: the engine that a command works with.

One engine holds a gateway's folder. Where `gateway run` holds it, a command works through its control socket;
else the command holds it itself, for as long as it runs, and listens at that socket for others: so `status` and
`cancel` work beside a `send` too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from clients.gateway.config import load_config
from clients.gateway.control import ControlEngine
from clients.gateway.errors import BusyError
from clients.gateway.lock import FolderLock
from clients.gateway.store.database import Con, value
from clients.gateway.views import Engine

if TYPE_CHECKING:
    from clients.gateway.rooms import Rooms

_STARTING = 10.0
"""Seconds in which a gateway that holds the folder must listen: it may be starting, or ending."""
_LOOK = 0.1
_LAST_WORDS = 10.0
"""Seconds that a command has, when it is done, to tell the relay and the other site how a transfer ended."""


@contextlib.asynccontextmanager
async def attached(folder: Path) -> AsyncIterator[Engine]:
    """The running gateway's engine, else one of our own for as long as a command runs. Raises `BusyError`,
    `ConfigError`.
    """
    load_config(folder)
    client = await _running(folder)
    if client is None:
        async with _own(folder) as engine:
            yield engine
        return
    try:
        yield client
    finally:
        await client.close()


async def _running(folder: Path) -> ControlEngine | None:
    """The engine that holds the folder, or None where nobody does."""
    for _ in range(int(_STARTING / _LOOK)):
        try:
            FolderLock(folder).release()
        except BusyError:
            with contextlib.suppress(BusyError):
                client = ControlEngine(folder)
                await client.open()
                return client
        else:
            return None
        await asyncio.sleep(_LOOK)
    raise BusyError


@contextlib.asynccontextmanager
async def _own(folder: Path) -> AsyncIterator[Engine]:
    # half a second that a command beside a gateway does without
    from clients.gateway.control_server import ControlServer
    from clients.gateway.engine import GatewayEngine
    from clients.gateway.rooms import Rooms

    rooms = Rooms(folder, dicom=False)
    await rooms.open()
    try:
        engine = GatewayEngine(rooms)
        control = ControlServer(engine, folder)
        await control.start()
        try:
            yield engine
        finally:
            await control.stop()
            await _last_words(rooms)
    finally:
        await rooms.close()


async def _last_words(rooms: Rooms) -> None:
    """Until everything that others must learn was sent, or at least tried, once."""

    def untried(con: Con) -> int:
        return int(value(con, "SELECT count(*) FROM outbox WHERE attempts=0"))

    for _ in range(int(_LAST_WORDS / _LOOK)):
        if not await rooms.db.run(untried):
            return
        await asyncio.sleep(_LOOK)
