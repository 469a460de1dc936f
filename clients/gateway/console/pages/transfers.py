"""The two lists of transfers: what was sent from here, and what comes in."""

from __future__ import annotations

from aiohttp import web

from clients.gateway.console.visit import Visit
from clients.gateway.console.words import OPEN
from clients.gateway.views import TransferView

SHOWN = 60


async def sent(visit: Visit) -> web.Response:
    """`GET /sent`."""
    return await _list(visit, "send", "sent.html")


async def inbox(visit: Visit) -> web.Response:
    """`GET /inbox`."""
    return await _list(visit, "receive", "inbox.html")


async def _list(visit: Visit, role: str, template: str) -> web.Response:
    await visit.saw(template.partition(".")[0])
    views: list[TransferView] = await visit.engine.transfers(role, SHOWN)
    added: dict[str, list[TransferView]] = {}
    ended = [t for t in views if t.state not in OPEN]
    for t in reversed(views):
        if t.kind == "add":
            added.setdefault(t.before, []).append(t)
    shown = {t.tid for t in views}
    return visit.show(
        template,
        under_way=[t for t in views if t.state in OPEN],
        ended=[t for t in ended if t.kind != "add" or t.before not in shown],
        added=added,
    )
