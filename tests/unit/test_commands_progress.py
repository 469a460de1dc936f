"""Bars and lines that say how far a transfer is."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from clients.commands.output import Speaker
from clients.commands.progress import Bars


def test_where_there_is_no_terminal_the_first_and_the_last_step_are_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bars = Bars()
    for done in range(0, 11):
        bars.move("stored", done, 10, "images")
    assert capsys.readouterr().out.splitlines() == [
        "stored: 0 images of 10 images",
        "stored: 10 images of 10 images",
    ]


def test_bytes_are_megabytes_and_an_unknown_end_is_a_question_mark(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Bars().move("uploaded", 1_500_000, 0, "bytes")
    assert capsys.readouterr().out == "uploaded: 1.5 MB of ?\n"


def test_scripts_get_the_event_and_people_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    Speaker(as_json=True).progress("uploaded", "uploaded", 1, 2, "bytes", bytes=1, of=2)
    assert '"event":"uploaded"' in (out := capsys.readouterr().out)
    assert '"bytes":1,"of":2' in out
    Speaker(as_json=False).progress("uploaded", "uploaded", 0, 0, "bytes", bytes=0, of=0)
    assert capsys.readouterr().out == ""


def test_on_a_terminal_lines_stand_above_the_bar_and_the_cursor_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal, os.fdopen(leader, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "xterm")
        bars = Bars()
        bars.move("stored", 3, 12, "images")
        bars.say("Yes, by patient.")
        bars.close()
        shown = ""
        while not shown.endswith("\x1b[?25h") and (part := screen.read(4096)):  # a terminal gives what it has
            shown += part.decode()
    assert "Yes, by patient." in shown
    assert "3 images of 12 images" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is shown again
