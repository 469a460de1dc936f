"""Who is calling: the signed requests of sites (protocol s. 12; `transfer.requests`).

The checks, in this order; the first that fails is the answer, and only the last one writes anything:

- the header is there and has the agreed form;
- the site that it names is enrolled (strangers cost no signature);
- the signature; that it was made for this relay (`aud`), method, path and query as sent; the clock (900 s);
- the site's rate; then the body is read, at most as much as this call allows, and has the signed hash;
- the request was not made before (`jti`, kept for half an hour in the database).

From there on a call that changes something is carried through even if its client goes away: it is done
whole, and whoever waits for it is woken.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from aiohttp import web

from relay.addresses import Addresses
from relay.answers import Handler
from relay.bodies import Bodies, Body
from relay.clock import Clock
from relay.errors import RelayError, ReplayedError, UnknownSiteError
from relay.limits import Buckets
from relay.metastore import MetaStore
from transfer.errors import TransferError
from transfer.ids import SiteId
from transfer.messages import Request, peek
from transfer.requests import HEADER, check, check_body

TRUST = 5
"""Seconds for which a site that was found enrolled needs no new look."""


class Call:
    """One call of a known site: what the handlers work with."""

    __slots__ = ("body", "now", "request", "site")

    def __init__(self, request: web.Request, site: SiteId, body: Body, now: int) -> None:
        self.request, self.site, self.body, self.now = request, site, body, now


CallHandler = Callable[[Call], Awaitable[web.StreamResponse]]


class Guard:
    """Lets only signed calls through. `origins` are the names by which this relay is called."""

    def __init__(
        self, meta: MetaStore, bodies: Bodies, clock: Clock, origins: list[str],
        *, sites: Buckets, strangers: Buckets, addresses: Addresses,
    ) -> None:  # fmt: skip
        self._meta, self._bodies, self._clock, self._origins = meta, bodies, clock, origins
        self._sites, self._strangers, self._addresses = sites, strangers, addresses
        self._enrolled: OrderedDict[SiteId, int] = OrderedDict()

    def signed(self, handler: CallHandler, cap: int = 0) -> Handler:
        """An HTTP handler that calls `handler` for a signed request with a body of at most `cap` bytes."""

        async def handle(request: web.Request) -> web.StreamResponse:
            signed = await self._identify(request)
            self._sites.take(signed.site)
            async with self._bodies.read(request, cap, signed.site) as body:
                check_body(signed, body.digest)
                now = self._clock()
                if not await self._meta.remember(signed.site, signed.jti, now):
                    raise ReplayedError
                return await handler(Call(request, signed.site, body, now))

        return handle

    async def _identify(self, request: web.Request) -> Request:
        address = self._addresses.of(request)
        try:
            return await self._verify(request, address)
        except (RelayError, TransferError):
            self._strangers.take(address)
            raise

    async def _verify(self, request: web.Request, address: str) -> Request:
        values = request.headers.getall(HEADER, [])
        if len(values) != 1:
            raise UnknownSiteError
        claim = peek(Request, values[0])
        if not await self._is_enrolled(claim.site, address):
            raise UnknownSiteError
        aud = claim.aud if claim.aud in self._origins else self._origins[0]
        method, path = request.method, request.raw_path
        return check(values[0], site=claim.site, aud=aud, method=method, path=path, now=self._clock())

    async def _is_enrolled(self, site: SiteId, address: str) -> bool:
        """An address that failed too often costs no look into the database; sites that are known go on from it."""
        now = self._clock()
        if 0 <= now - self._enrolled.get(site, -TRUST - 1) <= TRUST:
            return True
        self._strangers.check(address)
        if await self._meta.site(site) is None:
            return False
        self._enrolled[site] = now
        self._enrolled.move_to_end(site)
        if len(self._enrolled) > 10_000:
            self._enrolled.popitem(last=False)
        return True


class Carrier:
    """Carries through what was begun, even if the one who asked goes away."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[web.StreamResponse]] = set()

    def through(self, handler: Handler) -> Handler:
        """`handler`, not cancelled with its client's connection."""

        async def handle(request: web.Request) -> web.StreamResponse:
            task: asyncio.Task[web.StreamResponse] = asyncio.ensure_future(handler(request))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
            try:
                return await asyncio.shield(task)
            finally:
                del task  # else its error holds this frame, and this frame its error, with all that both saw

        return handle

    def _finished(self, task: asyncio.Task[web.StreamResponse]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, where nobody waits for it any more

    async def close(self, grace: float) -> None:
        """Waits for all of it, and after `grace` seconds gives up what is not done: it was never answered."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
