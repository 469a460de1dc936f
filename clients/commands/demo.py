"""`demo`: a relay, two hospitals and a PACS on this machine, and one CT that travels between them.

Every party is a program of its own with a folder of its own, paired and enrolled as an administrator would
do it. `--headless` says yes by itself (the `phone` command) and ends with 0 only if every instance reached
the PACS's wire byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import click

from clients.commands.output import EXIT, Speaker, json_option, runs
from clients.commands.pacs import Pacs, open_pacs
from clients.commands.parties import Party, call, die_with_parent, tool
from clients.commands.send import Follower, import_one
from clients.gateway.control import ControlEngine, actor
from clients.gateway.errors import GatewayError, leaf
from clients.gateway.views import TransferView
from clients.module import module
from transfer.states import TERMINAL

SENDER, RECEIVER = "Valley Emergency Department", "Lakeside Trauma Center"
_SLICES = 240
_LINGER = 8.0
"""Seconds for which the relay still tells a phone of the end, where nobody presses Enter."""
_OFFERED = 30.0
"""Seconds until the offer must be there: the receiver publishes its key as it starts."""


class Demo:
    """All parties, running."""

    def __init__(self, base: Path, speaker: Speaker) -> None:
        self.base, self.speaker = base, speaker
        self._ends = contextlib.AsyncExitStack()
        self._parties: list[Party] = []
        self._engines: list[ControlEngine] = []
        self.password = secrets.token_urlsafe(12)
        self.pages: dict[str, str] = {}
        self._cards: dict[str, dict[str, str]] = {}
        self._relay = ""

    async def open(self, pacs: str) -> None:
        """Starts relay, PACS and both gateways; enrolls and pairs them. What does not wait for another goes at once."""
        for name in ("relay", "sender", "receiver", "pacs"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        await together(self._start_relay(), self._start_pacs(pacs))
        await together(
            self._hospital("sender", SENDER),
            self._hospital("receiver", RECEIVER, "--pacs", self.pacs.address),
        )
        await together(
            self._pair("sender", "receiver"), self._pair("receiver", "sender"),
            self._staff("sender", "clerk"), self._staff("receiver", "clinician"),
        )  # fmt: skip
        self.sender, self.receiver = await self._engine("sender"), await self._engine("receiver")

    async def _start_relay(self) -> None:
        data = str(self.base / "relay")
        ready = await self._party("relay", "relay", "run", "--listen", "127.0.0.1:0", "--data", data)
        self._relay = ready["url"]

    async def _start_pacs(self, kind: str) -> None:
        self.pacs: Pacs = await self._ends.enter_async_context(open_pacs(kind, self.base / "pacs"))

    async def _hospital(self, side: str, name: str, *extra: str) -> None:
        folder = str(self.base / side)
        await call(
            "gateway", "init", folder, "--name", name, "--relay", self._relay, "--dicom", "127.0.0.1:0",
            "--http", "127.0.0.1:0", "--aet", side.upper(), "--identity", "as-is", *extra,
        )  # fmt: skip
        self._cards[side] = await call("gateway", "card", folder)
        await call("relay", "enroll", str(self.base / "relay"), self._cards[side]["card"])
        ready = await self._party(side, "gateway", "run", folder)
        self.pages[side] = ready["pages"]

    async def _pair(self, side: str, other: str) -> None:
        card = self._cards[other]
        await call(
            "gateway", "pin", str(self.base / side), card["card"], "--fingerprint", card["fingerprint"]
        )

    async def _staff(self, side: str, role: str) -> None:
        await call("user", "add", str(self.base / side), role, "--role", role, stdin=self.password + "\n")

    async def _party(self, name: str, *argv: str) -> dict[str, Any]:
        party = Party(name, self.base / f"{name}.log", *tool(*argv, "--json"))
        self._parties.append(party)
        return await party.start()

    async def _engine(self, side: str) -> ControlEngine:
        engine = ControlEngine(self.base / side)
        await engine.open()
        self._engines.append(engine)
        return engine

    async def close(self) -> None:
        """Ends every party; the PACS last, which waits for whoever is still associated with it."""
        await asyncio.gather(*(engine.close() for engine in self._engines))
        await asyncio.gather(*(party.stop() for party in self._parties))
        await self._ends.aclose()


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """All at once; the first error ends the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as why:
        raise leaf(why) from None


@contextlib.asynccontextmanager
async def _folder(keep: Path | None) -> AsyncIterator[Path]:
    if keep is not None:
        try:
            if keep.exists() and any(keep.iterdir()):
                raise GatewayError("The folder for --keep is not empty. Choose a new one.", code="demo-keep")
            keep.mkdir(parents=True, exist_ok=True)
        except OSError:
            raise GatewayError(
                "The folder for --keep cannot be made. Choose another one.", code="demo-keep"
            ) from None
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
            async with _study(path, base) as study:
                await party.open(pacs)
                source = await study
            return await _transfer(party, source, headless, kept=keep is not None)
        finally:
            await party.close()


@contextlib.asynccontextmanager
async def _study(path: Path | None, base: Path) -> AsyncIterator[asyncio.Future[Path]]:
    """The study to send; a generated one is made while the parties start."""
    making = asyncio.ensure_future(_given(path) if path else _phantom(base / "study"))
    try:
        yield making
    finally:
        making.cancel()
        await asyncio.wait([making])


async def _given(path: Path) -> Path:
    return await asyncio.to_thread(path.resolve)


async def _transfer(demo: Demo, source: Path, headless: bool, *, kept: bool) -> int:
    speaker = demo.speaker
    study = await import_one(demo.sender, str(source), speaker)
    speaker.event("study", f"A CT comes into {SENDER}'s gateway.")
    view = await _offer(demo, study)
    _welcome(demo, view, headless)
    follower = Follower(demo.sender, speaker, stored_elsewhere=True)
    follower.tell(view)  # before anybody can answer: then the link is gone
    async with _phone(demo, view, headless):
        end = await _watch(demo, view, follower)
    code = EXIT.get(end.state, 1)
    if end.state == "COMPLETE":
        code = await _verdict(demo, source, end, kept=kept)
    if not headless:
        await _linger(speaker)
    return code


async def _offer(demo: Demo, study: str) -> TransferView:
    view = await demo.sender.send(study, RECEIVER, "transfer", actor())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_OFFERED):
            async for _ in demo.sender.changes():
                view = await demo.sender.transfer(view.tid)
                if view.link:
                    return view
    raise GatewayError("No offer could be made. Look at the logs with --keep.", code="demo-offer")


@contextlib.asynccontextmanager
async def _phone(demo: Demo, view: TransferView, headless: bool) -> AsyncIterator[None]:
    """Without a person: the `phone` command, which says yes."""
    if not headless:
        yield
        return
    answer = tool("phone", view.link, "--pin", view.pin, "--approve", "--json")
    party = Party("phone", demo.base / "phone.log", *answer)
    try:
        await party.start()
        yield
    finally:
        await party.stop()


def _welcome(demo: Demo, view: TransferView, headless: bool) -> None:
    demo.speaker.event("pages", desk=demo.pages["sender"], inbox=demo.pages["receiver"])
    if demo.speaker.json or headless:
        return
    print(
        f"\n  desk   {demo.pages['sender']}   clerk / {demo.password}\n"
        f"  inbox  {demo.pages['receiver']}   clinician / {demo.password}\n\n"
        "  Now be the patient: open this link in a browser on this machine and type the PIN.\n",
        flush=True,
    )


async def _watch(demo: Demo, view: TransferView, follower: Follower) -> TransferView:
    """Tells what happens at both ends until the sender's one. R is asked first: what it stored, S has released."""
    stored = 0
    async for _ in demo.sender.changes():
        there = await _arrived(demo, view.tid)
        view = await demo.sender.transfer(view.tid)
        follower.tell(view)
        if view.state in TERMINAL:
            there = await _arrived(demo, view.tid)
        if there is not None and there.stored != stored:
            if stored == 0:
                demo.speaker.event("first_instance_stored", "The first image is in the PACS.")
            stored = there.stored
            demo.speaker.progress("stored", "stored", stored, there.total, "images", n=stored, of=there.total)
        if view.state in TERMINAL:
            follower.end(view)
            break
    return view


async def _arrived(demo: Demo, tid: str) -> TransferView | None:
    """The transfer as the receiver sees it, once it has heard of it."""
    try:
        return await demo.receiver.transfer(tid)
    except GatewayError as why:
        if why.code != "absent":
            raise
        return None


async def _verdict(demo: Demo, source: Path, end: TransferView, *, kept: bool) -> int:
    same, of, sentence = await demo.pacs.compare(source)
    demo.speaker.event("compared", sentence, same=same, of=of)
    if kept:
        demo.speaker.event("kept", f"Each party's data is in {demo.base}.", folder=str(demo.base))
    if same != of or of == 0:
        return 1
    return 0 if end.gaps == 0 else 3


async def _linger(speaker: Speaker) -> None:
    """However it ended, the person's phone has yet to hear of it."""
    if not speaker.json and sys.stdin.isatty():
        print("The pages stay open until you press Enter.")
        await asyncio.to_thread(sys.stdin.readline)
    else:
        await asyncio.sleep(_LINGER)


async def _phantom(folder: Path) -> Path:
    """In a process of its own (a fork beside OpenBLAS's threads can stop them for ever), and on one core: the other
    is for the parties.
    """
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    argv = module("clients.phantom", str(folder), "--slices", str(_SLICES))
    process = await asyncio.create_subprocess_exec(*argv, env=alone, preexec_fn=die_with_parent)
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        raise GatewayError("The CT could not be made. Give one with --path.", code="demo-study")
    return folder
