"""The relay's log: JSON lines on stderr that hold nothing about anybody.

An access line is method, route template, status, bytes and milliseconds: no address, no path, no id. An
unforeseen error is its type and the place in our code, never its text, which may quote a caller.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})


def make_log(stream: TextIO | None = None) -> Any:
    """A logger of its own, whatever else in the process configures."""
    return structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
    )


def silent() -> logging.Logger:
    """For aiohttp's own messages, which hold addresses and bytes of requests: they go nowhere."""
    logger = logging.Logger("relay.http")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


Note = Callable[[web.BaseRequest, web.StreamResponse, float], None]
"""Somebody else who wants to know of each request that has ended, with its seconds."""


def access_logger(log: Any, notes: Sequence[Note] = ()) -> type[AbstractAccessLogger]:
    """The class that aiohttp calls at the end of each request. `log` None: no line, only `notes`."""

    class AccessLog(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            for note in notes:
                note(request, response, time)
            if log is None:
                return
            log.info(
                "request",
                method=method_of(request),
                route=route_of(request),
                status=response.status,
                bytes=response.body_length,
                ms=round(time * 1000, 1),
            )

    return AccessLog


def method_of(request: web.BaseRequest) -> str:
    """The method, or "other": a stranger may have written anything there."""
    return request.method if request.method in METHODS else "other"


def route_of(request: web.BaseRequest) -> str:
    """The template of the route, or "none"."""
    match = request.match_info if isinstance(request, web.Request) else None
    resource = match.route.resource if match is not None else None
    return resource.canonical if resource is not None else "none"


def place_of(why: BaseException) -> str:
    """Where in our code something went wrong: module and line, no values."""
    frames = traceback.extract_tb(why.__traceback__)
    ours = [frame for frame in frames if "/relay/" in frame.filename] or list(frames)
    return f"{ours[-1].filename.rsplit('/', 1)[-1]}:{ours[-1].lineno}" if ours else ""
