"""Addresses of peers, and the networks that they may come from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from clients.gateway.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_of(key: str, entries: Iterable[str]) -> list[Network]:
    """The networks (CIDR, or single addresses) that `key` of gateway.toml lists. Raises `ConfigError`."""
    try:
        return [ipaddress.ip_network(entry, strict=False) for entry in entries]
    except ValueError:
        raise ConfigError(f"{key} has an entry that is no address and no network. Correct it.") from None


def address_of(text: str) -> Address | None:
    """A peer's address as a socket says it: an IPv4 address in IPv6 dress is itself. None where it is none."""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def counted_as(text: str) -> str:
    """Whom an address is counted under: itself, or an IPv6 address's /64, of which a machine has all addresses."""
    ip = address_of(text)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip or text)


def is_local(text: str) -> bool:
    """Whether an address is of this machine."""
    ip = address_of(text)
    return ip is not None and ip.is_loopback


def admits(networks: Iterable[Network], text: str) -> bool:
    """Whether an address is in one of `networks`."""
    ip = address_of(text)
    return ip is not None and any(ip in network for network in networks)
