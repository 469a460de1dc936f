"""`incoming show|proof|worklist|identify|correct`: whose images a received study is and what the PACS has of them, for
terminals and scripts.

The same questions as at the inbox, and the same answers are asked for: what has to be confirmed is printed beside both
patients, and each line is confirmed for itself: by a person who is asked, or by `--confirm KEY` for each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from clients.commands.gateway import DIR
from clients.commands.lazy import LazyGroup, Place
from clients.commands.output import Speaker, json_option, runs
from clients.gateway.attached import attached
from clients.gateway.control import actor
from clients.gateway.errors import GatewayError
from clients.gateway.views import Engine
from clients.gateway.whose import Candidate, ComparisonView, IdentityView, SenderView, WorklistItem

F = TypeVar("F", bound=Callable[..., Any])
INCOMING = {
    "show": Place(
        "clients.commands.incoming:show", "Say whose images TRANSFER is, as both hospitals know it."
    ),
    "proof": Place(
        "clients.commands.incoming:proof", "Say how sure it is that the PACS has TRANSFER's images."
    ),
    "worklist": Place("clients.commands.incoming:worklist", "Search this hospital's worklist for a patient."),
    "identify": Place("clients.commands.incoming:identify", "Say who it is, before anything is stored."),
    "correct": Place(
        "clients.commands.incoming:correct", "Say who it is, after it was stored under our number."
    ),
}
_LABELS = {"name": "name", "birth_date": "date of birth", "sex": "sex", "number": "patient number"}


@click.group(
    cls=LazyGroup,
    places=INCOMING,
    epilog="Example: trauma-transfer incoming show lakeside 9f86d081884c7d659a2feaa0c55ad015",
)
def incoming() -> None:
    """Whose images a received study is."""


@click.command(epilog="Example: trauma-transfer incoming show lakeside 9f86d081884c7d659a2feaa0c55ad015")
@DIR
@click.argument("transfer")
@json_option
@runs
async def show(folder: Path, transfer: str, speaker: Speaker) -> int:
    """Say whose images TRANSFER is."""
    async with attached(folder) as engine:
        view = await engine.identity(transfer)
    speaker.value(
        view, "\n".join([view.sentence, *(c.sentence for c in view.changes[:-1]), *_sender(view.sender)])
    )
    return 0


@click.command(epilog="Example: trauma-transfer incoming proof lakeside 9f86d081884c7d659a2feaa0c55ad015")
@DIR
@click.argument("transfer")
@json_option
@runs
async def proof(folder: Path, transfer: str, speaker: Speaker) -> int:
    """Say what the PACS has answered for, and list the images for which it has not, or that are missing.

    commit: it took charge of every image; find: it lists them; store: it answered success. Ends with 3 where images
    are missing.
    """
    async with attached(folder) as engine:
        view = await engine.transfer(transfer)
    lines = [f"image {x.number}, {x.series}: {x.why}  {x.uid}" for x in view.lacking]
    speaker.value(
        {"state": view.state, "proof": view.proof, "gaps": view.gaps, "lacking": view.lacking},
        "\n".join([f"{view.state}, proof: {view.proof or 'none yet'}. {view.sentence}", *lines]),
    )
    return 3 if view.gaps else 0


def _sender(s: SenderView | None) -> list[str]:
    if s is None:
        return []
    number = f"{s.patient_id} ({s.issuer})" if s.issuer else s.patient_id
    facts = [
        s.name or "no name",
        s.birth_date,
        s.sex,
        number,
        s.accession and f"accession {s.accession}",
        s.what,
    ]
    return [f"The sender says: {', '.join(x for x in facts if x)}"]


@click.command(epilog="Example: trauma-transfer incoming worklist lakeside --mrn 4711")
@DIR
@click.option("--mrn", default="", help="This hospital's number of the patient.")
@click.option("--accession", default="", help="The accession number of the order.")
@click.option("--name", default="", help="The beginning of the name: FAMILY, GIVEN.")
@json_option
@runs
async def worklist(folder: Path, mrn: str, accession: str, name: str, speaker: Speaker) -> int:
    """Search this hospital's worklist."""
    async with attached(folder) as engine:
        found = await engine.worklist(mrn, accession, name)
    lines = [_line(item) for item in found.items] or ["Nobody was found."]
    if found.dropped:
        lines.append(f"{found.dropped} for other patients than asked for, or of no use, are not shown.")
    if found.more:
        lines.append("There are more. Search for less.")
    speaker.value(found, "\n".join(lines))
    return 0


def _line(item: WorklistItem) -> str:
    said = (item.patient_id, item.issuer, item.shown_name, item.birth_date, item.sex, item.accession, item.what,
            item.scheduled, "" if item.fits else "(another name than asked for)")  # fmt: skip
    return "  ".join(x for x in said if x)


def _patient(command: F) -> F:
    """The options that name a patient of this hospital."""
    for option in reversed((
        click.option("--mrn", default="", help="This hospital's number of the patient."),
        click.option("--name", default="", help="Name here, for the comparison: FAMILY, GIVEN."),
        click.option("--birth-date", default="", help="Date of birth here, for the comparison: 1984-03-12."),
        click.option("--sex", default="", help="Sex here, for the comparison: M, F or O."),
        click.option("--confirm", "confirmed", multiple=True, metavar="KEY", help="Confirm this line: no question."),
    )):  # fmt: skip
        command = option(command)
    return command


@click.command(
    epilog="Example: trauma-transfer incoming identify lakeside 9f86d081884c7d659a2feaa0c55ad015 --mrn 4711"
)
@DIR
@click.argument("transfer")
@_patient
@click.option("--whole", is_flag=True, help="Write name, date of birth and sex into the images too.")
@click.option(
    "--prefix", is_flag=True, help="Nobody knows yet: store under our number of the sender's patient."
)
@json_option
@runs
async def identify(
    folder: Path, transfer: str, mrn: str, name: str, birth_date: str, sex: str, confirmed: tuple[str, ...],
    whole: bool, prefix: bool, speaker: Speaker,
) -> int:  # fmt: skip
    """Say who the patient of TRANSFER is, before anything is stored."""
    if prefix == bool(mrn):
        raise click.UsageError("Give either --mrn or --prefix.")
    async with attached(folder) as engine:
        if prefix:
            view = await engine.identify(transfer, None, [], actor())
        else:
            candidate = Candidate(patient_id=mrn, name=name, birth_date=birth_date, sex=sex, whole=whole)
            keys = await _confirm(engine, transfer, candidate, confirmed)
            view = await engine.identify(transfer, candidate, keys, actor())
    return _said(speaker, view)


@click.command(
    epilog="Example: trauma-transfer incoming correct lakeside 9f86d081884c7d659a2feaa0c55ad015 --mrn 4711"
)
@DIR
@click.argument("transfer")
@_patient
@json_option
@runs
async def correct(
    folder: Path, transfer: str, mrn: str, name: str, birth_date: str, sex: str, confirmed: tuple[str, ...],
    speaker: Speaker,
) -> int:  # fmt: skip
    """Say who the patient of TRANSFER is, after it was stored. Nothing is sent again.

    Without --mrn the number stays, and the hospital's systems learn who is behind it: give what is known.
    """
    if not (mrn or name or birth_date or sex):
        raise click.UsageError("Give --mrn, or what is known of the patient: --name, --birth-date, --sex.")
    candidate = Candidate(patient_id=mrn, name=name, birth_date=birth_date, sex=sex)
    async with attached(folder) as engine:
        if not mrn:
            whose = await engine.identity(transfer)
            candidate = msgspec.structs.replace(candidate, patient_id=whose.now_id, issuer=whose.now_issuer)
        keys = await _confirm(engine, transfer, candidate, confirmed)
        view = await engine.correct(transfer, candidate, keys, actor())
    return _said(speaker, view)


def _said(speaker: Speaker, view: IdentityView) -> int:
    speaker.value(view, view.sentence)
    return 0


async def _confirm(engine: Engine, transfer: str, candidate: Candidate, given: tuple[str, ...]) -> list[str]:
    """The keys that are confirmed: those given, and those that the person at the terminal says yes to."""
    sides = await engine.compare(transfer, candidate)
    missing = [c for c in sides.confirm if c.key not in given]
    if not missing:
        return list(given)
    click.echo(_beside(sides), err=True)
    if not sys.stdin.isatty():
        raise GatewayError(
            "Nothing was done: compare both, and confirm each line with --confirm KEY.", code="unconfirmed"
        )
    said = []
    for line in missing:
        if not click.confirm(line.sentence, err=True):
            raise GatewayError("It was not confirmed, so nothing was done.", code="unconfirmed")
        said.append(line.key)
    return [*given, *said]


def _beside(sides: ComparisonView) -> str:
    """Both patients, and what has to be confirmed."""
    rows = [
        f"{_LABELS[r.key]:<15} {r.sender or '-':<30} {r.here or '-':<30} {'DIFFERS' if r.kind == 'differs' else ''}"
        for r in sides.rows
    ]
    return "\n".join([*(row.rstrip() for row in rows), *(f"{c.key}: {c.sentence}" for c in sides.confirm)])
