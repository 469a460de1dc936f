"""`demo`: a relay, two hospitals and a PACS on this machine, and one CT that travels between them.

Every party is a program of its own with a folder of its own, paired and enrolled as an administrator would
do it. `--headless` says yes by itself (the `phone` command) and ends with 0 only if every instance reached
the PACS's wire byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import click
import qrcode

from clients.commands.output import EXIT, Speaker, json_option, runs
from clients.commands.pacs import Pacs, open_pacs
from clients.commands.parties import Party, call, tool
from clients.commands.transfer import Follower
from clients.gateway.control import ControlEngine, actor
from clients.gateway.errors import GatewayError
from clients.gateway.views import TransferView
from transfer.states import TERMINAL

SENDER, RECEIVER = "Valley Emergency Department", "Lakeside Trauma Center"
_SLICES = 240


class Demo:
    """All parties, running."""

    def __init__(self, base: Path, speaker: Speaker) -> None:
        self.base, self.speaker = base, speaker
        self._ends = contextlib.AsyncExitStack()
        self.password = secrets.token_urlsafe(12)
        self.pages: dict[str, str] = {}

    async def open(self, pacs: str) -> None:
        """Starts relay, PACS and both gateways; enrolls and pairs them."""
        for name in ("relay", "sender", "receiver", "pacs"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        relay = await self._party(
            "relay", "relay", "run", "--listen", "127.0.0.1:0", "--data", str(self.base / "relay")
        )
        self.pacs: Pacs = await self._ends.enter_async_context(open_pacs(pacs, self.base / "pacs"))
        cards: dict[str, dict[str, str]] = {}
        for side, name, extra in (
            ("sender", SENDER, ()),
            ("receiver", RECEIVER, ("--pacs", self.pacs.address)),
        ):
            folder = str(self.base / side)
            await call(
                "gateway", "init", folder, "--name", name, "--relay", relay["url"], "--dicom", "127.0.0.1:0",
                "--http", "127.0.0.1:0", "--aet", side.upper(), *extra,
            )  # fmt: skip
            cards[side] = await call("gateway", "card", folder)
            await call("relay", "enroll", str(self.base / "relay"), cards[side]["card"])
            ready = await self._party(side, "gateway", "run", folder)
            self.pages[side] = ready["pages"]
        for side, other in (("sender", "receiver"), ("receiver", "sender")):
            await call(
                "gateway", "pin", str(self.base / side), cards[other]["card"], "--fingerprint",
                cards[other]["fingerprint"],
            )  # fmt: skip
        await call(
            "user", "add", str(self.base / "sender"), "clerk", "--role", "clerk", stdin=self.password + "\n"
        )
        await call(
            "user",
            "add",
            str(self.base / "receiver"),
            "clinician",
            "--role",
            "clinician",
            stdin=self.password + "\n",
        )
        self.sender, self.receiver = await self._engine("sender"), await self._engine("receiver")

    async def _party(self, name: str, *argv: str) -> dict[str, str]:
        party = Party(name, self.base / f"{name}.log", *tool(*argv, "--json"))
        ready = await party.start()
        self._ends.push_async_callback(party.stop)
        return ready

    async def _engine(self, side: str) -> ControlEngine:
        engine = ControlEngine(self.base / side)
        await engine.open()
        self._ends.push_async_callback(engine.close)
        return engine

    async def close(self) -> None:
        """Ends every party."""
        await self._ends.aclose()


@contextlib.asynccontextmanager
async def _folder(keep: Path | None) -> AsyncIterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise GatewayError("The folder for --keep is not empty. Choose a new one.", code="demo-keep")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    base = Path(tempfile.mkdtemp(prefix="trauma-transfer-"))
    try:
        yield base
    finally:
        await asyncio.to_thread(shutil.rmtree, base, True)


@click.command(epilog="Example: trauma-transfer demo --headless --json")
@click.option("--path", type=click.Path(exists=True, path_type=Path), help="A study; else a generated CT.")
@click.option("--pacs", default="bundled", show_default=True, help="bundled, orthanc, or AET@HOST:PORT.")
@click.option("--headless", is_flag=True, help="Say yes without a browser.")
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Leave each party's data in DIR."
)
@json_option
@runs
async def demo(path: Path | None, pacs: str, headless: bool, keep: Path | None, speaker: Speaker) -> int:
    """Watch a CT go from one hospital to another's PACS, on this machine."""
    async with _folder(keep) as base:
        party = Demo(base, speaker)
        try:
            await party.open(pacs)
            return await _transfer(party, path, headless, kept=keep is not None)
        finally:
            await party.close()


async def _transfer(demo: Demo, path: Path | None, headless: bool, *, kept: bool) -> int:
    speaker = demo.speaker
    source = path.resolve() if path else await asyncio.to_thread(_phantom, demo.base / "study")
    speaker.event(
        "study", f"A CT is in {SENDER}'s gateway." if path is None else "The study is being imported."
    )
    result = await demo.sender.import_path(str(source), actor())
    if len(result["studies"]) != 1:
        raise GatewayError(
            "The path must hold exactly one study. Choose another path.", code="import-several"
        )
    view = await demo.sender.send(result["studies"][0], RECEIVER, "transfer", actor())
    if not view.link:
        raise GatewayError("No offer could be made. Look at the logs with --keep.", code="demo-offer")
    _welcome(demo, view, headless)
    phone: Party | None = None
    if headless:
        phone = Party(
            "phone",
            demo.base / "phone.log",
            *tool("phone", view.link, "--pin", view.pin, "--approve", "--json"),
        )
        await phone.start()
    end = await _watch(demo, view)
    if phone is not None and phone.process is not None:
        await asyncio.wait_for(phone.process.wait(), 30)
    if end.state != "COMPLETE":
        return EXIT.get(end.state, 1)
    return await _verdict(demo, source, end, headless, kept=kept)


def _welcome(demo: Demo, view: TransferView, headless: bool) -> None:
    demo.speaker.event("pages", desk=demo.pages["sender"], inbox=demo.pages["receiver"])
    if demo.speaker.json or headless:
        return
    if sys.stdout.isatty():
        code = qrcode.QRCode(border=2)
        code.add_data(view.link)
        code.print_ascii(invert=True)
    print(
        f"\n  desk   {demo.pages['sender']}   clerk / {demo.password}\n"
        f"  inbox  {demo.pages['receiver']}   clinician / {demo.password}\n\n"
        "  Now be the patient: open this link in a browser on this machine and type the PIN.\n"
    )


async def _watch(demo: Demo, view: TransferView) -> TransferView:
    """Tells what happens at both ends until the sender's one."""
    follower = Follower(demo.sender, demo.speaker, stored_elsewhere=True)
    stored = -1
    async for _ in demo.sender.changes():
        view = await demo.sender.transfer(view.tid)
        with contextlib.suppress(GatewayError):
            there = await demo.receiver.transfer(view.tid)
            if there.stored > 0 and stored <= 0:
                demo.speaker.event("first_instance_stored", "The first image is in the PACS.")
            if there.stored != stored and there.stored > 0:
                stored = there.stored
                demo.speaker.event(
                    "stored", f"  {stored}/{there.total or '?'} images", n=stored, of=there.total
                )
        follower.tell(view)
        if view.state in TERMINAL:
            return view
    return view


async def _verdict(demo: Demo, source: Path, end: TransferView, headless: bool, *, kept: bool) -> int:
    same, of, sentence = await demo.pacs.compare(source)
    demo.speaker.event("compared", sentence, same=same, of=of)
    if kept:
        demo.speaker.event("kept", f"Each party's data is in {demo.base}.", folder=str(demo.base))
    if same != of or of == 0:
        return 1
    if not headless and not demo.speaker.json and sys.stdin.isatty():
        print("The pages stay open until you press Enter.")
        await asyncio.to_thread(sys.stdin.readline)
    return 0 if end.gaps == 0 else 3


def _phantom(folder: Path) -> Path:
    from clients.phantom import write_study  # numpy work that only the demo wants

    write_study(folder, slices=_SLICES)
    return folder
