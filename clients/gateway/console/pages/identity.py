"""Who the patient of a received study is: look in the worklist or type the number, compare, confirm.

Three pages, each a plain form. What has to be confirmed is the engine's to say (`Engine.compare`), and the engine
refuses less than that; a page only asks for it. Nothing that names a patient is in an address.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from clients.gateway.console.drafts import Draft
from clients.gateway.console.problems import FieldError
from clients.gateway.console.visit import Visit, see_other
from clients.gateway.views import TransferView
from clients.gateway.whose import Candidate, IdentityView
from transfer.states import TERMINAL

_TICK = "confirm-"


async def show(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/identity[?d=ID]`: the sender's patient, and the ways to say who it is here."""
    view, whose = await _read(visit)
    number = visit.request.query.get("d", "")
    draft = visit.console.drafts.get(visit.key, visit.id, number) if number else None
    return visit.show(
        "identity.html", t=view, whose=whose, later=can_correct(view), draft=draft, number=number,
        open=can_say(view), forgotten=bool(number and draft is None), nothing=Draft(),
    )  # fmt: skip


async def compare(visit: Visit) -> web.Response:
    """`GET /transfers/{id}/compare?d=ID`: both sides, and what has to be confirmed; or back, if that is gone."""
    view, whose = await _read(visit)
    number = visit.request.query.get("d", "")
    draft = visit.console.drafts.get(visit.key, visit.id, number)
    if draft is None or draft.candidate is None:
        return see_other(f"/transfers/{visit.id}/identity?d=gone")
    sides = await visit.engine.compare(visit.id, draft.candidate)
    return visit.show(
        "compare.html", t=view, whose=whose, sides=sides, number=number, later=can_correct(view),
        candidate=draft.candidate,
    )  # fmt: skip


async def search(visit: Visit) -> str:
    """`POST /transfers/{id}/worklist`: asks the hospital's worklist."""
    asked = (_field(visit, "mrn"), _field(visit, "accession"), _field(visit, "name"))
    found = await visit.engine.worklist(*asked)
    draft = Draft(asked=asked, found=found)
    return f"/transfers/{visit.id}/identity?d={visit.console.drafts.keep(visit.key, visit.id, draft)}"


async def take(visit: Visit) -> str:
    """`POST /transfers/{id}/candidate`: one of the worklist's answers, or what was typed; `same`: of the number that
    the images are under, which is not typed again.
    """
    candidate = _chosen(visit) if "n" in visit.form else _typed(visit)
    if "same" in visit.form:
        whose = await visit.engine.identity(visit.id)
        candidate = msgspec.structs.replace(candidate, patient_id=whose.now_id, issuer=whose.now_issuer)
    await visit.engine.compare(visit.id, candidate)  # a number that cannot be one is refused here
    draft = Draft(candidate=candidate)
    return f"/transfers/{visit.id}/compare?d={visit.console.drafts.keep(visit.key, visit.id, draft)}"


async def confirm(visit: Visit) -> str:
    """`POST /transfers/{id}/identify`: it is this patient."""
    view = await visit.engine.transfer(visit.id)
    draft = visit.console.drafts.get(visit.key, visit.id, visit.form.get("d", ""))
    candidate = draft.candidate if draft is not None else None
    if candidate is None:
        raise FieldError(
            "What was found or typed is no longer kept. Open the transfer and say once more who it is.",
            code="draft",
        )
    sides = await visit.engine.compare(visit.id, candidate)
    if sides.again and _field(visit, "again") != candidate.patient_id.strip():
        raise FieldError(
            "The number that was typed the second time is another one. Go back, look at the wristband or the order,"
            " and type it again.",
            code="again",
        )
    confirmed = [name.removeprefix(_TICK) for name in visit.form if name.startswith(_TICK)]
    if can_correct(view):
        await visit.engine.correct(visit.id, candidate, confirmed, visit.user)
    else:
        whole = Candidate(
            patient_id=candidate.patient_id, name=candidate.name, birth_date=candidate.birth_date, sex=candidate.sex,
            issuer=candidate.issuer, source=candidate.source, whole="whole" in visit.form,
        )  # fmt: skip
        await visit.engine.identify(visit.id, whole, confirmed, visit.user)
    return f"/transfers/{visit.id}"


async def unknown(visit: Visit) -> str:
    """`POST /transfers/{id}/unknown`: nobody knows yet; the images go under our number of the sender's patient."""
    await visit.engine.identify(visit.id, None, [], visit.user)
    return f"/transfers/{visit.id}"


def can_say(view: TransferView) -> bool:
    """Whether staff are asked, or may say it afterwards."""
    return view.identity == "waits" or can_correct(view)


def can_correct(view: TransferView) -> bool:
    """Whether what was filed under a number of ours may turn out to be another patient's, or its patient be named."""
    return (
        view.role == "receive"
        and view.state in TERMINAL
        and view.identity in ("prefix", "match", "corrected")
    )


async def _read(visit: Visit) -> tuple[TransferView, IdentityView]:
    """The transfer and its patient. Audited."""
    view = await visit.engine.transfer(visit.id)
    whose = await visit.engine.identity(visit.id)
    await visit.saw("identity", visit.id)
    return view, whose


def _chosen(visit: Visit) -> Candidate:
    """The answer of the worklist that the button belongs to."""
    draft = visit.console.drafts.get(visit.key, visit.id, visit.form.get("d", ""))
    n = visit.form["n"]
    if draft is None or draft.found is None or not n.isdecimal() or int(n[:4]) >= len(draft.found.items):
        raise FieldError("That search is no longer kept. Go back and search once more.", code="draft")
    item = draft.found.items[int(n[:4])]
    return Candidate(
        patient_id=item.patient_id, issuer=item.issuer, name=item.name, birth_date=item.birth_date, sex=item.sex,
        source="worklist",
    )  # fmt: skip


def _typed(visit: Visit) -> Candidate:
    return Candidate(
        patient_id=_field(visit, "mrn"), name=_field(visit, "name"), birth_date=_field(visit, "born"),
        sex=_field(visit, "sex"),
    )  # fmt: skip


def _field(visit: Visit, name: str) -> str:
    return visit.form.get(name, "").strip(" ")[:200]
