"""The upper rungs of the ladder: clinicians decide in the patient's place; asking after a no; the notice on paper.

Each decision has a page of its own with its words, and asks for the person's password again: a session that somebody
left open decides nothing (NIST SP 800-63B 7.2). Wrong passwords are slowed down as at the sign-in.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from clients.gateway.console.problems import FieldError, PasswordWrongError, SlowDownError
from clients.gateway.console.visit import Visit
from clients.gateway.ladder import STAFF
from clients.gateway.views import TransferView


async def attest(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/attest`: the first clinician's form, or the second's."""
    return await _ask(visit, "attest")


async def override(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/override`."""
    return await _ask(visit, "override")


async def do_attest(visit: Visit) -> str:
    """`POST /transfers/{id}/attest`."""
    await _confirm(visit)
    word = visit.form.get("word", "")
    await visit.engine.attest(visit.id, visit.form.get("reason", ""), word, visit.user)
    return f"/transfers/{visit.id}"


async def do_override(visit: Visit) -> str:
    """`POST /transfers/{id}/override`."""
    await _confirm(visit)
    await visit.engine.override(visit.id, visit.form.get("reason", ""), visit.user)
    return f"/transfers/{visit.id}"


async def again(visit: Visit) -> str:
    """`POST /transfers/{id}/again`: a new transfer of what a person has said no to."""
    view = await visit.engine.again(visit.id, visit.form.get("reason", ""), visit.user)
    return f"/transfers/{view.tid}"


async def notice(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/notice`: what the patient is told, on paper, in both languages."""
    found = await visit.engine.notice(visit.id)
    await visit.saw("notice", visit.id)
    if not visit.may("transfer.code"):
        found = msgspec.structs.replace(found, link="", pin="")
    return visit.show("notice.html", n=found)


def is_open(view: TransferView, name: str) -> bool:
    """Whether a rung is offered now."""
    return any(r.name == name and r.open for r in view.rungs)


def by_staff(view: TransferView) -> bool:
    """Whether staff decided in the patient's place."""
    return view.rung in STAFF


async def _ask(visit: Visit, name: str) -> web.Response:
    view = await visit.engine.transfer(visit.id)
    if view.role != "send" or not is_open(view, name):
        raise FieldError("This is not offered now. Open the transfer's page to see what is.", code="rung")
    await visit.saw("transfer", visit.id)
    return visit.show(
        "decide.html", t=view, kind=name, second=name == "attest" and bool(view.vouched_by),
        same=view.vouched_by == visit.user,
    )  # fmt: skip


async def _confirm(visit: Visit) -> None:
    """It is the person themself, and they mean it. Raises a `Problem`."""
    if visit.form.get("sure") != "yes":
        raise FieldError(
            "Tick the box to say that you decide this. Go back and do so, or leave it.", code="sure"
        )
    console, name, address = visit.console, visit.user, visit.request.remote or ""
    if wait := console.throttle.wait(name, address):
        raise SlowDownError(
            f"There were too many tries. Wait {wait} seconds, then try again.", retry_after=wait
        )
    console.throttle.count(name, address)
    if not await console.staff.role_of(name, visit.form.get("password", "")):
        await console.trail.did(name, "confirm-refused", visit.id, f"from {address}")
        raise PasswordWrongError(
            "That is not your password, and nothing was decided. Go back and type it again.", code="confirm"
        )
    console.throttle.right(name, address)
