"""Two hospitals on slow links: from `send` to the first and the last image at the PACS, approved as soon as
the link is out.

Each gateway reaches the relay through a `tests.bench.link` of its own: 10, 50 and 200 Mb/s, 20 ms each way.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from clients.commands.parties import Party, call, tool
from clients.phantom import write_study
from tests.bench.table import line

_SLICES = 638
"""Makes 680 instances with the phantom's own 2 scouts and 40 slices of the head."""
_GATES = {10: ("115 s", "105 s"), 50: ("24 s", "21 s"), 200: ("11 s", "7 s")}
_FIRST = ("1.5 s", "0.6 s")


async def _measure(base: Path, study: Path, megabits: int) -> tuple[float, float]:
    async with AsyncExitStack() as ends:

        async def start(name: str, *argv: str) -> dict[str, str]:
            party = Party(name, base / f"{name}.log", *argv)
            ready = await party.start()
            ends.push_async_callback(party.stop)
            return ready

        relay, ports = base / "relay", {}
        relay.mkdir()
        config = base / "relay.toml"
        probe = await start(
            "probe", *tool("relay", "run", "--listen", "127.0.0.1:0", "--data", str(base / "x"), "--json")
        )
        port = int(probe["url"].rsplit(":", 1)[1]) + 1
        for side in ("sender", "receiver"):
            link = await start(
                f"link-{side}", sys.executable, "-m", "tests.bench.link", "--to", str(port), "--rate",
                str(megabits * 125_000), "--delay", "0.02",
            )  # fmt: skip
            ports[side] = link["port"]
        origins = [f"http://127.0.0.1:{p}" for p in ports.values()]
        config.write_text(f'listen = "127.0.0.1:{port}"\ndata = "{relay}"\norigins = {json.dumps(origins)}\n')
        await start("relay", *tool("relay", "run", "--config", str(config), "--json"))
        pacs = await start(
            "pacs", sys.executable, "-m", "clients.gateway.dicom.pacs", "--dir", str(base / "pacs"), "--port", "0",
            "--aet", "PACS",
        )  # fmt: skip
        cards = {}
        for side in ("sender", "receiver"):
            folder = str(base / side)
            extra = ("--pacs", f"PACS@127.0.0.1:{pacs['port']}") if side == "receiver" else ()
            await call(
                "gateway", "init", folder, "--name", side, "--relay", f"http://127.0.0.1:{ports[side]}", "--dicom",
                "127.0.0.1:0", "--http", "127.0.0.1:0", *extra,
            )  # fmt: skip
            cards[side] = await call("gateway", "card", folder)
            await call("relay", "enroll", str(relay), cards[side]["card"])
        for side, other in (("sender", "receiver"), ("receiver", "sender")):
            await start(side, *tool("gateway", "run", str(base / side), "--json"))
            mark = cards[other]["fingerprint"]
            await call("gateway", "pin", str(base / side), cards[other]["card"], "--fingerprint", mark)
        return await _send(base, study)


async def _send(base: Path, study: Path) -> tuple[float, float]:
    """(first, last) in seconds from the start of `send`."""
    start, first = time.monotonic(), 0.0
    send = await asyncio.create_subprocess_exec(
        *tool("send", str(base / "sender"), "--path", str(study), "--to", "receiver", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert send.stdout is not None
    phone = None
    while not first or send.returncode is None:
        try:
            text = await asyncio.wait_for(send.stdout.readline(), 0.02)
        except TimeoutError:
            text = b""
        if b'"offered"' in text:
            offered = json.loads(text)
            phone = await asyncio.create_subprocess_exec(
                *tool("phone", offered["link"], "--pin", offered["pin"], "--approve", "--json"),
                stdout=asyncio.subprocess.DEVNULL,
            )
        if not first and any((base / "pacs").rglob("*.dcm")):
            first = time.monotonic() - start
        if b'"complete"' in text:
            break
        if send.stdout.at_eof():
            raise SystemExit("the transfer did not complete")
    last = time.monotonic() - start
    await send.wait()
    if phone is not None:
        await phone.wait()
    return first, last


async def _run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        write_study(study, slices=_SLICES)
        for megabits, (gate, goal) in _GATES.items():
            base = Path(folder) / str(megabits)
            base.mkdir()
            first, last = await _measure(base, study, megabits)
            line(f"first image at the PACS from send, {megabits} Mb/s, 40 ms", f"{first:.1f} s", *_FIRST)
            line(f"complete at the PACS from send, {megabits} Mb/s, 40 ms", f"{last:.1f} s", gate, goal)


def main() -> None:
    """Prints the rows."""
    asyncio.run(_run())
