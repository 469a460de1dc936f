"""The address of a gateway's health and metrics: `[metrics] listen`, off unless it is set.

It has no TLS and no password, so it belongs on loopback or where only the hospital's monitoring reaches it. It
serves three paths and nothing of the staff pages; who floods it is one of few connections.
"""

from __future__ import annotations

import logging

from aiohttp import web

from clients.gateway.config import split_address
from clients.gateway.errors import ConfigError
from clients.gateway.observe.health import Health
from clients.gateway.observe.metrics import Metrics
from clients.gateway.rooms import Rooms

_BACKLOG = 16


class Server:
    """Listening. `url` is where, "" where nobody asked for it."""

    def __init__(self, url: str = "", runner: web.AppRunner | None = None) -> None:
        self.url, self._runner = url, runner

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()


async def serve(rooms: Rooms) -> Server:
    """Starts to serve where the configuration says so. Raises `ConfigError`."""
    listen = rooms.config.metrics.listen
    if not listen:
        return Server()
    host, port = split_address(listen)
    health, app = Health(rooms), web.Application()
    app.router.add_get("/healthz", health.alive)
    app.router.add_get("/readyz", health.ready)
    app.router.add_get("/metrics", Metrics(rooms).read)
    runner = web.AppRunner(app, access_log=None, logger=_silent(), keepalive_timeout=60, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise ConfigError(
            f"The metrics cannot use port {port} of {host}. End the program that uses it, or correct metrics.listen."
        ) from None
    shown = f"[{host}]" if ":" in host else host
    return Server(f"http://{shown}:{runner.addresses[0][1]}", runner)


def _silent() -> logging.Logger:
    """For aiohttp's own messages, which hold addresses and bytes of requests: they go nowhere."""
    logger = logging.Logger("gateway.metrics")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
