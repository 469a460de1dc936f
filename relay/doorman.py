"""Bounds connections before a byte of them is read: all of them, and those of one address.

The limits are generous, since a hospital shares one address; they only keep a single stranger from taking
every place. Requests that come slowly are ended by aiohttp's keep-alive clock, bodies by `relay.bodies`.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import web

from relay.limits import address_key


class Doorman(asyncio.Protocol):
    """Stands at a new connection until it is either handed to `server` or closed."""

    def __init__(self, server: web.Server, most: int, each: int | None) -> None:
        self._server, self._most, self._each = server, most, each

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once; afterwards `server`'s own protocol speaks."""
        transport = cast(asyncio.Transport, transport)
        if not self._has_room(transport):
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)

    def _has_room(self, transport: asyncio.Transport) -> bool:
        connections = self._server.connections
        if len(connections) >= self._most:
            return False
        if self._each is None or len(connections) < self._each:
            return True
        own = _address(transport.get_extra_info("peername"))
        return sum(_address(other.peername) == own for other in connections) < self._each


def _address(peername: object) -> str:
    return address_key(str(peername[0])) if isinstance(peername, tuple) else ""
