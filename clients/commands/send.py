"""`send`: a study is offered, and followed to its end."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from clients.commands.gateway import DIR
from clients.commands.output import EXIT, Speaker, json_option, runs
from clients.commands.transfer import code_of
from clients.gateway.attached import attached
from clients.gateway.control import actor
from clients.gateway.errors import BusyError, GatewayError
from clients.gateway.views import HARMLESS, Engine, TransferView
from transfer.states import TERMINAL

_REASONS = ("transfer", "consult", "drill")
_SHOWN = 5


@click.command(epilog="Example: trauma-transfer send valley --path /media/cd --to 'Lakeside Trauma Center'")
@DIR
@click.option("--path", type=click.Path(exists=True), help="A folder, a file or a ZIP with one study.")
@click.option("--study", help="Study Instance UID, or the study's id here.")
@click.option("--latest", is_flag=True, help="The study that arrived last.")
@click.option("--to", required=True, help="A paired site: its name or id.")
@click.option("--alt", multiple=True, help="Another site that may get it under the same yes; up to four.")
@click.option(
    "--add",
    type=click.FloatRange(0, 168),
    metavar="HOURS",
    help="For how long late images and reports follow under the same yes; 0: not at all. As the policy says.",
)
@click.option("--reason", type=click.Choice(_REASONS), default="transfer", show_default=True)
@json_option
@runs
async def send(
    folder: Path,
    path: str | None,
    study: str | None,
    latest: bool,
    to: str,
    alt: tuple[str, ...],
    add: float | None,
    reason: str,
    speaker: Speaker,
) -> int:
    """Send a study: shows link and PIN, waits, exits 0 only when every image is in the other PACS.

    A path with an image that cannot be used is not sent: the command says why, and how to send the rest.
    """
    if sum(map(bool, (path, study, latest))) != 1:
        raise click.UsageError("Give one of --path, --study, --latest.")
    async with attached(folder) as engine:
        chosen = await _choose(engine, path, study, speaker)
        view = await engine.send(chosen, to, reason, actor(), alt, None if add is None else round(add * 3600))
        return await Follower(engine, speaker).follow(view)


async def _choose(engine: Engine, path: str | None, study: str | None, speaker: Speaker) -> str:
    if path is not None:
        return await import_one(engine, path, speaker)
    if study is not None:
        return study
    studies = await engine.studies(limit=1)
    if not studies:
        raise GatewayError(
            "No study has arrived here yet. Send one from the scanner or give --path.", code="absent"
        )
    return studies[0].id


async def import_one(engine: Engine, path: str, speaker: Speaker) -> str:
    """The id of the one study in `path`, of which every image is here or known to be usable and on its way. Raises
    `GatewayError`.
    """
    result = await engine.import_path(str(Path(path).resolve()), actor(), True)
    codes = Counter(str(s["code"]) for s in result["skipped"])
    for code, n in codes.items():
        speaker.event("skipped", code=code, files=n)
    studies: list[str] = result["studies"]
    if refused := {code: n for code, n in codes.items() if code not in HARMLESS}:
        raise _refusal(refused, studies)
    if not studies:
        if codes:
            raise _refusal(codes, [])
        raise GatewayError("There is no file in this path. Check the path.", code="import-nothing")
    if len(studies) > 1:
        raise GatewayError(
            f"There is more than one study in this path. Send each with --study {_some(studies)}.",
            code="import-several",
        )
    return studies[0]


def _refusal(codes: dict[str, int], studies: list[str]) -> GatewayError:
    """Why a path is not sent: the one reason, or all of them; and what to do with the rest."""
    from clients.gateway.intake.reasons import sentence

    code = next(iter(codes)) if len(codes) == 1 else "import-refused"
    why = (
        sentence(code)
        if len(codes) == 1
        else f"Files cannot be used for several reasons ({', '.join(codes)})."
    )
    n = sum(codes.values())
    if studies:
        why += (
            f" So nothing was sent ({n} refused); if the other images are enough, send them with"
            f" --study {_some(studies)}."
        )
    return GatewayError(why, code=code)


def _some(studies: list[str]) -> str:
    return ", ".join(studies[:_SHOWN]) + (", ..." if len(studies) > _SHOWN else "")


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
        self.tell(view)
        try:
            async for _ in self._engine.changes():
                view = await self._engine.transfer(tid)
                self.tell(view)
                if view.state in TERMINAL:
                    self.end(view)
                    return EXIT.get(view.state, 1)
        except BusyError:
            raise BusyError(
                "The gateway was stopped. The transfer goes on when it runs again: look with"
                f" `trauma-transfer status DIR {tid}`, and do not send twice."
            ) from None
        finally:
            self._speaker.close()
        return 1

    def _once(self, name: str, sentence: str = "", /, **fields: Any) -> None:
        if name not in self._said:
            self._said.add(name)
            self._speaker.event(name, sentence, **fields)

    def tell(self, v: TransferView) -> None:
        """Every event on the way that this view holds and that was not told yet."""
        code = f"{v.link} {v.number} {v.pin}"
        if v.pin and code not in self._said:  # a re-opened transfer, or another door, has a new one
            self._said.add(code)
            if v.door == "qr":
                self._speaker.qr(v.link)
            number = {"number": v.number} if v.number else {}
            self._speaker.event("offered", code_of(v), link=v.link, pin=v.pin, tid=v.tid, **number)
        if v.joined_at:
            self._once("joined", f"A phone has the PIN. Check code: {v.check}", check=v.check)
        if v.moved != self._moved and (
            v.state in TERMINAL or v.moved == v.bytes or time.monotonic() - self._moved_at > 0.5
        ):
            self._moved, self._moved_at = v.moved, time.monotonic()
            self._speaker.progress(
                "uploaded",
                "uploaded",
                v.moved,
                v.bytes,
                "bytes",
                bytes=v.moved,
                of=v.bytes,
                images=v.instances,
            )
        if v.decided_by and v.released_at:
            yes = f"Yes, by {v.decided_by}."
            said = (
                yes if v.rung in ("", "patient", "proxy") else f"Without the patient's yes: {v.decided_by}."
            )
            self._once("approved", said, by=v.decided_by)
            self._once("released", "The key is on its way.")
        for alarm in v.alarms:
            if alarm not in self._said:
                self._said.add(alarm)
                self._speaker.event("alarm", alarm, sentence=alarm)
        if v.proof and not self._stored_elsewhere:
            if v.stored:
                self._once("first_instance_stored")
            self._once("stored", n=v.stored, of=v.stored + v.gaps)

    def end(self, v: TransferView) -> None:
        """The one end event."""
        self._speaker.close()
        self._once(
            v.state.lower(), f"{v.state}: {v.sentence}", tid=v.tid, why=v.why, sentence=v.sentence,
            stored=v.stored, gaps=v.gaps, receipt=v.receipt_code,
        )  # fmt: skip
