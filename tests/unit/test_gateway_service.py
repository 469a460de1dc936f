"""`clients.gateway.service`: one process with rooms, pages and socket, until it is told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from clients.gateway import folder as folders
from clients.gateway.control import ControlEngine
from clients.gateway.errors import BusyError, ConfigError
from clients.gateway.lock import FolderLock
from clients.gateway.service import run
from tests.gateway_kit import NOWHERE, PATIENCE


async def started(folder: Path) -> tuple[asyncio.Task[None], dict[str, str]]:
    """A running gateway, and what it said when it was ready."""
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(folder, ready.set_result))
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    return task, ready.result()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    made = await folders.init(
        tmp_path / "g", name="Valley ED", relay=NOWHERE, dicom="127.0.0.1:0", http="127.0.0.1:0", aet="VALLEY"
    )
    task, said = await started(tmp_path / "g")
    assert said["site"] == made.site.text
    assert said["relay"] == NOWHERE
    assert said["dicom"].startswith("VALLEY@127.0.0.1:")
    async with aiohttp.ClientSession() as session, session.get(said["pages"]) as answer:
        assert answer.status == 200
    client = ControlEngine(tmp_path / "g")
    await client.open()
    assert (client.name, client.site) == ("Valley ED", made.site.text)
    await client.close()
    with pytest.raises(BusyError):
        FolderLock(tmp_path / "g")
    os.kill(os.getpid(), number)
    async with asyncio.timeout(PATIENCE):
        await task
    assert not (tmp_path / "g" / "control.sock").exists()
    FolderLock(tmp_path / "g").release()


async def test_pages_that_cannot_be_served_are_said_and_nothing_stays(tmp_path: Path) -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    await folders.init(tmp_path / "g", name="X", relay=NOWHERE, dicom="127.0.0.1:0", http=f"127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=str(port)):
        await started(tmp_path / "g")
    assert not (tmp_path / "g" / "control.sock").exists()
    FolderLock(tmp_path / "g").release()
    taken.close()
