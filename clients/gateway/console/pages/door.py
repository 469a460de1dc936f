"""Where somebody may answer: another door for a transfer that waits, the field for a scanner, the poster."""

from __future__ import annotations

from aiohttp import web

from clients.gateway.console.problems import FieldError
from clients.gateway.console.visit import Visit
from clients.gateway.errors import GatewayError
from clients.gateway.sending.scans import KINDS
from clients.gateway.views import TransferView
from transfer.links import make_address


async def scan(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/scan[?why=CODE]`: a focused field that a scanner types into; why the last code was none."""
    view = await visit.engine.transfer(visit.id)
    if not can_switch(view):
        raise FieldError(
            "This transfer waits for nobody's answer. Open its page to see where it stands.", code="state"
        )
    problem = KINDS.get(visit.request.query.get("why", ""))
    return visit.show(
        "scan.html", t=view, address=make_address(visit.engine.page, "scan"), problem=problem and problem()
    )


async def switch(visit: Visit) -> str:
    """`POST /transfers/{id}/door`: another door, or a new code at the same one."""
    try:
        await visit.engine.door(
            visit.id, visit.form.get("door", ""), visit.form.get("scanned", ""), visit.user
        )
    except GatewayError as why:
        if why.code in KINDS:  # the scanner is in their hand: let them scan again
            return f"/transfers/{visit.id}/scan?why={why.code}"
        raise
    return f"/transfers/{visit.id}"


async def poster(visit: Visit) -> web.Response:
    """`GET /poster`: the short addresses and plain words, to be printed."""
    page = visit.engine.page
    return visit.show("poster.html", scan=make_address(page, "scan"), voice=make_address(page, "voice"))


def can_switch(view: TransferView) -> bool:
    """A transfer that waits for an answer and still has a try for it."""
    return view.role == "send" and view.state == "OFFERED" and view.kind != "add" and not view.locked
