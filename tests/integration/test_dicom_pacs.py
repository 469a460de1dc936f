"""The bundled PACS as a command."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dicom_kit import FAST, digests, instance, save
from tests.peers import need

ROOT = Path(__file__).resolve().parent.parent.parent


async def start(*args: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clients.gateway.dicom.pacs", *args, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.peer
async def test_it_says_where_it_listens_and_keeps_what_comes(tmp_path: Path) -> None:
    storescu = need("storescu")["storescu"]
    sent = save(instance(), tmp_path / "a.dcm")
    pacs = await start("--dir", str(tmp_path / "pacs"), "--aet", "KEEP")
    assert pacs.stdout is not None
    line = json.loads(await pacs.stdout.readline())
    assert line["aet"] == "KEEP"
    send = await asyncio.create_subprocess_exec(
        storescu, "-aec", "KEEP", line["host"], str(line["port"]), str(sent), env=FAST
    )
    assert await send.wait() == 0
    pacs.send_signal(signal.SIGTERM)
    assert await pacs.wait() == 0
    assert digests(Path(line["folder"]).iterdir()) == digests([sent])

    pacs = await start("--dir", str(tmp_path / "pacs"), "--port", str(line["port"]))
    assert pacs.stdout is not None
    assert json.loads(await pacs.stdout.readline())["port"] == line["port"]
    other = await start("--dir", str(tmp_path / "other"), "--port", str(line["port"]))
    _, errors = await other.communicate()
    assert other.returncode == 1
    assert b"Another program listens on" in errors
    assert b"Traceback" not in errors
    pacs.send_signal(signal.SIGINT)
    assert await pacs.wait() == 0
