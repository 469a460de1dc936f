"""`pull` and `studies`: a study is fetched from the hospital's own PACS; what is here, and whether it is all of it."""

from __future__ import annotations

from pathlib import Path

import click

from clients.commands.gateway import DIR
from clients.commands.output import Speaker, json_option, runs
from clients.gateway.attached import attached
from clients.gateway.control import actor
from clients.gateway.errors import BusyError, GatewayError
from clients.gateway.pulled import OPEN, MatchView, PullView
from clients.gateway.views import Engine, StudyView

EXIT = {"COMPLETE": 0, "INCOMPLETE": 3, "UNVERIFIED": 3, "STOPPED": 6}
"""As for `send`: 3 is a study that may lack images, 1 any other failure."""
_SHOWN = 20


@click.command(epilog="Example: trauma-transfer pull valley --accession A7701")
@DIR
@click.option("--accession", default="", help="Accession number.")
@click.option("--patient-id", default="", help="The patient's number at this hospital.")
@click.option("--name", default="", help="'DOE, JANE'; with --date or --today.")
@click.option("--date", default="", help="Day of the study, YYYY-MM-DD.")
@click.option("--today", is_flag=True, help="Studies of today.")
@click.option("--modality", default="", help="CT, MR, CR; with --date or --today.")
@click.option("--study", default="", help="Study Instance UID: which, where several match.")
@json_option
@runs
async def pull(
    folder: Path,
    accession: str,
    patient_id: str,
    name: str,
    date: str,
    today: bool,
    modality: str,
    study: str,
    speaker: Speaker,
) -> int:
    """Fetch a study from this hospital's PACS: exits 0 only when every image that the PACS lists is here.

    The PACS is [source] in gateway.toml. What is here already is not fetched again.
    """
    terms = {
        "accession": accession, "patient_id": patient_id, "name": name, "date": date, "modality": modality,
        "study": study, "today": "yes" if today else "",
    }  # fmt: skip
    if not any(terms.values()):
        raise click.UsageError(
            "Give --accession, --patient-id, --name with --date, --modality with --today, or --study."
        )
    async with attached(folder) as engine:
        chosen = await _choose(engine, terms, speaker)
        view = await engine.pull(chosen.uid, actor())
        return await _follow(engine, view, speaker)


async def _choose(engine: Engine, terms: dict[str, str], speaker: Speaker) -> MatchView:
    """The one study that fits. Raises `GatewayError` where there is none, or more than one."""
    found = await engine.find_studies(terms, actor())
    if found.code:
        raise GatewayError(found.sentence, code=found.code)
    speaker.event("found", studies=len(found.matches), more=found.more)
    if len(found.matches) == 1:
        return found.matches[0]
    if not found.matches:
        raise GatewayError(found.sentence or "The PACS has no study like this.", code="pull-none")
    for match in found.matches[:_SHOWN]:
        speaker.event(
            "match", _line(match), study=match.uid, date=match.date, time=match.time, modalities=match.modalities,
            accession=match.accession, instances=match.instances,
        )  # fmt: skip
    more = f" {found.sentence}" if found.sentence else ""
    raise GatewayError(
        f"{len(found.matches)} studies fit. Say which with --study and its UID.{more}", code="pull-several"
    )


def _line(match: MatchView) -> str:
    count = f"{match.instances} images" if match.instances >= 0 else ""
    told = (
        match.date, match.time, match.modalities, match.description, match.patient_name, match.birth_date,
        match.accession, count,
    )  # fmt: skip
    return f"{match.uid}\n    " + "  ".join(filter(None, told))


async def _follow(engine: Engine, view: PullView, speaker: Speaker) -> int:
    """Until it has ended; the exit code."""
    speaker.event("pulling", pull=view.id, how=view.how)
    shown = None
    try:
        async for _ in engine.changes():
            view = await engine.pull_view(view.id)
            counts = (view.here, view.completed, view.failed, view.remaining)
            if counts != shown:
                shown = counts
                speaker.progress(
                    "fetched", "fetched", view.here, max(0, view.wanted), "images", here=view.here, of=view.wanted,
                    completed=view.completed, failed=view.failed, warned=view.warned, remaining=view.remaining,
                )  # fmt: skip
            if view.state not in OPEN:
                break
    except BusyError:
        raise BusyError("The gateway was stopped. The pull goes on when it runs again.") from None
    finally:
        speaker.close()
    for note in view.notes:
        speaker.event("note", note, sentence=note)
    for uid in view.misses:
        speaker.event("missed", uid=uid)
    speaker.event(
        view.state.lower(), f"{view.state}: {view.sentence}" + (f"\nstudy {view.study}" if view.study else ""),
        study=view.study, code=view.code, sentence=view.sentence, here=view.here, of=view.wanted,
        missing=view.missing, failed=view.failed, warned=view.warned, others=view.others, refused=view.refused,
    )  # fmt: skip
    return EXIT.get(view.state, 1)


@click.command(epilog="Example: trauma-transfer studies valley")
@DIR
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@json_option
@runs
async def studies(folder: Path, limit: int, speaker: Speaker) -> int:
    """List the studies here, newest first: how many images, whether that is all of them, and who says so."""
    async with attached(folder) as engine:
        views = await engine.studies("", limit)
    lines = [line for view in views for line in _study_lines(view)]
    speaker.value(views, "\n".join(lines) or "No study is here yet.")
    return 0


def _study_lines(view: StudyView) -> list[str]:
    told = (view.date, view.time, view.modalities, view.description, view.patient_name, view.birth_date)
    lines = [
        f"{view.id}  {'  '.join(filter(None, told))}",
        f"    {view.instances} images, {view.completeness}",
    ]
    if view.refused:
        lines.append(f"    {view.refused} refused")
    if view.prepared:
        lines.append(f"    prepared for {view.prepared} ({view.prepared_by}); nothing is offered yet")
    return lines
