"""What commands say, and with what they end, whatever happens inside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec
import pytest

from clients.commands.output import EXIT, Speaker, json_option, no_logs, print_qr, runs_with
from clients.gateway.errors import GatewayError, RelayDownError
from transfer.errors import ClockError
from transfer.states import TERMINAL


def run(work: Callable[[], Any], *, as_json: bool = False) -> int:
    """The exit code of a command that does `work`."""

    @runs_with(no_logs)
    async def command(speaker: Speaker) -> int:
        result: int = work()
        return result

    with pytest.raises(SystemExit) as caught:
        command(as_json=as_json)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def fail(why: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise why

    return work


@pytest.mark.parametrize("code", [0, 1, 3, 7])
def test_the_result_is_the_exit_code(code: int) -> None:
    assert run(lambda: code) == code


def test_a_name_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker(False)
    speaker.value({}, "one\x1b[2J\u202e\ntwo")
    speaker.event("named", "\x1b]0;x\x07three")
    assert capsys.readouterr().out == "one[2J\ntwo\n]0;xthree\n"


def test_every_end_has_a_code_of_its_own() -> None:
    assert set(EXIT) | {"DECLINED"} == set(TERMINAL)
    assert len(set(EXIT.values())) == len(EXIT)
    assert {c for state, c in EXIT.items() if state != "COMPLETE"}.isdisjoint({0, 1, 2})


@pytest.mark.parametrize("why", [RelayDownError(), ClockError()])
def test_an_error_of_ours_is_a_sentence(why: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(why)) == 1
    assert capsys.readouterr() == ("", f"{why.sentence} [{why.code}]\n")
    assert run(fail(why), as_json=True) == 1
    said = capsys.readouterr()
    line = msgspec.json.decode(said.out)
    assert (line["event"], line["code"], line["sentence"]) == ("failed", why.code, why.sentence)
    assert line["t"] >= 0
    assert said.err == ""


def test_an_error_in_a_group_is_that_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(ExceptionGroup("x", [ExceptionGroup("y", [RelayDownError()])]))) == 1
    assert "[relay-down]" in capsys.readouterr().err


def test_what_nobody_foresaw_quotes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(ValueError("DOE^JANE 1.2.3"))) == 1
    said = capsys.readouterr()
    assert said.out == ""
    first, second = said.err.splitlines()
    assert first.startswith("unforeseen: ValueError at test_commands_output.py:")
    assert second == f"{GatewayError().sentence} [gateway]"


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_sigterm_closes_what_is_open() -> None:
    @runs_with(no_logs)
    async def command(speaker: Speaker) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            closed.append(True)
        return 0

    closed: list[bool] = []
    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == 143
    assert closed == [True]


def test_usage_errors_stay_usage_errors() -> None:
    @runs_with(no_logs)
    async def command(speaker: Speaker) -> int:
        raise click.UsageError("Give one.")

    with pytest.raises(click.UsageError):
        command(as_json=True)

    @runs_with(no_logs)
    async def deep(speaker: Speaker) -> int:
        async with asyncio.TaskGroup():
            raise click.UsageError("Give one.")

    with pytest.raises(click.UsageError):
        deep(as_json=True)


def test_a_reader_that_leaves_is_no_error() -> None:
    code = (
        "from clients.commands.output import runs_with, no_logs\n"
        "async def work(speaker):\n"
        "    for i in range(100000): speaker.event('line', 'a line')\n"
        "    return 0\n"
        "runs_with(no_logs)(work)()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_events_for_people_and_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    Speaker(False).event("offered", "Link: x", link="x")
    Speaker(False).event("created", tid="1")
    assert capsys.readouterr().out == "Link: x\n"
    speaker = Speaker(True)
    speaker.event("offered", "Link: x", link="x")
    speaker.value({"a": 1}, "text")
    first, second = capsys.readouterr().out.splitlines()
    line = msgspec.json.decode(first)
    assert list(line) == ["event", "t", "link"]
    assert msgspec.json.decode(second) == {"a": 1}


def test_a_qr_only_where_a_person_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Speaker(False).qr("https://relay.example")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    Speaker(True).qr("https://relay.example")
    assert capsys.readouterr().out == ""
    Speaker(False).qr("https://relay.example")
    drawn = capsys.readouterr().out
    print_qr("https://relay.example")
    assert drawn.count("\n") > 10


def test_json_option() -> None:
    @click.command()
    @json_option
    def command(as_json: bool) -> None:
        """Nothing."""

    assert [p.opts for p in command.params] == [["--json"]]
