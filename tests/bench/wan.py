"""Two hospitals on slow links: from `send` to the first and the last image at the PACS, approved by `phone --approve`
as soon as the link is out; and from the yes, where everything is there already.

Each gateway reaches the relay through a `tests.bench.link` of its own, 20 ms each way; its docstring says what such a
link is and is not. How well the sender's link was used is the bytes that it carried between `send` and COMPLETE, of
those that it could have carried. `WAN_LINKS=50,50/bbr` takes some of the links, `WAN_TRACE=1` tells when what
happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from clients.commands.parties import Party, call, tool
from clients.drill import Phone
from clients.gateway.control import ControlEngine
from tests.bench.link import SLOT
from tests.bench.studies import long_study
from tests.bench.table import ROUNDS, Row, at_least, at_most, emit, shrunk

_INSTANCES = 680
"""360 MB."""
_DELAY = 0.02
_PAIRED = 100.0
"""Seconds in which sites that were just paired learn each other's key: they look once a minute."""


class Link(msgspec.Struct, frozen=True):
    """One kind of link between a hospital and the relay, and how fast a study must go over it."""

    name: str
    megabits: int
    gate: float | None = None
    goal: float | None = None
    loss: float = 0.0
    control: str = "bbr"


LINKS = [
    Link("10", 10, 115, 105),
    Link("50", 50, 24, 21),
    Link("200", 200, 11, 7),
    Link("50/bbr", 50, 40, 26, loss=0.01),
    Link(
        "50/cubic", 50, loss=0.01, control="cubic"
    ),  # for whoever's kernel has no BBR: nothing was asked for
]


class Run(msgspec.Struct, frozen=True):
    """One transfer, in seconds from its start; `used` is the part of the sender's link that was."""

    first: float
    last: float
    used: float


class Parties:
    """A relay, two hospitals behind links, and a PACS, all of them programs."""

    def __init__(self, base: Path, link: Link) -> None:
        self.base, self.link = base, link
        self._ends = AsyncExitStack()
        self._links: list[Party] = []
        self._all: list[Party] = []

    async def start(self, name: str, *argv: str) -> tuple[Party, dict[str, str]]:
        party = Party(name, self.base / f"{name}.log", *argv)
        ready = await party.start()
        self._ends.push_async_callback(party.stop)
        self._all.append(party)
        return party, ready

    async def open(self) -> None:
        """Starts, enrolls and pairs them."""
        relay, base, ports = self.base / "relay", self.base, {}
        relay.mkdir()
        config = base / "relay.toml"
        argv = tool("relay", "run", "--listen", "127.0.0.1:0", "--data", str(base / "x"), "--json")
        probe, ready = await self.start("probe", *argv)
        await probe.stop()
        port = ready["url"].rsplit(":", 1)[1]
        for side in ("sender", "receiver"):
            party, ready = await self.start(
                f"link-{side}", sys.executable, "-m", "tests.bench.link", "--to", port, "--rate",
                str(self.link.megabits * 125_000), "--delay", str(_DELAY), "--loss", str(self.link.loss), "--control",
                self.link.control, "--log", str(base / f"{side}.json"),
            )  # fmt: skip
            self._links.append(party)
            ports[side] = ready["port"]
        origins = [f"http://127.0.0.1:{p}" for p in ports.values()]
        config.write_text(f'listen = "127.0.0.1:{port}"\ndata = "{relay}"\norigins = {json.dumps(origins)}\n')
        await self.start("relay", *tool("relay", "run", "--config", str(config), "--json"))
        _, pacs = await self.start(
            "pacs", sys.executable, "-m", "clients.gateway.dicom.pacs", "--dir", str(base / "pacs"), "--port", "0",
            "--aet", "PACS",
        )  # fmt: skip
        cards = {}
        for side in ("sender", "receiver"):
            folder = str(base / side)
            extra = ("--pacs", f"PACS@127.0.0.1:{pacs['port']}") if side == "receiver" else ()
            await call(
                "gateway", "init", folder, "--name", side, "--relay", f"http://127.0.0.1:{ports[side]}", "--dicom",
                "127.0.0.1:0", "--http", "127.0.0.1:0", "--identity", "as-is", *extra,
            )  # fmt: skip
            cards[side] = await call("gateway", "card", folder)
            await call("relay", "enroll", str(relay), cards[side]["card"])
        for side in cards:
            await self.start(side, *tool("gateway", "run", str(base / side), "--json"))
        for side, other in (("sender", "receiver"), ("receiver", "sender")):
            mark = cards[other]["fingerprint"]
            await call("gateway", "pin", str(base / side), cards[other]["card"], "--fingerprint", mark)
        await self._known()

    async def _known(self) -> None:
        """Until each knows the other's key, as sites that were paired before today do."""
        for side in ("sender", "receiver"):
            engine = ControlEngine(self.base / side)
            await engine.open()
            try:
                async with asyncio.timeout(_PAIRED):
                    async for _ in engine.changes():
                        if all(peer.reachable for peer in await engine.peers()):
                            break
            finally:
                await engine.close()

    async def close(self) -> None:
        await self._ends.aclose()

    def stored(self) -> bool:
        """Whether the PACS has an image."""
        return any((self.base / "pacs").rglob("*.dcm"))

    def _tell_cpu(self) -> None:
        """What each program took of the processors so far (proc(5)), its children by themselves."""
        parents = {p.process.pid: p.name for p in self._all if p.process is not None}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                words = stat.read_text().rpartition(")")[2].split()
                own = parents.get(int(stat.parent.name))
                name = own or parents.get(int(words[1]), "")
                if name:
                    user, system = int(words[11]) / 100, int(words[12]) / 100
                    print(f"    cpu {name}{'' if own else ' child'}: {user:.1f} + {system:.1f} s")

    async def used(self, begin: float, end: float) -> float:
        """The part of what the sender's link could have carried up between two times that it did. Ends the links."""
        if os.environ.get("WAN_TRACE"):
            self._tell_cpu()
        for party in self._links:
            await party.stop()
        slots = json.loads((self.base / "sender.json").read_text())["up"]
        moved = sum(n for slot, n in slots.items() if begin <= int(slot) * SLOT < end)
        if os.environ.get("WAN_TRACE"):
            for side, way in (("sender", "up"), ("receiver", "down")):
                found = json.loads((self.base / f"{side}.json").read_text())[way]
                shares = [
                    found.get(str(s), 0) / SLOT / self.link.megabits / 1250
                    for s in range(int(begin / SLOT), int(end / SLOT) + 1)
                ]
                print(f"    {side} {way} %", " ".join(f"{share:.0f}" for share in shares))
        return moved / (end - begin) / (self.link.megabits * 125_000)


@asynccontextmanager
async def parties(link: Link) -> AsyncIterator[Parties]:
    """Everybody, in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        found = Parties(Path(folder), link)
        try:
            await found.open()
            yield found
        finally:
            await found.close()


def _trace(start: float, what: str) -> None:
    if os.environ.get("WAN_TRACE"):
        print(f"    {time.monotonic() - start:7.3f} {what}", flush=True)


async def send(world: Parties, study: Path) -> Run:
    """The command, and a phone that says yes as soon as it can."""
    start, began, first = time.monotonic(), time.time(), 0.0
    command = await asyncio.create_subprocess_exec(
        *tool("send", str(world.base / "sender"), "--path", str(study), "--to", "receiver", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    phone: asyncio.Task[None] | None = None
    reading = asyncio.create_task(_lines(command))
    ended = False
    while not ended or not first:
        done, _ = await asyncio.wait([reading], timeout=0.01)
        if not first and world.stored():
            first = time.monotonic() - start
            _trace(start, "first image at the PACS")
        if not done:
            continue
        event = reading.result()
        if event["event"] != "uploaded":
            _trace(start, f"{event['event']} (command's own clock {event.get('t', 0)})")
        if event["event"] == "offered":
            phone = asyncio.create_task(_say_yes(event, start))
        ended = event["event"] == "complete"
        if event["event"] in ("end", "failed", "partial", "revoked"):
            raise SystemExit("the transfer did not complete")
        reading = asyncio.create_task(_lines(command))
    last = time.monotonic() - start
    reading.cancel()
    await command.wait()
    if phone is not None:
        await phone
    return Run(first, last, await world.used(began, began + last))


async def _lines(command: asyncio.subprocess.Process) -> dict[str, str]:
    assert command.stdout is not None
    line = await command.stdout.readline()
    found: dict[str, str] = json.loads(line) if line else {"event": "end"}
    return found


async def _say_yes(offered: dict[str, str], start: float) -> None:
    argv = tool("phone", offered["link"], "--pin", offered["pin"], "--approve", "--json")
    phone = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    while (event := await _lines(phone))["event"] != "end":
        _trace(start, f"phone: {event['event']}")
    await phone.wait()


async def prefetched(world: Parties, study: Path) -> Run:
    """From the yes, when every pack is at the receiver."""
    here, there = ControlEngine(world.base / "sender"), ControlEngine(world.base / "receiver")
    await here.open()
    await there.open()
    try:
        found = await here.import_path(str(study), "bench")
        view = await here.send(found["studies"][0], "receiver", "drill", "bench")
        while True:
            sent = await here.transfer(view.tid)
            far = {t.tid: t for t in await there.transfers("receive")}.get(view.tid)
            if sent.link and sent.total and far and sent.moved == sent.bytes == far.moved:
                break
            await asyncio.sleep(0.2)
        async with Phone(sent.link, sent.pin) as phone:
            await phone.ask()
            start, first = time.monotonic(), 0.0
            deciding = asyncio.create_task(phone.decide("approve", by="patient", name="", rel="self"))
            while True:
                if not first and world.stored():
                    first = time.monotonic() - start
                far_now = await there.transfer(view.tid)
                if far_now.state == "COMPLETE" and first:
                    last = time.monotonic() - start
                    await deciding
                    return Run(first, last, 0.0)
                await asyncio.sleep(0.01)
    finally:
        await here.close()
        await there.close()


async def _run() -> None:
    chosen = os.environ.get("WAN_LINKS", "").split(",")
    study = long_study(shrunk(_INSTANCES, 8), "journey")
    for link in LINKS:
        if chosen == [""] or link.name in chosen:
            runs = []
            for _ in range(ROUNDS):
                async with parties(link) as world:
                    runs.append(await send(world, study))
            _tell(link, runs)
    if "yes" in chosen or (chosen == [""] and not os.environ.get("BENCH_ALL")):  # else it is in `journey`
        yes = []
        for _ in range(ROUNDS):
            async with parties(LINKS[1]) as world:
                yes.append(await prefetched(world, study))
        where = "prefetched, 50 Mb/s, 40 ms"
        emit(
            Row(
                what=f"from the yes to the first instance at the PACS, {where}", unit="s", better="less",
                values=[r.first for r in yes], gate=at_most(0.5),
            )
        )  # fmt: skip
        emit(
            Row(
                what=f"from the yes to the last of 680, {where}", unit="s", better="less",
                values=[r.last for r in yes],
            )
        )  # fmt: skip


def _tell(link: Link, runs: list[Run]) -> None:
    on = f"{link.megabits} Mb/s, 40 ms" + (f", 1 % loss, {link.control}" if link.loss else "")
    emit(
        Row(
            what=f"first image at the PACS from send, {on}", unit="s", better="less",
            values=[r.first for r in runs], gate=at_most(1.5) if link.gate else None,
            goal=at_most(0.6) if link.goal else None,
        )
    )  # fmt: skip
    emit(
        Row(
            what=f"complete at the PACS from send, {on}", unit="s", better="less",
            values=[r.last for r in runs], gate=at_most(link.gate) if link.gate else None,
            goal=at_most(link.goal) if link.goal else None,
        )
    )  # fmt: skip
    emit(
        Row(
            what=f"the sender's link used from send to complete, {on}", unit="%", values=[100 * r.used for r in runs],
            goal=at_least(90) if link.goal else None,
        )
    )  # fmt: skip


def main() -> None:
    """Prints the rows."""
    asyncio.run(_run())
