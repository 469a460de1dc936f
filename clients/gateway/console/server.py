"""Runs the staff pages on an address, with or without TLS."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from aiohttp import web

from clients.gateway.clock import Clock
from clients.gateway.console.app import build
from clients.gateway.errors import ConfigError
from clients.gateway.networks import is_local
from clients.gateway.views import Engine

IDLE_CONNECTION = 75.0
SHUTDOWN = 5.0


class Server:
    """The pages while they run. `url` is where; `stop` ends them."""

    def __init__(self, url: str, runner: web.AppRunner) -> None:
        self.url = url
        self._runner = runner

    async def stop(self) -> None:
        """Ends open pages' streams, answers what is under way and frees the port."""
        await self._runner.cleanup()


async def serve(
    engine: Engine,
    host: str,
    port: int,
    cert: Path | str | None = None,
    key: Path | str | None = None,
    *,
    clock: Clock | None = None,
) -> Server:
    """Starts to serve; port 0 = any free one. Raises `ConfigError`."""
    if not cert and host != "localhost" and not is_local(host):
        raise ConfigError(
            "The staff pages may leave this machine only with a certificate. Give one, or listen on 127.0.0.1."
        )
    tls = _tls(cert, key) if cert else None
    runner = web.AppRunner(
        build(engine, secure=tls is not None, clock=clock),
        access_log=None,
        logger=_silent(),
        keepalive_timeout=IDLE_CONNECTION,
        handler_cancellation=True,  # a page that was closed gives its stream back at once, not at the next tick
        shutdown_timeout=SHUTDOWN,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise ConfigError(
            f"The staff pages cannot use port {port} of {host}. End the program that uses it, or choose another port."
        ) from None
    bound = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return Server(f"{'https' if tls else 'http'}://{shown}:{bound}", runner)


def _tls(cert: Path | str, key: Path | str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key or None)
    except (OSError, ssl.SSLError):
        raise ConfigError(
            "The certificate or key of the staff pages cannot be read. Check pages.cert and pages.key (PEM)."
        ) from None
    return context


def _silent() -> logging.Logger:
    """aiohttp logs malformed requests with their bytes, which may hold a cookie; our own failures never get there."""
    logger = logging.getLogger("clients.gateway.console.http")
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    return logger
