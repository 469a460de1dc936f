"""The paired sites and their fingerprints, beside this site's own."""

from __future__ import annotations

from aiohttp import web

from clients.gateway.console.visit import Visit
from transfer.ids import SiteId
from transfer.sites import fingerprint


async def show(visit: Visit) -> web.Response:
    """`GET /sites`."""
    peers = sorted(await visit.engine.peers(), key=lambda p: p.name.casefold())
    return visit.show("sites.html", peers=peers, own=fingerprint(SiteId.parse(visit.engine.site)))
