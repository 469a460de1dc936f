"""The narrow door, with children that behave or do not."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest
import structlog

from clients.gateway.dicom import door
from clients.gateway.dicom.door import Door, DoorClosedError

CHILD = """
import sys, time, os
import msgspec
from clients.gateway.dicom.child import Owner
class Say(msgspec.Struct):
    do: str
owner = Owner(Say)
for line in owner.lines():
    if line.do == "die":
        os._exit(3)
    if line.do == "raise":
        name = "Secret^Person"
        raise ValueError(f"cannot read {name} 1.2.3.4")
    if line.do == "print":
        print("a library talks")
    if line.do == "garbage":
        os.write(owner._out, b"no json\\n")
        continue
    if line.do == "endless":
        os.write(owner._out, b'"' + b"x" * 200000 + b'"\\n')
        continue
    if line.do == "silent":
        continue
    if line.do == "deaf":
        time.sleep(600)
    owner.tell(Say("did " + line.do))
"""


class Say(msgspec.Struct):
    do: str


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "door_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "door_child"


async def test_lines_go_both_ways_and_a_print_is_none(child: str) -> None:
    opened = Door(child, Say)
    assert (await opened.open(Say("hello"))).do == "did hello"
    assert opened.pid
    for what in ("print", "ü" * 1000):
        await opened.send(Say(what))
        assert (await opened.receive()).do == "did " + what
    with pytest.raises(ValueError, match="too long"):
        await opened.send(Say("x" * door.MAX_LINE))
    await opened.close()
    assert opened.pid == 0
    with pytest.raises(DoorClosedError):
        await opened.receive()
    with pytest.raises(DoorClosedError):
        await opened.send(Say("more"))
    await opened.close()


@pytest.mark.parametrize("how", ["die", "garbage", "endless", "raise"])
async def test_a_child_that_fails_is_over(child: str, how: str) -> None:
    opened = Door(child, Say)
    await opened.open(Say("hello"))
    await opened.send(Say(how))
    with pytest.raises(DoorClosedError):
        await opened.receive()
    await opened.close()


async def test_a_child_that_never_says_it_is_ready_is_ended(
    child: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_START", 1.0)
    opened = Door(child, Say)
    with pytest.raises(DoorClosedError):
        await opened.open(Say("silent"))
    assert opened.pid == 0
    with pytest.raises(DoorClosedError):
        await Door("no.such.module", Say).open(Say("hello"))


async def test_a_deaf_child_is_killed_after_its_grace(child: str) -> None:
    opened = Door(child, Say)
    await opened.open(Say("hello"))
    await opened.send(Say("deaf"))
    waiting = asyncio.create_task(opened.receive())
    await opened.close(0.5)
    with pytest.raises(DoorClosedError):
        await waiting


async def test_what_a_child_fails_with_is_logged_without_what_it_says(child: str) -> None:
    opened = Door(child, Say)
    with structlog.testing.capture_logs() as logs:
        await opened.open(Say("hello"))
        await opened.send(Say("raise"))
        with pytest.raises(DoorClosedError):
            await opened.receive()
        await opened.close()
    (line,) = logs
    assert line["kind"] == "ValueError"
    assert line["place"].startswith("door_child.py:")
    assert "Secret" not in str(logs)
    assert "1.2.3.4" not in str(logs)
    assert sys.executable not in str(logs)
