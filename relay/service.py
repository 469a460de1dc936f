"""Runs a relay: its stores, its listening socket, its end.

`start` gives a running relay inside an event loop (tests, the demo); `run` is the whole process: it prints one
line when it listens, reads its certificate again on SIGHUP, and ends on SIGTERM or SIGINT after what was begun
is done. A folder belongs to one relay at a time (`DIR/lock`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import socket
import sqlite3
import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from aiohttp import web

from relay.app import Relay
from relay.clock import Clock, system_clock
from relay.config import Config, canonical_origin, split_listen
from relay.doorman import Doorman, close_door
from relay.enroll import DATABASE
from relay.errors import ConfigError
from relay.files import FileBlobs
from relay.log import access_logger, make_log, place_of, silent
from relay.metrics import make_app
from relay.notifier import LocalNotifier
from relay.reconcile import reconcile
from relay.sqlite import SqliteMeta
from relay.sweep import Sweeper

KEEP_ALIVE = 75
"""Seconds for a request's head to arrive on a connection, from its start or from the last answer."""
READ_BUFFER = 2**17
"""Bytes that a connection may buffer before its body is read."""
GRACE = 10
"""Seconds for what is under way when the relay stops."""
_WATCHERS = 16
"""Connections to the metrics."""
_WILD = ("0.0.0.0", "::")  # noqa: S104  # compared with, not bound to
_LOCAL = ("127.0.0.1", "localhost")


class Running:
    """A relay that listens. `url` is where, `origins` are the names that gateways may sign for.

    `metrics` is the URL of its metrics, "" where there are none.
    """

    def __init__(
        self, url: str, origins: list[str], ends: AsyncExitStack, tls: ssl.SSLContext | None, sweeper: Sweeper,
        metrics: str,
    ) -> None:  # fmt: skip
        self.url, self.origins, self.metrics = url, origins, metrics
        self._ends, self._tls, self._sweeper = ends, tls, sweeper

    async def stop(self) -> None:
        """Finishes what is under way, closes everything. Again is no error."""
        await self._ends.aclose()

    async def sweep(self) -> None:
        """Forgets and deletes now what the next round would."""
        await self._sweeper.sweep()

    def read_certificate(self, config: Config) -> None:
        """Takes a renewed certificate for connections to come. `ConfigError`; then the old one stays."""
        if self._tls is not None:
            _load_certificate(self._tls, config)


async def start(config: Config, *, clock: Clock = system_clock, log: Any = None) -> Running:
    """A running relay. Raises `ConfigError`, and leaves nothing behind then."""
    log = log or make_log()
    async with AsyncExitStack() as ends:
        _take_folder(config, ends)
        tls = make_tls(config)
        sock = listen(config.listen)
        ends.callback(sock.close)
        url, origins = names(config, sock)
        meta = SqliteMeta(config.data / DATABASE, config.quota, clock)
        blobs = FileBlobs(config.data / "packs", reserve=config.quota.reserve, threads=config.bounds.threads)
        notifier = LocalNotifier(most=config.bounds.connections)
        relay = Relay(config, origins, meta, blobs, notifier, clock, log)
        try:
            await meta.open()
            ends.push_async_callback(meta.close)
            await blobs.open()
            ends.push_async_callback(blobs.close)
            sweeper = Sweeper(meta, blobs, clock, log, relay.doomed)
            if forgotten := await reconcile(meta, blobs):
                log.warning("reconcile", forgotten=forgotten)
            await sweeper.erase_strays()
        except (OSError, sqlite3.Error):
            raise ConfigError(
                "The relay's data folder cannot be used. Check its path, rights and disk."
            ) from None
        ends.push_async_callback(relay.carrier.close, GRACE)
        ends.push_async_callback(_cancel, asyncio.create_task(sweeper.run(), name="sweeper"))
        await _serve(config, relay, sock, tls, log, ends)
        metrics = await _serve_metrics(config, relay, ends)
        ends.callback(notifier.close)
        return Running(url, origins, ends.pop_all(), tls, sweeper, metrics)


async def _serve(
    config: Config,
    relay: Relay,
    sock: socket.socket,
    tls: ssl.SSLContext | None,
    log: Any,
    ends: AsyncExitStack,
) -> None:
    runner = web.AppRunner(
        relay.app,
        access_log_class=access_logger(log if config.access_log else None, [relay.metrics.note]),
        access_log=silent(),
        logger=silent(),
        handler_cancellation=True,
        keepalive_timeout=KEEP_ALIVE,
        lingering_time=2,
        read_bufsize=READ_BUFFER,
        auto_decompress=False,
        shutdown_timeout=GRACE,
    )
    await runner.setup()
    ends.push_async_callback(runner.cleanup)
    server, bounds, closed = runner.server, config.bounds, asyncio.Event()
    assert server is not None
    relay.metrics.connections = lambda: len(server.connections)
    each = None if config.trusted_proxy else bounds.address_connections
    listening = await asyncio.get_running_loop().create_server(
        lambda: Doorman(server, bounds.connections, each, closed),
        sock=sock, backlog=512, ssl=tls, ssl_handshake_timeout=10 if tls else None,
    )  # fmt: skip
    ends.push_async_callback(close_door, listening, closed)


async def _serve_metrics(config: Config, relay: Relay, ends: AsyncExitStack) -> str:
    """Serves the metrics at their own address, if they have one; its URL, or ""."""
    if not config.metrics:
        return ""
    sock = listen(config.metrics, "metrics")
    ends.callback(sock.close)
    runner = web.AppRunner(
        make_app(relay.metrics),
        access_log=None,
        logger=silent(),
        keepalive_timeout=KEEP_ALIVE,
        shutdown_timeout=1,
    )
    await runner.setup()
    ends.push_async_callback(runner.cleanup)
    server, closed = runner.server, asyncio.Event()
    assert server is not None
    listening = await asyncio.get_running_loop().create_server(
        lambda: Doorman(server, _WATCHERS, None, closed), sock=sock, backlog=_WATCHERS
    )
    ends.push_async_callback(close_door, listening, closed)
    return f"http://{_bracketed(split_listen(config.metrics)[0])}:{sock.getsockname()[1]}/metrics"


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _take_folder(config: Config, ends: AsyncExitStack) -> None:
    try:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(config.data / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        raise ConfigError("The relay's data folder cannot be written. Check its path and rights.") from None
    ends.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError("Another relay holds this data folder. Stop it, or name another folder.") from None


def listen(where: str, name: str = "listen") -> socket.socket:
    """The socket that listens at `where`, with BBR where the kernel has it (accepted connections inherit it)."""
    host, port = split_listen(where, name)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError:
        raise ConfigError(
            f"The address to listen at is not known here. Correct {name} and start again."
        ) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise ConfigError(
            f"The address to listen at is taken or not allowed. Choose another port for {name}."
        ) from None
    congestion = getattr(socket, "TCP_CONGESTION", None)
    if congestion is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, congestion, b"bbr")
        except OSError:
            pass  # this kernel has none; the default serves
    return sock


def names(config: Config, sock: socket.socket) -> tuple[str, list[str]]:
    """The URL where this process listens, and the origins it answers to."""
    host, _ = split_listen(config.listen)
    port = sock.getsockname()[1]

    def origin(name: str) -> str:
        return canonical_origin(f"{config.scheme}://{_bracketed(name.lower())}:{port}")

    url = origin(host)
    if config.origins:
        return url, list(config.origins)
    return url, [origin(name) for name in _LOCAL] if host in _WILD else [url]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def make_tls(config: Config) -> ssl.SSLContext | None:
    """The relay's own TLS, if it has a certificate. `ConfigError`."""
    if config.tls_cert is None:
        return None
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.set_alpn_protocols(["http/1.1"])
    _load_certificate(tls, config)
    return tls


def _load_certificate(tls: ssl.SSLContext, config: Config) -> None:
    assert config.tls_cert is not None
    try:
        tls.load_cert_chain(config.tls_cert, config.tls_key)
    except OSError:  # ssl.SSLError is one
        raise ConfigError("The certificate or its key cannot be read as PEM. Check both files.") from None


def run(config: Config) -> None:
    """Runs until SIGTERM or SIGINT. Raises `ConfigError` if it cannot start."""
    raise_file_limit(config.bounds.connections + 4 * config.bounds.threads + 64)
    asyncio.run(_run(config))


def raise_file_limit(wanted: int) -> None:
    """Takes as many open files as are needed and allowed: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(config: Config) -> None:
    log = make_log()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _note(log, context))
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    running = await start(config, log=log)
    loop.add_signal_handler(signal.SIGHUP, _renew, running, config, log)
    try:
        _announce(running, config, sys.stdout.write)
        await stop.wait()
    finally:
        await running.stop()


def _note(log: Any, context: dict[str, Any]) -> None:
    """What asyncio itself has to say names sockets and addresses: only the kind of error is kept."""
    why = context.get("exception")
    log.error("loop", error=type(why).__name__, place=place_of(why) if why is not None else "")


def _renew(running: Running, config: Config, log: Any) -> None:
    try:
        running.read_certificate(config)
        log.info("certificate", renewed=config.tls_cert is not None)
    except ConfigError as why:
        log.error("certificate", error=why.code)


def _announce(running: Running, config: Config, write: Callable[[str], Any]) -> None:
    line = f"relay listening on {running.url}"
    if config.json:
        event = {"event": "listening", "url": running.url, "origins": running.origins}
        line = msgspec.json.encode(event).decode()
    write(line + "\n")
    sys.stdout.flush()
