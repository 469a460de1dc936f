"""The gateway's log: JSON lines on standard error, each with the transfer that it is about, none with a patient.

`with about(tid):` gives every line of what happens inside it, in this task, in those that it starts and in the
database's thread, the field `tid`. So all that one gateway did for one transfer is found by one search, and the
same search at the other hospital finds its half.

What other libraries log quotes addresses, requests and whatever a peer sent. Of such a line the name of the
library and the kind of the error are kept, never its text.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

QUIET, TALKING = logging.ERROR, logging.INFO


def about(tid: bytes | None) -> AbstractContextManager[None]:
    """Whatever is logged inside is about this transfer; about none, where nobody knows of one."""
    return bound_contextvars(tid=bytes(tid).hex()) if tid is not None else nullcontext()


def configure(level: int, stream: TextIO | None = None) -> None:
    """For the whole process: lines from `level` on, on standard error."""
    structlog.configure(
        processors=[
            merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
    )
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _Strangers)] + [
        _Strangers(logging.WARNING)
    ]


class _Strangers(logging.Handler):
    """What libraries say by `logging`, in our form and without their words."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        with suppress(OSError, ValueError):  # standard error is closed: no reason to stop a library
            structlog.get_logger().warning("library", library=record.name.split(".")[0], kind=kind)


def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own words name sockets and quote errors."""
    why = context.get("exception")
    structlog.get_logger().error(
        "loop", kind=type(why).__name__ if why is not None else "", place=place_of(why)
    )


def place_of(why: BaseException | None) -> str:
    """File and line where an error was raised, without values; empty where nobody knows."""
    trace, place = why.__traceback__ if why is not None else None, ""
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
