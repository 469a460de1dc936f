"""`send`, `status`, `cancel`, `reopen`, `phone`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import qrcode

from clients.commands.gateway import DIR
from clients.commands.output import EXIT, Speaker, json_option, runs
from clients.drill import run_phone
from clients.gateway.control import actor
from clients.gateway.errors import GatewayError
from clients.gateway.peers.relay import tls_context
from clients.gateway.service import attached
from clients.gateway.views import Engine, TransferView
from transfer.messages import Relation
from transfer.states import TERMINAL

_REASONS = ("transfer", "consult", "drill")


@click.command(epilog="Example: trauma-transfer send valley --path /media/cd --to 'Lakeside Trauma Center'")
@DIR
@click.option("--path", type=click.Path(exists=True), help="A folder, a file or a ZIP with one study.")
@click.option("--study", help="Study Instance UID, or the study's id here.")
@click.option("--latest", is_flag=True, help="The study that arrived last.")
@click.option("--to", required=True, help="A paired site: its name or id.")
@click.option("--reason", type=click.Choice(_REASONS), default="transfer", show_default=True)
@json_option
@runs
async def send(
    folder: Path, path: str | None, study: str | None, latest: bool, to: str, reason: str, speaker: Speaker
) -> int:
    """Send a study: shows link and PIN, waits, exits 0 only when every image is in the other PACS."""
    if sum(map(bool, (path, study, latest))) != 1:
        raise click.UsageError("Give one of --path, --study, --latest.")
    async with attached(folder) as engine:
        chosen = await _choose(engine, path, study, speaker)
        view = await engine.send(chosen, to, reason, actor())
        return await Follower(engine, speaker).follow(view)


async def _choose(engine: Engine, path: str | None, study: str | None, speaker: Speaker) -> str:
    if path is not None:
        result = await engine.import_path(str(Path(path).resolve()), actor())
        for skipped in result["skipped"]:
            speaker.event("skipped", code=skipped["code"])
        if len(result["studies"]) > 1:
            raise GatewayError(
                "There is more than one study in this path. Give a path with one.", code="import-several"
            )
        if not result["studies"]:
            codes = ", ".join(sorted({s["code"] for s in result["skipped"]})) or "no files"
            raise GatewayError(
                f"No image of this path can be used ({codes}). Check the path.", code="import-empty"
            )
        return str(result["studies"][0])
    if study is not None:
        return study
    studies = await engine.studies(limit=1)
    if not studies:
        raise GatewayError(
            "No study has arrived here yet. Send one from the scanner or give --path.", code="absent"
        )
    return studies[0].id


class Follower:
    """Turns what changes at a transfer into events."""

    def __init__(self, engine: Engine, speaker: Speaker, *, stored_elsewhere: bool = False) -> None:
        self._engine, self._speaker = engine, speaker
        self._stored_elsewhere = stored_elsewhere  # the demo watches the receiver itself
        self._said: set[str] = set()
        self._moved = -1
        self._moved_at = 0.0

    async def follow(self, view: TransferView) -> int:
        """Until the end; the exit code."""
        tid = view.tid
        self._speaker.event("created", tid=tid)
        async for _ in self._engine.changes():
            view = await self._engine.transfer(tid)
            self.tell(view)
            if view.state in TERMINAL:
                return EXIT.get(view.state, 1)
        return 1

    def _once(self, name: str, sentence: str = "", /, **fields: Any) -> None:
        if name not in self._said:
            self._said.add(name)
            self._speaker.event(name, sentence, **fields)

    def tell(self, v: TransferView) -> None:
        """Every event that this view holds and that was not told yet."""
        if v.link and v.link not in self._said:  # a re-opened transfer has a new one
            self._said.add(v.link)
            if not self._speaker.json and sys.stdout.isatty():
                code = qrcode.QRCode(border=2)
                code.add_data(v.link)
                code.print_ascii(invert=True)
            self._speaker.event(
                "offered",
                f"Link: {v.link}\nPIN (tell it, do not show it): {v.pin}",
                link=v.link,
                pin=v.pin,
                tid=v.tid,
            )
        if v.joined_at:
            self._once("joined", f"A phone has the PIN. Check code: {v.check}", check=v.check)
        if v.moved != self._moved and (time.monotonic() - self._moved_at > 0.5 or v.moved == v.bytes):
            self._moved, self._moved_at = v.moved, time.monotonic()
            self._speaker.event("uploaded", bytes=v.moved, of=v.bytes, images=v.instances)
        if v.decided_by and v.released_at:
            self._once("approved", f"Yes, by {v.decided_by}.", by=v.decided_by)
            self._once("released", "The key is on its way.")
        for alarm in v.alarms:
            if alarm not in self._said:
                self._said.add(alarm)
                self._speaker.event("alarm", alarm, sentence=alarm)
        if v.proof and not self._stored_elsewhere:
            if v.stored:
                self._once("first_instance_stored")
            self._once("stored", n=v.stored, of=v.stored + v.gaps)
        if v.state in TERMINAL:
            self._once(
                v.state.lower(), f"{v.state}: {v.sentence}", tid=v.tid, why=v.why, sentence=v.sentence,
                stored=v.stored, gaps=v.gaps, receipt=v.receipt_code,
            )  # fmt: skip


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
        speaker.value(views[0], _line(views[0]) + "\n" + views[0].sentence)
    else:
        speaker.value(views, "\n".join(map(_line, views)) or "No transfer yet.")
    return 0


def _line(v: TransferView) -> str:
    arrow = "to" if v.role == "send" else "from"
    images = f"{v.stored}/{v.total or '?'} stored"
    return f"{v.tid}  {v.state:<9} {arrow} {v.peer}  {images}  {v.what}"


@click.command(epilog="Example: trauma-transfer cancel valley 9f86d081884c7d659a2feaa0c55ad015")
@DIR
@click.argument("transfer")
@json_option
@runs
async def cancel(folder: Path, transfer: str, speaker: Speaker) -> int:
    """Stop a transfer."""
    async with attached(folder) as engine:
        view = await engine.cancel(transfer, actor())
    speaker.value(view, f"{view.state}: {view.sentence}")
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
    speaker.value(view, f"Link: {view.link}\nPIN (tell it, do not show it): {view.pin}")
    return 0


@click.command(epilog="Example: trauma-transfer phone 'https://relay.example/s#1.…' --pin 314159 --approve")
@click.argument("link")
@click.option("--pin", required=True)
@click.option("--approve", "answer", flag_value="approve", help="Say yes.")
@click.option("--deny", "answer", flag_value="deny", help="Say no.")
@click.option("--as", "who", type=click.Choice(["patient", "proxy"]), default="patient", show_default=True)
@click.option("--name", default="", help="A proxy's name.")
@click.option("--relationship", default="", help="parent, spouse, child, relative, guardian, poa or other.")
@click.option("--ca-file", default="", help="A CA of your own for the relay, PEM.")
@json_option
@runs
async def phone(
    link: str,
    pin: str,
    answer: str | None,
    who: str,
    name: str,
    relationship: str,
    ca_file: str,
    speaker: Speaker,
) -> int:
    """Answer as a phone would, without a browser: for drills and tests."""
    if answer is None:
        raise click.UsageError("Give --approve or --deny.")
    relations = Relation.__args__  # type: ignore[attr-defined]
    if who == "proxy" and (not name or relationship not in relations or relationship == "self"):
        raise click.UsageError("A proxy gives --name and --relationship.")
    tls = tls_context(ca_file) if link.startswith("https:") else None
    end = await run_phone(
        link, pin, approve=answer == "approve", by=who, name=name if who == "proxy" else "",
        rel=relationship if who == "proxy" else "self", tls=tls,
        told=lambda event, fields: speaker.event(event, f"{event}: {fields}", **fields),
    )  # fmt: skip
    return 1 if end == "refused" else 0
