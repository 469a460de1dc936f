"""One transfer, as the desk of the sender or the inbox of the receiver sees it; stop it, divert it, re-open it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from clients.gateway.console.pages.door import can_switch
from clients.gateway.console.pages.identity import can_correct
from clients.gateway.console.pages.ladder import by_staff
from clients.gateway.console.problems import FieldError, NotAllowedError
from clients.gateway.console.visit import Visit
from clients.gateway.console.words import OPEN
from clients.gateway.sending.notes import ASKERS
from clients.gateway.views import TransferView

ENDED_THERE = ("COMPLETE", "PARTIAL", "DIVERTED")
"""Ends after which a destination has something, this one or the one that took its place."""
SHOWN = 20
"""Additions on the page of their transfer, the newest of them."""


async def show(visit: Visit) -> web.Response:
    """`GET /transfers/{id}`: state, code, progress, what arrived and what is missing."""
    view = await _read(visit)
    additions = [await visit.engine.transfer(tid) for tid in view.additions[-SHOWN:]]
    return visit.show(
        "transfer.html", t=view, additions=additions, by_staff=by_staff(view),
        can_reopen=can_reopen(view), can_stop=can_stop(view), can_correct=can_correct(view),
        can_divert=can_divert(view), can_pass_on=can_pass_on(view),
        can_switch=can_switch(view),
    )  # fmt: skip


async def confirm_stop(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/stop`: asks before anything is stopped."""
    view = await _read(visit)
    if not can_stop(view):
        raise FieldError(
            "This transfer cannot be stopped any more. Open its page to see how it ended.", code="state"
        )
    return visit.show("stop.html", t=view)


async def stop(visit: Visit) -> str:
    """`POST /transfers/{id}/stop`."""
    await visit.engine.cancel(visit.id, visit.user)
    return f"/transfers/{visit.id}"


async def confirm_stop_asked(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/stop-asked`: who asked to stop sharing, and what that does now."""
    view = await _read(visit)
    if not can_pass_on(view):
        raise FieldError(
            "Nothing of this transfer is shared, so there is nothing to stop. Open its page to see how it ended.",
            code="state",
        )
    return visit.show("stop_asked.html", t=view, askers=ASKERS, open=can_stop(view))


async def stop_asked(visit: Visit) -> str:
    """`POST /transfers/{id}/stop-asked`."""
    form = visit.form
    await visit.engine.stop_asked(visit.id, form.get("asker", ""), form.get("reason", ""), visit.user)
    return f"/transfers/{visit.id}"


async def choose_divert(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/divert`: the other hospitals, those that the question names first."""
    view = await _read(visit)
    if not can_divert(view):
        raise FieldError(
            "This transfer cannot be diverted. Open its page to see where it stands.", code="state"
        )
    others = [p for p in await visit.engine.peers() if "receive" in p.roles and p.name != view.peer]
    others.sort(key=lambda p: (p.name not in view.alternates, not p.reachable, p.name))
    return visit.show("divert.html", t=view, peers=others)


async def divert(visit: Visit) -> str:
    """`POST /transfers/{id}/divert`: leads to the transfer that takes this one's place."""
    to = visit.form.get("to", "")
    if not any(p.site == to for p in await visit.engine.peers()):
        raise FieldError("No hospital was chosen. Go back and choose one of the list.", code="destination")
    view = await visit.engine.divert(visit.id, to, visit.user)
    return f"/transfers/{view.tid}"


async def more(visit: Visit) -> str:
    """`POST /transfers/{id}/more`: fetches what the PACS has of its study by now; what is new follows by itself."""
    view = await _read(visit)
    if view.role != "send":
        raise FieldError("Only the hospital that sends can send more. Call it.", code="state")
    study = await visit.engine.study(view.study)
    return f"/pulls/{(await visit.engine.pull(study.uid, visit.user)).id}"


async def close_additions(visit: Visit) -> str:
    """`POST /transfers/{id}/close-additions`."""
    await visit.engine.close_additions(visit.id, visit.user)
    return f"/transfers/{visit.id}"


async def reopen(visit: Visit) -> str:
    """`POST /transfers/{id}/reopen`: new QR, new PIN, new tries; perhaps as a new transfer."""
    view = await visit.engine.reopen(visit.id, visit.user)
    return f"/transfers/{view.tid}"


def can_stop(view: TransferView) -> bool:
    """Only the sender stops, and only what has not ended."""
    return view.role == "send" and view.state in OPEN


def can_pass_on(view: TransferView) -> bool:
    """A person's wish to stop: what is open, or has ended with something at a destination, and was not told yet."""
    ended = view.state in ENDED_THERE and not view.stop_asked and view.kind != "add"
    return can_stop(view) or (view.role == "send" and ended)


def can_divert(view: TransferView) -> bool:
    """What is on its way from here, save an addition, which goes where its transfer went."""
    return can_stop(view) and view.kind != "add"


def can_reopen(view: TransferView) -> bool:
    """A code that is locked or lost may be replaced, and so may one that ran out before anybody decided."""
    waiting = view.state == "OFFERED" or (view.state == "EXPIRED" and not view.decided_at)
    return view.role == "send" and waiting and view.reopens_left > 0


async def _read(visit: Visit) -> TransferView:
    """The transfer, without its QR and PIN for those who may not see them. Audited."""
    view = await visit.engine.transfer(visit.id)
    if not visit.may("sent.read" if view.role == "send" else "inbox.read"):
        await visit.refused("inbox.read")
        raise NotAllowedError
    await visit.saw("transfer", visit.id)
    if not visit.may("transfer.code"):
        view = msgspec.structs.replace(view, link="", pin="", number="")
    return view
