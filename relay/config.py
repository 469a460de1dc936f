"""What an operator may set: one frozen value, from a TOML file and the command line's options.

    listen = "127.0.0.1:8440"
    data = "/var/lib/trauma-transfer-relay"
    origins = ["https://relay.example.org"]
    tls_cert = "fullchain.pem"
    tls_key = "privkey.pem"
    trusted_proxy = false
    metrics = "127.0.0.1:9440"

    [quota]
    reserve = 1_073_741_824

Options win over the file. Paths in the file are relative to it. `origins` is what gateways sign for (`aud`,
protocol s. 12), so it must be the address that *they* use: behind a proxy that is the proxy's. Left empty, it
follows from `listen`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from relay.errors import ConfigError

Natural = Annotated[int, Meta(ge=0, le=2**50)]
Some = Annotated[int, Meta(ge=1, le=2**50)]
_PATHS = ("data", "tls_cert", "tls_key", "phone")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables."""


class Quota(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one site may keep here, and what stays free on the disk."""

    site_bytes: Natural = 256 * 2**30
    """Ciphertext of all packs of one site."""
    site_cids: Natural = 5_000
    """Content ids of one site that are alive."""
    site_mailboxes: Natural = 10_000
    cid_packs: Natural = 200_000
    cid_readers: Natural = 64
    pair_letters: Natural = 10_000
    """Letters that wait from one site to another."""
    pair_bytes: Natural = 64 * 2**20
    reserve: Natural = 2**30
    """Bytes of the disk that packs leave free, so that the database can go on."""


class Rate(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token bucket."""

    per_second: Annotated[float, Meta(gt=0, le=1e6)]
    burst: Some


class Rates(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often, before an answer is 429."""

    site: Rate = Rate(per_second=2_000, burst=4_000)
    address: Rate = Rate(per_second=20, burst=300)
    """Phones and pages, by address (IPv6: by /64)."""
    mailbox: Rate = Rate(per_second=10, burst=100)
    stranger: Rate = Rate(per_second=5, burst=50)
    """Site calls that were refused before the caller was known, by address."""


class Bounds(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the process may hold at once."""

    connections: Some = 2_000
    address_connections: Some = 256
    """From one address; not behind a trusted proxy, where all share one."""
    upload_bytes: Some = 64 * 2**20
    """Bodies in memory; more wait."""
    download_bytes: Some = 32 * 2**20
    site_share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """What one site may take of either."""
    threads: Annotated[int, Meta(ge=1, le=256)] = 16
    """For blob files: each is mostly a wait for the disk."""


class Config(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    listen: str = "127.0.0.1:8440"
    """HOST:PORT; port 0 takes a free one."""
    data: Path = Path("relay-data")
    origins: list[str] = []
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxy: bool = False
    """True where every request comes through a proxy that sets `X-Forwarded-For`."""
    metrics: str = ""
    """HOST:PORT of the metrics, a second address that strangers do not reach; empty: none."""
    phone: Path | None = None
    """Another folder for the phone page."""
    access_log: bool = True
    json: bool = False
    """The line at start as JSON."""
    quota: Quota = Quota()
    rates: Rates = Rates()
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        split_listen(self.listen)
        if self.metrics:
            split_listen(self.metrics, "metrics")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key belong together. Give both or neither.")
        for origin in self.origins:
            if canonical_origin(origin) != origin:
                raise ConfigError(
                    "An origin looks like https://relay.example.org: lower case, no path. Correct it and start again."
                )

    @property
    def scheme(self) -> str:
        """What this process itself speaks."""
        return "https" if self.tls_cert else "http"


def split_listen(listen: str, name: str = "listen") -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[V6]:PORT`. Raises `ConfigError`, which names the setting."""
    host, colon, port = listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(
            f"{name} must be HOST:PORT, for example 127.0.0.1:8440. Correct it and start again."
        )
    return host, int(port)


def canonical_origin(origin: str) -> str:
    """`scheme://host[:port]` of an origin, or "" where it is none (RFC 6454 6.2)."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def load(file: Path | None = None, **options: Any) -> Config:
    """The configuration of `file`, with every option that is not None in its place. Raises `ConfigError`."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            raise ConfigError(
                "The configuration file cannot be read as TOML. Correct it and start again."
            ) from None
        for name in _PATHS:
            if isinstance(values.get(name), str):
                values[name] = str(file.parent / values[name])
    values.update({k: str(v) if isinstance(v, Path) else v for k, v in options.items() if v is not None})
    try:
        return msgspec.convert(values, Config, dec_hook=_path)
    except msgspec.ValidationError as why:
        raise ConfigError(
            f"The relay's configuration cannot be used: {why}. Correct it and start again."
        ) from None


def _path(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError("a path is expected")
