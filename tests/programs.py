"""All parties as real programs: a relay, two gateways and a PACS, started by the command line as an administrator
would, each killed with kill -9 and started again on the same folder and port.

`Link` is a wire between two of them that can be cut at a byte: so a test decides how far a transfer has come when
somebody is killed, and nothing depends on how fast this machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from pydicom.uid import generate_uid

from clients.commands.parties import Party, call, die_with_parent, tool
from clients.drill import Phone
from clients.gateway.control import ControlEngine
from clients.gateway.dicom.header import read_header
from clients.gateway.errors import GatewayError
from clients.gateway.views import TransferView
from tests.dicom_kit import free_port, instance, save
from tests.wire import Wire

T = TypeVar("T")
PATIENCE = 60.0
SENDER, RECEIVER = "Valley ED", "Lakeside Trauma Center"
_LOOK = 0.02
_OTHER_CLOCK = (
    "import pathlib, sys, time; now, clock = time.time, pathlib.Path(sys.argv.pop(1));"
    " time.time = lambda: now() + int(clock.read_text());"
    " from clients.cli import main; main(prog_name='trauma-transfer')"
)
"""The command line on a machine whose clock is wrong, by as many seconds as stand in a file."""


async def eventually(look: Callable[[], Awaitable[T | None]], patience: float = PATIENCE) -> T:
    """What `look` finds, once it finds something."""
    async with asyncio.timeout(patience):
        while (found := await look()) is None:  # noqa: ASYNC110  # what another process does sets no event
            await asyncio.sleep(_LOOK)
        return found


class Program(Party):
    """A party that can be killed, stopped in its tracks and started again."""

    def __init__(self, name: str, log: Path, *argv: str) -> None:
        super().__init__(name, log, *argv)
        self.log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[int]:
        """Process ids of its children (proc(5))."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.pid:
                    found.append(int(stat.parent.name))
        return found

    async def kill(self) -> None:
        """kill -9; returns once it and its children are gone, or fails."""
        watched = [os.pidfd_open(pid) for pid in self.children()]
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        for fd in watched:
            gone, _, _ = await asyncio.to_thread(select.select, [fd], [], [], PATIENCE)
            os.close(fd)
            assert gone, f"a child of the {self.name} outlived it"

    def pause(self) -> None:
        """It does nothing until `resume` (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        os.kill(self.pid, signal.SIGCONT)


class Gateway(Program):
    """`gateway run DIR`, and its control socket."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._clock = folder, folder.parent / f"{folder.name}.clock"
        super().__init__(folder.name, folder.parent / f"{folder.name}.log")
        self.engine = ControlEngine(folder)

    async def start(self) -> dict[str, Any]:
        """Until it listens."""
        argv = ("gateway", "run", str(self.folder), "--json")
        wrong = (sys.executable, "-c", _OTHER_CLOCK, str(self._clock), *argv)
        self._argv = wrong if self._clock.exists() else tuple(tool(*argv))
        ready = await super().start()
        self.engine = ControlEngine(self.folder)
        await self.engine.open()
        return ready

    def turn_clock(self, seconds: int) -> None:
        """Moves the clock of a gateway that was started with a wrong one, or that is to be."""
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._clock)

    async def restart(self, clock: int = 0) -> None:
        """Ends it gently and starts it, with a clock that is wrong by so many seconds."""
        await self.stop()
        self.turn_clock(clock)
        await self.start()

    async def set_clock(self) -> None:
        """Ends what `restart` began."""
        if self._clock.exists():
            await self.stop()
            self._clock.unlink()
            await self.start()

    async def kill(self) -> None:
        """kill -9."""
        await self.engine.close()
        await super().kill()

    async def stop(self) -> None:
        """Ends it gently."""
        await self.engine.close()
        await super().stop()

    @property
    def dicom_port(self) -> int:
        """Where scanners send to."""
        return int(self.ready["dicom"].rpartition(":")[2])

    async def seen(self, tid: str) -> TransferView | None:
        """The transfer, once this site has heard of it."""
        try:
            return await self.engine.transfer(tid)
        except GatewayError as why:
            if why.code != "absent":
                raise
            return None

    async def until(self, tid: str, *states: str) -> TransferView:
        """The transfer once it is in one of `states`."""
        return await self.when(tid, lambda view: view.state in states)

    async def when(self, tid: str, test: Callable[[TransferView], bool]) -> TransferView:
        """The transfer once `test` is true of it."""

        async def look() -> TransferView | None:
            view = await self.seen(tid)
            return view if view is not None and test(view) else None

        return await eventually(look)


class Link(Wire):
    """A wire to a port of this machine. `hold` lets so many more bytes through in one direction, and then none."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._left = {"up": 2**62, "down": 2**62}
        self._free = asyncio.Event()
        self.held = asyncio.Event()
        """Set once a byte is kept back."""
        self._words = b""

    def hold(self, direction: str, after: int) -> None:
        """Keeps back what goes in `direction` ("up": to the target, "down") after so many bytes more."""
        self._free.clear()
        self.held.clear()
        self._left[direction] = after

    def hold_at(self, words: bytes) -> None:
        """Keeps back whatever goes up from these words on."""
        self.release()
        self._free.clear()
        self.held.clear()
        self._words = words

    def release(self) -> None:
        """Everything passes again."""
        self._words = b""
        self._left = {"up": 2**62, "down": 2**62}
        self._free.set()

    async def _pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(2**14):
            if direction == "up" and self._words and self._words in data:
                self._left[direction] = data.index(self._words)
            while data:
                if (room := self._left[direction]) <= 0:
                    self.held.set()
                    await self._free.wait()
                    continue
                part, data = data[:room], data[room:]
                self._left[direction] -= len(part)
                sink.write(part)
                await sink.drain()
        raise ConnectionResetError  # one side is gone: so is the other


class Programs:
    """Everybody, running. Each gateway reaches the relay over a wire of its own; so does the receiver its PACS."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._relay_port, self._pacs_port = free_port(), free_port()
        self.sender, self.receiver = Gateway(base / "sender"), Gateway(base / "receiver")
        self.relay = self._relay()
        self.pacs = Program(
            "PACS", base / "pacs.log", sys.executable, "-m", "clients.gateway.dicom.pacs", "--dir",
            str(base / "pacs"), "--port", str(self._pacs_port), "--aet", "PACS",
        )  # fmt: skip
        self.up, self.down = Link(self._relay_port), Link(self._relay_port)
        """From the sender, and from the receiver, to the relay."""
        self.store = Link(self._pacs_port)
        """From the receiver to the PACS."""
        self.links = [self.up, self.down, self.store]
        self.cards: dict[str, dict[str, str]] = {}

    @property
    def programs(self) -> list[Program]:
        """All of them."""
        return [self.relay, self.pacs, self.sender, self.receiver]

    def _relay(self) -> Program:
        listen = f"127.0.0.1:{self._relay_port}"
        argv = ("run", "--config", str(self.base / "relay.toml"), "--listen", listen, "--json")
        return Program(
            "relay", self.base / "relay.log", *tool("relay", *argv, "--data", str(self.base / "relay"))
        )

    async def open(self, relay: str = "", **policy: int) -> None:
        """Starts, enrolls and pairs everybody. `relay`: more of relay.toml; `policy`: values of that table in both
        gateway.toml.
        """
        for link in self.links:
            await link.open()
        origins = [f"http://127.0.0.1:{link.port}" for link in (self.up, self.down)]
        (self.base / "relay.toml").write_text(f"origins = {msgspec.json.encode(origins).decode()}\n{relay}")
        await asyncio.gather(self.relay.start(), self.pacs.start())
        await asyncio.gather(
            self._hospital(self.sender, SENDER, origins[0], policy),
            self._hospital(
                self.receiver, RECEIVER, origins[1], policy, "--pacs", f"PACS@127.0.0.1:{self.store.port}"
            ),
        )
        for site, other in ((self.sender, "receiver"), (self.receiver, "sender")):
            await site.engine.pin_peer(self.cards[other]["card"], "test")

    async def _hospital(
        self, site: Gateway, name: str, relay: str, policy: dict[str, int], *extra: str
    ) -> None:
        await call(
            "gateway", "init", str(site.folder), "--name", name, "--relay", relay, "--http", "127.0.0.1:0",
            "--dicom", f"127.0.0.1:{free_port()}", "--aet", site.name.upper(), "--identity", "as-is", *extra,
        )  # fmt: skip
        file = site.folder / "gateway.toml"
        lines = [
            next((f"{key} = {value}" for key, value in policy.items() if line.startswith(f"{key} = ")), line)
            for line in file.read_text().splitlines()
        ]
        file.write_text("\n".join(lines) + "\n")
        self.cards[site.name] = await call("gateway", "card", str(site.folder))
        await call("relay", "enroll", str(self.base / "relay"), self.cards[site.name]["card"])
        await site.start()

    async def heal(self) -> None:
        """Whoever a test left dead or stopped runs again, and every wire is open."""
        for link in self.links:
            link.release()
        for program in self.programs:
            if program.process is None or program.process.returncode is not None:
                await program.start()
            else:
                program.resume()
        for site in (self.sender, self.receiver):
            await site.set_clock()

    async def close(self) -> None:
        """Ends everybody."""
        for link in self.links:
            link.release()
        for program in self.programs:
            if program.process is not None and program.process.returncode is None:
                program.resume()
        await asyncio.gather(*(program.stop() for program in self.programs))
        for link in self.links:
            await link.close()

    # What tests do with them

    async def offer(self, source: Path) -> TransferView:
        """Imports a study at the sender and offers it to the receiver."""
        view = await self.create(source)
        return await self.sender.when(view.tid, lambda v: v.link != "")

    async def create(self, source: Path) -> TransferView:
        """Imports a study at the sender and begins to send it."""
        result = await self.sender.engine.import_path(str(source), "test")
        assert len(result["studies"]) == 1, result
        return await self.sender.engine.send(result["studies"][0], RECEIVER, "drill", "test")

    async def answer(self, view: TransferView, d: str = "approve") -> str:
        """A phone with the right PIN answers; the state that S tells it."""
        async with Phone(view.link, view.pin) as phone:
            await phone.ask()
            status = await phone.decide(d, by="patient", name="", rel="self")
            assert status.refused == ""
            return status.state

    def at_pacs(self, uids: Iterable[str]) -> dict[str, list[bytes]]:
        """SHA-256 of every copy of these instances at the PACS, by SOP Instance UID."""
        wanted = set(uids)
        found: dict[str, list[bytes]] = {}
        for path in (self.base / "pacs").rglob("*.dcm"):
            header = read_header(path)
            if header.sop_uid in wanted:
                digest = hashlib.sha256(path.read_bytes()[header.data_offset :]).digest()
                found.setdefault(header.sop_uid, []).append(digest)
        return found


@contextlib.asynccontextmanager
async def running(base: Path, relay: str = "", **policy: int) -> AsyncIterator[Programs]:
    """Everybody, for as long as it is used. See `Programs.open`."""
    world = Programs(base)
    try:
        await world.open(relay, **policy)
        yield world
    finally:
        await world.close()


# Commands


class Done(msgspec.Struct, frozen=True):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Its JSON lines."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]

    @property
    def value(self) -> Any:
        """Its one JSON value."""
        (value,) = self.lines
        return value


async def command(*argv: str, stdin: str = "") -> Done:
    """Runs `trauma-transfer ...` to its end."""
    process = await asyncio.create_subprocess_exec(
        *tool(*argv), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        async with asyncio.timeout(2 * PATIENCE):
            out, err = await process.communicate(stdin.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    done = Done(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in done.out + done.err, done
    return done


class Running(Program):
    """A command that goes on, and tells events on its way (`--json` is added)."""

    def __init__(self, name: str, log: Path, *argv: str) -> None:
        super().__init__(name, log, *tool(*argv, "--json"))
        self.events: list[dict[str, Any]] = []

    async def start(self) -> dict[str, Any]:
        """Until its first event, whatever that is."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._argv, stdout=asyncio.subprocess.PIPE, stderr=log, stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        return await self.next()

    async def next(self) -> dict[str, Any]:
        """The next event; {} at the end."""
        assert self.process is not None
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        if not line:
            return {}
        self.events.append(msgspec.json.decode(line))
        return self.events[-1]

    async def event(self, name: str) -> dict[str, Any]:
        """The first event of this name, now or later."""
        for found in self.events:
            if found["event"] == name:
                return found
        while found := await self.next():
            if found["event"] == name:
                return found
        raise AssertionError(f"{self.name} ended without {name}: {[e['event'] for e in self.events]}")

    async def end(self) -> int:
        """Its exit code, after all its events."""
        while await self.next():
            pass
        assert self.process is not None
        return await self.process.wait()


# Studies


def write_study(
    folder: Path,
    instances: int = 6,
    side: int = 64,
    name: str = "Nadelohr^Xaver",
    seed: int = 0,
    study: str = "",
) -> dict[str, bytes]:
    """A CT of noise, which no codec makes smaller; SHA-256 of its data sets by SOP Instance UID. `study`: the UID of
    the one that these are late images of.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    study, series = study or generate_uid(), [generate_uid(), generate_uid()]
    for number in range(instances):
        pixels = random.integers(0, 2**16, (side, side), dtype=np.uint16)
        ds = instance(
            StudyInstanceUID=study, SeriesInstanceUID=series[number % 2], SeriesNumber=1 + number % 2,
            InstanceNumber=number, PatientName=name, PatientID=f"NADEL-{study[-12:]}", PatientBirthDate="19700102",
            AccessionNumber=f"ACC{study[-9:]}", StudyDescription="Nadelstudie", Rows=side, Columns=side,
            PixelData=pixels.tobytes(),
        )  # fmt: skip
        save(ds, folder / f"{number:03}.dcm")
    return digests(folder)


def digests(folder: Path) -> dict[str, bytes]:
    """SHA-256 of each data set in a folder, by SOP Instance UID."""
    found = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = read_header(path)
        found[header.sop_uid] = hashlib.sha256(path.read_bytes()[header.data_offset :]).digest()
    return found
