"""Whether everything this gateway needs answers: relay, clock, PACS, its own DICOM listener."""

from __future__ import annotations

import asyncio

from aiohttp import web

from clients.gateway.console.problems import SlowError
from clients.gateway.console.visit import Visit

LONGEST = 20.0


async def show(visit: Visit) -> web.Response:
    """`GET /status`: asks all of them now."""
    try:
        async with asyncio.timeout(LONGEST):
            checks = await visit.engine.checks()
    except TimeoutError:
        raise SlowError(
            "The checks took longer than 20 seconds. Something on the network does not answer: try again, "
            "then call your PACS administrator."
        ) from None
    return visit.show("status.html", checks=checks)
