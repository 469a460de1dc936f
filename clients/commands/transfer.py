"""`status`, `cancel`, `reopen`, `door`, `divert`, `close-additions`, `note`: transfers that are there."""

from __future__ import annotations

import time
from pathlib import Path

import click

from clients.commands.gateway import DIR
from clients.commands.output import Speaker, json_option, runs
from clients.gateway.attached import attached
from clients.gateway.control import actor
from clients.gateway.sending.notes import ASKERS
from clients.gateway.sending.words import groups
from clients.gateway.views import TransferView
from transfer.links import PATHS


@click.command(epilog="Example: trauma-transfer status valley")
@DIR
@click.argument("transfer", required=False)
@json_option
@runs
async def status(folder: Path, transfer: str | None, speaker: Speaker) -> int:
    """Say where transfers stand."""
    async with attached(folder) as engine:
        views = [await engine.transfer(transfer)] if transfer else await engine.transfers()
    if transfer:
        speaker.value(views[0], "\n".join([_line(views[0]), views[0].sentence, *_more(views[0])]))
    else:
        lines = [line for view in views for line in (_line(view), *(f"    {x}" for x in _more(view)))]
        speaker.value(views, "\n".join(lines) or "No transfer yet.")
    return 0


def _line(v: TransferView) -> str:
    arrow = "to" if v.role == "send" else "from"
    images = f"{v.stored}/{v.total or '?'} stored"
    added = f"  added to {v.before[:8]}: {v.contents}" if v.kind == "add" else ""
    return f"{v.tid}  {v.state:<9} {arrow} {v.peer}  {images}  {v.what}{added}"


def _more(v: TransferView) -> list[str]:
    """What it waits for, and what staff must see."""
    return list(
        dict.fromkeys(x for x in (v.waits, *(v.alarms if v.stop_asked or not v.ended_at else [])) if x)
    )


@click.command(epilog="Example: trauma-transfer cancel valley 9f86d081884c7d659a2feaa0c55ad015")
@DIR
@click.argument("transfer")
@click.option(
    "--asked-by",
    type=click.Choice(ASKERS),
    help="The patient, or who speaks for them, asked to stop sharing.",
)
@click.option("--reason", default="", help="With --asked-by: when they asked, and why; no name, no number.")
@json_option
@runs
async def cancel(folder: Path, transfer: str, asked_by: str | None, reason: str, speaker: Speaker) -> int:
    """Stop a transfer.

    With --asked-by it is what "stop sharing" on the phone is: it also stops what took its place or follows it, and
    after the end the destination is told of the wish, and keeps what it has.
    """
    if bool(asked_by) != bool(reason):
        raise click.UsageError("Give --asked-by and --reason together: who asked to stop, when and why.")
    async with attached(folder) as engine:
        if asked_by:
            view = await engine.stop_asked(transfer, asked_by, reason, actor())
        else:
            view = await engine.cancel(transfer, actor())
    speaker.value(
        view, "\n".join([f"{view.state}: {view.sentence}", *(view.alarms if view.stop_asked else [])])
    )
    return 0


@click.command(epilog="Example: trauma-transfer reopen valley 9f86d081884c7d659a2feaa0c55ad015")
@DIR
@click.argument("transfer")
@json_option
@runs
async def reopen(folder: Path, transfer: str, speaker: Speaker) -> int:
    """Give a locked transfer a new code, or ask again after one has expired."""
    async with attached(folder) as engine:
        view = await engine.reopen(transfer, actor())
    speaker.value(view, code_of(view))
    return 0


@click.command(
    epilog="Example: trauma-transfer note valley 9f86d081884c7d659a2feaa0c55ad015 --minor --interpreter Spanish"
)
@DIR
@click.argument("transfer")
@click.option("--minor", is_flag=True, help="The patient is a minor.")
@click.option("--interpreter", default="", help="The language in which an interpreter helped.")
@click.option("--basis", default="", help="On what a proxy's right to answer rests; no name, no number.")
@json_option
@runs
async def note(
    folder: Path, transfer: str, minor: bool, interpreter: str, basis: str, speaker: Speaker
) -> int:
    """Note who answered, for the audit log and the record of the transfer."""
    async with attached(folder) as engine:
        view = await engine.note(transfer, minor, interpreter, basis, actor())
    speaker.value(view, f"Noted: {view.notes[-1].text}")
    return 0


@click.command(
    epilog="Example: trauma-transfer divert valley 9f86d081884c7d659a2feaa0c55ad015 --to 'Northside Trauma Center'"
)
@DIR
@click.argument("transfer")
@click.option("--to", required=True, help="Another paired site: its name or id.")
@json_option
@runs
async def divert(folder: Path, transfer: str, to: str, speaker: Speaker) -> int:
    """Send a study to another hospital instead.

    It goes at once where the yes named that hospital; else whoever said yes is asked again, with a new code.
    """
    async with attached(folder) as engine:
        view = await engine.divert(transfer, to, actor())
    said = "It goes there now." if view.released_at else code_of(view)
    speaker.value(view, f"Transfer {view.tid} to {view.peer}.\n{said}")
    return 0


@click.command(
    "close-additions",
    epilog="Example: trauma-transfer close-additions valley 9f86d081884c7d659a2feaa0c55ad015",
)
@DIR
@click.argument("transfer")
@json_option
@runs
async def close_additions(folder: Path, transfer: str, speaker: Speaker) -> int:
    """Let nothing follow a transfer any more: late images and reports need a new one."""
    async with attached(folder) as engine:
        view = await engine.close_additions(transfer, actor())
    speaker.value(view, "Closed. What comes now is a new transfer.")
    return 0


@click.command(epilog="Example: trauma-transfer door valley 9f86d081884c7d659a2feaa0c55ad015 voice")
@DIR
@click.argument("transfer")
@click.argument("door", type=click.Choice(list(PATHS)), metavar="DOOR")
@click.option("--scanned", default="", help="At scan: what the scanner read off the phone.")
@json_option
@runs
async def door(folder: Path, transfer: str, door: str, scanned: str, speaker: Speaker) -> int:
    """Open another door of a transfer that waits: a new code, the same offer, no new tries.

    qr: the phone scans the desk's QR. voice: a number and a code for the telephone, for ten minutes. scan: the phone
    shows a code, which --scanned gives.
    """
    if bool(scanned) != (door == "scan"):
        raise click.UsageError("Give --scanned at the door `scan`, and only there.")
    async with attached(folder) as engine:
        view = await engine.door(transfer, door, scanned, actor())
    speaker.value(view, code_of(view))
    return 0


def code_of(v: TransferView) -> str:
    """How somebody may answer, in lines."""
    if not v.pin:
        return "The code is not at the relay yet. Look with `trauma-transfer status`."
    if v.door == "voice":
        until = time.strftime("%H:%M", time.localtime(v.code_until))
        return f"Address: {v.link}\nNumber: {groups(v.number)}\nCode: {groups(v.pin)} (until {until})"
    link = f"Link: {v.link}\n" if v.door == "qr" else ""
    return f"{link}PIN (tell it, do not show it): {v.pin}"
