"""What lies on a disc is not run by whoever stands in it and sends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from clients.commands.parties import tool
from clients.gateway.dicom.scp import ScpConfig, StorageScp
from clients.module import module

TRAPS = ("json.py", "asyncio.py", "clients.py", "relay.py", "pydicom.py", "struct.py")


@pytest.fixture
def disc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disc with files that Python would rather import than its own, and this process standing in it."""
    disc = tmp_path / "cd"
    disc.mkdir()
    for name in TRAPS:
        (disc / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
    monkeypatch.chdir(disc)
    return disc


@pytest.mark.parametrize(
    "argv",
    [tool("--help"), module("relay", "--help"), tool("relay", "--help"), module("clients.phantom", "--help")],
)
async def test_a_command(disc: Path, argv: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"Usage: " in out or b"usage: " in out
    assert not (disc.parent / "ran").exists()


async def test_a_child_of_the_gateway(disc: Path) -> None:
    folder = disc.parent / "site"
    folder.mkdir()
    scp = StorageScp(ScpConfig(aet="SITE", port=0), folder)
    try:
        await scp.start()
    finally:
        await scp.stop()
    assert not (disc.parent / "ran").exists()
