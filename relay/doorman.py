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

    def __init__(self, server: web.Server, most: int, each: int | None, closed: asyncio.Event) -> None:
        self._server, self._most, self._each, self._closed = server, most, each, closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once; afterwards `server`'s own protocol speaks."""
        transport = cast(asyncio.Transport, transport)
        if self._closed.is_set() or not self._has_room(transport):
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


async def close_door(listening: asyncio.Server, closed: asyncio.Event) -> None:
    """Lets nobody more in and forgets nobody who is half in: each is served already or hung up on.

    asyncio makes a connection's transport one turn of the loop after it has accepted it, and drops the socket open
    where the server was closed in between; aiohttp closes only whom it knows.
    """
    closed.set()
    for sock in listening.sockets:
        asyncio.get_running_loop().remove_reader(sock.fileno())
    await asyncio.sleep(0)
    listening.close()


def _address(peername: object) -> str:
    return address_key(str(peername[0])) if isinstance(peername, tuple) else ""
