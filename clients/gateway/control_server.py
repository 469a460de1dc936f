"""The gateway's side of the control socket (`control` says what that is)."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from clients.gateway.control import METHODS, short_path
from clients.gateway.errors import GatewayError
from clients.gateway.views import Engine

_GRACE = 2.0
"""Seconds for calls that are under way when the gateway ends."""
_UNREADABLE = "The call cannot be read."
log = structlog.get_logger()


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    args: list[Any]


class ControlServer:
    """Serves an engine at `DIR/control.sock`."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder, self._path = engine, folder, folder / "control.sock"
        app = web.Application(client_max_size=2**20)
        app.router.add_post("/", self._handle)
        app.router.add_get("/", self._hello)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE)

    async def start(self) -> None:
        """Listens; the folder's lock is held, so a socket that is there is a dead one's."""
        self._path.unlink(missing_ok=True)
        await self._runner.setup()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.fchmod(
            sock.fileno(), 0o600
        )  # before `bind`, so never open to others; a umask would hit other threads too
        with short_path(self._folder) as path:
            sock.bind(path)
        await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        """Stops listening."""
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _hello(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": self._engine.name,
                "site": self._engine.site,
                "policy": self._engine.policy,
                "page": self._engine.page,
            }
        )

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            call = msgspec.json.decode(await request.read(), type=_Call)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return web.json_response({"error": "header", "sentence": _UNREADABLE}, status=400)
        try:
            if call.method not in METHODS:
                raise GatewayError("There is no such call.", code="method")
            result = await getattr(self._engine, call.method)(*call.args)
        except GatewayError as why:
            return web.json_response({"error": why.code, "sentence": why.sentence}, status=409)
        except TypeError:  # another number of arguments
            return web.json_response({"error": "header", "sentence": _UNREADABLE}, status=400)
        except Exception as why:  # an error of ours: named in the log, a sentence for whoever called
            log.error("a call failed", method=call.method, kind=type(why).__name__)
            error = GatewayError()
            return web.json_response({"error": error.code, "sentence": error.sentence}, status=500)
        return web.Response(body=msgspec.json.encode(result), content_type="application/json")
