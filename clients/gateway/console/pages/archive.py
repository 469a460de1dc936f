"""Studies of this hospital's own PACS: search it, fetch one, watch it come; and offers that a rule prepared."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from clients.gateway.console.findings import Findings
from clients.gateway.console.problems import FieldError
from clients.gateway.console.visit import Visit
from clients.gateway.errors import GatewayError
from clients.gateway.pulled import OPEN, PullView

FINDINGS = web.AppKey("findings", Findings)
FIELDS: Final = ("accession", "patient_id", "name", "date", "modality", "today")
LABELS: Final = {
    "WAITING": ("Waiting", "wait"),
    "RUNNING": ("Coming", "busy"),
    "COMPLETE": ("All here", "good"),
    "INCOMPLETE": ("Incomplete", "bad"),
    "UNVERIFIED": ("Not checked", "wait"),
    "FAILED": ("Failed", "bad"),
    "STOPPED": ("Stopped", "ended"),
}
"""How a pull's state is called, and its colour."""
SHOWN = 10
MAX_LENGTH = 100


async def show(visit: Visit) -> web.Response:
    """`GET /archive[?s=ID]`: the form, what a search of this session found, and what was fetched lately."""
    await visit.saw("archive")
    number = visit.request.query.get("s", "")
    finding = visit.request.app[FINDINGS].get(visit.key, number) if number else None
    return visit.show(
        "archive.html",
        terms=dict.fromkeys(FIELDS, "") | (finding.terms if finding is not None else {}),
        found=finding.found if finding is not None else None,
        number=number,
        forgotten=bool(number and finding is None),
        pulls=await visit.engine.pulls(SHOWN),
        label=label,
    )


async def find(visit: Visit) -> str:
    """`POST /archive`: asks the PACS, keeps what it says here, and leads to it."""
    terms = {name: visit.form.get(name, "").strip()[:MAX_LENGTH] for name in FIELDS}
    try:
        found = await visit.engine.find_studies(terms, visit.user)
    except GatewayError as why:
        if why.code != "search":
            raise
        raise FieldError(why.sentence, code=why.code) from None
    return f"/archive?s={visit.request.app[FINDINGS].keep(visit.key, terms, found)}"


async def get(visit: Visit) -> str:
    """`POST /archive/get`: fetches a study of a finding and leads to its progress."""
    match = visit.request.app[FINDINGS].match(visit.key, visit.form.get("s", ""), visit.form.get("n", ""))
    if match is None:
        raise FieldError("That search is no longer kept. Search again and choose the study.", code="search")
    return f"/pulls/{(await visit.engine.pull(match.uid, visit.user)).id}"


async def pull(visit: Visit) -> web.Response:
    """`GET /pulls/{id}`: how far it is, or how it ended."""
    view = await visit.engine.pull_view(visit.id)
    await visit.saw("pull", visit.id)
    return visit.show("pull.html", p=view, label=label, is_open=view.state in OPEN)


async def stop(visit: Visit) -> str:
    """`POST /pulls/{id}/stop`."""
    await visit.engine.stop_pull(visit.id, visit.user)
    return f"/pulls/{visit.id}"


async def offer(visit: Visit) -> str:
    """`POST /studies/{id}/offer`: makes the offer that a rule prepared, and leads to its QR."""
    return f"/transfers/{await visit.engine.offer_prepared(visit.id, visit.user)}"


async def dismiss(visit: Visit) -> str:
    """`POST /studies/{id}/dismiss`: what a rule prepared is not wanted."""
    await visit.engine.dismiss_prepared(visit.id, visit.user)
    return "/desk"


def label(view: PullView) -> tuple[str, str]:
    """A pull's state as people read it, and its colour."""
    return LABELS.get(view.state, (view.state, "ended"))
