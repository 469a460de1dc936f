"""One study, and where to send it."""

from __future__ import annotations

from aiohttp import web

from clients.gateway.console.pages.report import SAID
from clients.gateway.console.problems import FieldError
from clients.gateway.console.visit import Visit
from clients.gateway.console.words import OPEN, REASONS

RECENT = 200
HOURS = (0, 2, 8, 24, 72, 168)
"""For how long late images may follow, as the form offers it."""


async def show(visit: Visit) -> web.Response:
    """`GET /studies/{id}`: its series and its transfers; for who may send, the form."""
    await visit.saw("study", visit.id)
    study = await visit.engine.study(visit.id)
    of_study = set(study.transfers)
    sent = [t for t in await visit.engine.transfers("send", RECENT) if t.tid in of_study]
    peers = [p for p in await visit.engine.peers() if "receive" in p.roles]
    return visit.show(
        "study.html", study=study, transfers=sent, under_way=[t for t in sent if t.state in OPEN and t.kind != "add"],
        said=SAID.get(visit.request.query.get("report", ""), ""),
        peers=sorted(peers, key=lambda p: (not p.reachable, p.name)), reasons=REASONS,
        hours=sorted({*HOURS, visit.engine.add_seconds / 3600}), default=visit.engine.add_seconds / 3600,
    )  # fmt: skip


async def send(visit: Visit) -> str:
    """`POST /studies/{id}/send`: makes the offer and leads to its QR."""
    to, reason = visit.form.get("to", ""), visit.form.get("reason", "transfer")
    if not any(p.site == to for p in await visit.engine.peers()):
        raise FieldError(
            "No trauma center was chosen. Go back and choose one of the list.", code="destination"
        )
    if reason not in REASONS:
        raise FieldError("No reason was chosen. Go back and choose one of the list.", code="reason")
    add = visit.form.get("add", str(visit.engine.add_seconds))
    if not add.isascii() or not add.isdigit() or len(add) > 6:
        raise FieldError(
            "No time for late images was chosen. Go back and choose one of the list.", code="add"
        )
    alt = [site for name, site in visit.form.items() if name.startswith("alt-") and site != to]
    view = await visit.engine.send(visit.id, to, reason, visit.user, alt, int(add))
    return f"/transfers/{view.tid}"


async def close(visit: Visit) -> str:
    """`POST /studies/{id}/close`: no more images are waited for."""
    await visit.engine.close_study(visit.id, visit.user)
    return f"/studies/{visit.id}"
