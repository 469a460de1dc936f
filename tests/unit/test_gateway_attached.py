"""The engine that a command works with: a running gateway's, or its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from clients.gateway import attached as module
from clients.gateway import folder as folders
from clients.gateway.attached import attached
from clients.gateway.control import ControlEngine
from clients.gateway.engine import GatewayEngine
from clients.gateway.errors import BusyError, ConfigError
from clients.gateway.lock import FolderLock


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A gateway whose relay is not there."""
    await folders.init(tmp_path / "hill", name="Hill", relay="http://127.0.0.1:1")
    return tmp_path / "hill"


async def test_its_own_serves_others_and_leaves_nothing(folder: Path) -> None:
    async with attached(folder) as own:
        assert isinstance(own, GatewayEngine)
        with pytest.raises(BusyError):
            FolderLock(folder)
        async with attached(folder) as beside:
            assert isinstance(beside, ControlEngine)
            assert (beside.name, beside.site) == (own.name, own.site)
            assert await beside.transfers() == []
    assert not (folder / "control.sock").exists()
    FolderLock(folder).release()


async def test_an_error_inside_leaves_nothing_either(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        async with attached(folder):
            raise RuntimeError
    FolderLock(folder).release()


async def test_a_folder_without_a_gateway_stays_as_it_is(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigError, match="gateway init"):
            async with attached(where):
                pass
    assert not list(tmp_path.iterdir())


async def test_who_holds_the_folder_and_never_listens_is_busy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STARTING", 0.3)
    lock = FolderLock(folder)
    with pytest.raises(BusyError):
        async with attached(folder):
            pass
    lock.release()


async def test_a_gateway_that_is_just_ending_is_waited_for(folder: Path) -> None:
    lock = FolderLock(folder)

    async def use() -> str:
        async with attached(folder) as engine:
            return engine.name

    using = asyncio.create_task(use())
    await asyncio.sleep(0)  # it has begun to look
    lock.release()
    assert await using == "Hill"
