"""How every command speaks: lines for people, or one JSON object per line with `--json`; exit codes that mean
something.

| code | meaning |
|---|---|
| 0 | done; `send` and `demo`: COMPLETE |
| 1 | it failed: `code` and `sentence` say why and what to do |
| 2 | the command was typed wrongly |
| 3 | PARTIAL: not every image arrived |
| 4 | DENIED |
| 5 | EXPIRED |
| 6 | REVOKED |
| 7 | DIVERTED |

Nobody who types a command sees a traceback. What was not foreseen is a sentence as well, and its kind and place
in the code go to standard error, never its text, which may quote a patient.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from clients.commands.progress import Bars
from clients.gateway.errors import GatewayError, leaf
from transfer.errors import TransferError
from transfer.text import seen

F = TypeVar("F", bound=Callable[..., Any])
EXIT = {"COMPLETE": 0, "PARTIAL": 3, "DENIED": 4, "EXPIRED": 5, "REVOKED": 6, "DIVERTED": 7}


class Speaker:
    """Prints events: as JSON lines, or as the sentence that goes with them."""

    def __init__(self, as_json: bool) -> None:
        self.json = as_json
        self._started = time.monotonic()
        self._bars = Bars()

    def event(self, name: str, sentence: str = "", /, **fields: Any) -> None:
        """One event. `sentence` is for people; empty: only scripts hear of it."""
        if self.json:
            line = {"event": name, "t": round(time.monotonic() - self._started, 3), **fields}
            print(msgspec.json.encode(line).decode(), flush=True)
        elif sentence:
            self._bars.say(_lines(sentence))

    def progress(self, name: str, what: str, done: int, of: int, unit: str, /, **fields: Any) -> None:
        """An event that only moves a number: a bar for people."""
        if self.json:
            self.event(name, **fields)
        elif done or of:
            self._bars.move(what, done, of, unit)

    def close(self) -> None:
        """Nothing moves any more."""
        self._bars.close()

    def value(self, value: Any, text: str) -> None:
        """A result that is not an event: JSON of the whole, or text."""
        print(msgspec.json.encode(value).decode() if self.json else _lines(text), flush=True)

    def qr(self, text: str) -> None:
        """A QR code, where a person looks at a terminal."""
        if not self.json and sys.stdout.isatty():
            print_qr(text)

    def failed(self, why: GatewayError | TransferError) -> None:
        """An error, in its own words."""
        if self.json:
            self.event("failed", code=why.code, sentence=why.sentence)
        else:
            print(f"{why.sentence} [{why.code}]", file=sys.stderr, flush=True)


def _lines(text: str) -> str:
    """Text for a terminal, whose cursor nobody's name moves."""
    return "\n".join(map(seen, text.split("\n")))


def print_qr(text: str) -> None:
    """A QR code in characters."""
    import qrcode

    code = qrcode.QRCode(border=2)
    code.add_data(text)
    code.print_ascii(invert=True)


def quiet_logs() -> None:
    """Short commands say what happened themselves: only errors are logged."""
    from clients.gateway import log  # a tenth of a second that the shortest commands do without

    log.configure(log.QUIET)


def service_logs() -> None:
    """JSON lines on stderr, with the time; never a name, a UID, a PIN or a key."""
    from clients.gateway import log

    log.configure(log.TALKING)


def no_logs() -> None:
    """For commands in which nothing logs."""


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")(command)


def runs_with(
    logs: Callable[[], None],
) -> Callable[[Callable[..., Coroutine[Any, Any, int]]], Callable[..., None]]:
    """Runs an async command; its result is the exit code. An error is a sentence and exit code 1."""

    def decorate(work: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
        @functools.wraps(work)
        def command(*args: Any, as_json: bool = False, **options: Any) -> None:
            speaker = Speaker(as_json)
            logs()
            sys.exit(_run(lambda: work(*args, speaker=speaker, **options), speaker))

        return command

    return decorate


runs = runs_with(quiet_logs)


def _run(work: Callable[[], Coroutine[Any, Any, int]], speaker: Speaker) -> int:
    try:
        return asyncio.run(_until_told(work()))
    except click.ClickException:
        raise
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except BrokenPipeError:  # whoever read us has gone: nobody is left to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as why:
        inner = leaf(why)
        if isinstance(inner, click.ClickException):
            raise inner from None
        if not isinstance(inner, GatewayError | TransferError):
            _note(inner)
            inner = GatewayError()
        speaker.failed(inner)
        return 1


async def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """SIGTERM ends it as Ctrl-C does: everything is closed, nothing is left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _note(why: BaseException) -> None:
    """Kind and place of what nobody foresaw, for whoever reads the log."""
    trace, place = why.__traceback__, ""
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    print(f"unforeseen: {type(why).__name__} at {place}", file=sys.stderr, flush=True)
