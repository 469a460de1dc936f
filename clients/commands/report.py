"""`report`: a report is added to a study that is here."""

from __future__ import annotations

from pathlib import Path

import click

from clients.commands.gateway import DIR
from clients.commands.output import Speaker, json_option, runs
from clients.gateway.attached import attached
from clients.gateway.control import actor


@click.command(epilog="Example: trauma-transfer report valley 1.2.840.113619.2.55 read.pdf --title 'CT head'")
@DIR
@click.argument("study")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--title", default="Report", show_default=True, help="What a reader sees in the list.")
@json_option
@runs
async def report(folder: Path, study: str, file: Path, title: str, speaker: Speaker) -> int:
    """Add FILE, a PDF or a text in UTF-8, to STUDY (its Study Instance UID, or its id here).

    It travels with the images of a transfer that is still open. The gateway reads the file: its user must be able to.
    """
    async with attached(folder) as engine:
        added = await engine.report_file(study, str(file.resolve()), title, actor())
    said = "It was here already, and is there once." if added.same else "Added."
    if added.late:
        said = "Added, but a transfer of this study was closed before it: send the study again."
    speaker.value(added, said)
    return 0
