"""Programs that a program starts: their first line, their end, and the end of whoever started them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clients.commands import parties
from clients.commands.parties import Party, call, tool
from clients.gateway.errors import GatewayError


def party(tmp_path: Path, code: str) -> Party:
    """A party that is a few lines of Python."""
    return Party("friend", tmp_path / "friend.log", sys.executable, "-c", code)


READY = "import sys; sys.stderr.write('a line'); sys.stderr.flush(); print('{\"port\": 7}', flush=True);"
"""The line in the log comes first: once it is ready, it may be ended at any time."""


async def test_ready_and_a_gentle_end(tmp_path: Path) -> None:
    friend = party(tmp_path, READY + "import signal; signal.pause()")
    assert await friend.start() == {"port": 7}
    assert friend.ready == {"port": 7}
    await friend.stop()
    await friend.stop()
    assert friend.process is not None
    assert friend.process.returncode == -signal.SIGTERM
    assert (tmp_path / "friend.log").read_text() == "a line"


async def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parties, "_GRACE", 0.05)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY + "signal.pause()"
    friend = party(tmp_path, deaf)
    await friend.start()
    await friend.stop()
    assert friend.process is not None
    assert friend.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("code", ["pass", "print('no json')", "raise SystemExit(3)", "print('x' * 100000)"])
async def test_one_that_does_not_start(tmp_path: Path, code: str) -> None:
    friend = party(tmp_path, code)
    with pytest.raises(GatewayError) as caught:
        await friend.start()
    assert caught.value.code == "demo-start"
    assert str(tmp_path / "friend.log") in caught.value.sentence
    await friend.stop()


async def test_one_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parties, "_START", 0.05)
    friend = party(tmp_path, "import signal; signal.pause()")
    with pytest.raises(GatewayError, match="demo-start"):
        await friend.start()
    await friend.stop()


async def test_one_that_says_why(tmp_path: Path) -> None:
    friend = party(tmp_path, 'print(\'{"event": "failed", "code": "busy", "sentence": "It is busy."}\')')
    with pytest.raises(GatewayError) as caught:
        await friend.start()
    assert (caught.value.code, caught.value.sentence) == ("busy", "It is busy.")
    await friend.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
def test_they_end_with_whoever_started_them(tmp_path: Path) -> None:
    """kill -9 of the parent, which can tell nobody."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom clients.commands.parties import Party\n"
        "async def main():\n"
        f"    friend = Party('friend', Path({str(tmp_path / 'log')!r}), sys.executable, '-c',"
        " 'import json, os, signal; print(json.dumps({\"pid\": os.getpid()}), flush=True); signal.pause()')\n"
        "    ready = await friend.start()\n    print(ready['pid'], flush=True)\n    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert select.select([child], [], [], 30)[0], "the child outlived its parent"
    os.close(child)


async def test_call(tmp_path: Path) -> None:
    made = await call(
        "gateway", "init", str(tmp_path / "hill"), "--name", "Hill", "--relay", "http://127.0.0.1:1"
    )
    card = await call("gateway", "card", str(tmp_path / "hill"))
    assert made["fingerprint"] == card["fingerprint"]
    with pytest.raises(GatewayError) as caught:
        await call("gateway", "card", str(tmp_path / "nothing"))
    assert caught.value.code == "config"
    with pytest.raises(GatewayError) as caught:
        await call("gateway", "nothing")
    assert caught.value.code == "demo-command"
    assert "`trauma-transfer gateway nothing`" in caught.value.sentence


async def test_a_call_that_is_given_up_leaves_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pid"
    slow = f"import os, pathlib, signal; pathlib.Path({str(pids)!r}).write_text(str(os.getpid())); signal.pause()"
    monkeypatch.setattr(parties, "tool", lambda *argv: [sys.executable, "-c", slow])
    calling = asyncio.create_task(call("gateway", "run"))
    async with asyncio.timeout(30):
        while not (pids.exists() and pids.read_text()):  # noqa: ASYNC110  # the child sets no event
            await asyncio.sleep(0.01)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)


def test_tool_is_this_program() -> None:
    assert tool("status", "x") == [sys.executable, "-P", "-m", "clients", "status", "x"]
