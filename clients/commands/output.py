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
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
import msgspec
import structlog

from clients.gateway.errors import GatewayError
from transfer.errors import TransferError

F = TypeVar("F", bound=Callable[..., Any])
EXIT = {"COMPLETE": 0, "PARTIAL": 3, "DENIED": 4, "EXPIRED": 5, "REVOKED": 6, "DIVERTED": 7}


class Speaker:
    """Prints events: as JSON lines, or as the sentence that goes with them."""

    def __init__(self, as_json: bool) -> None:
        self.json = as_json
        self._started = time.monotonic()

    def event(self, name: str, sentence: str = "", /, **fields: Any) -> None:
        """One event. `sentence` is for people; empty: only scripts hear of it."""
        if self.json:
            line = {"event": name, "t": round(time.monotonic() - self._started, 3), **fields}
            print(msgspec.json.encode(line).decode(), flush=True)
        elif sentence:
            print(sentence, flush=True)

    def value(self, value: Any, text: str) -> None:
        """A result that is not an event: JSON of the whole, or text."""
        print(msgspec.json.encode(value).decode() if self.json else text, flush=True)

    def failed(self, why: GatewayError | TransferError) -> None:
        """An error, in its own words."""
        if self.json:
            self.event("failed", code=why.code, sentence=why.sentence)
        else:
            print(f"{why.sentence} [{why.code}]", file=sys.stderr, flush=True)


def quiet_logs() -> None:
    """Short commands say what happened themselves: only errors are logged."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(40),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def service_logs() -> None:
    """JSON lines on stderr, with the time; never a name, a UID, a PIN or a key."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")(command)


def runs(work: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Runs an async command; its result is the exit code. An error of ours is a sentence and exit code 1."""

    @functools.wraps(work)
    def command(*args: Any, as_json: bool = False, **options: Any) -> None:
        speaker = Speaker(as_json)
        quiet_logs()
        try:
            code = asyncio.run(work(*args, speaker=speaker, **options))
        except (GatewayError, TransferError) as why:
            speaker.failed(why)
            code = 1
        except KeyboardInterrupt:
            code = 130
        sys.exit(code)

    return command
