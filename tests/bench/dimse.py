"""Storage peers for the bench: DCMTK's and ours, each as a program or a child of its own, on this machine.

DCMTK always runs with `TCP_NODELAY=1` and PDUs of 128 KB, without which it is ten times slower (the Nagle
delay); its storescp writes the bytes that it reads (`+B`) and does not wait for the disk, while ours does
before it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from clients.gateway.dicom.header import InstanceHeader, read_header
from clients.gateway.dicom.scu import Destination, StoreScu
from tests.dicom_kit import FAST, free_port

DCMTK = "DCMTK"
MISSING = "DCMTK is not installed"
_PDU = "131072"
_START = 20.0


def have_dcmtk() -> bool:
    """Whether its programs are here."""
    return all(map(shutil.which, ("storescu", "storescp", "echoscu")))


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """DCMTK's SCP, which takes several associations at once; its port."""
    port = free_port()
    folder.mkdir(parents=True)
    argv = [
        "storescp",
        "--fork",
        "-aet",
        "PACS",
        "-pdu",
        _PDU,
        "+B",
        "+uf",
        "+xa",
        "-od",
        str(folder),
        str(port),
    ]
    process = subprocess.Popen(argv, env=FAST, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _START
        while subprocess.run(
            ["echoscu", "-aec", "PACS", "127.0.0.1", str(port)], capture_output=True, check=False
        ).returncode:
            if time.monotonic() > until:
                raise SystemExit("storescp does not listen")
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def our_scp(folder: Path) -> Iterator[int]:
    """The gateway's SCP as the bundled PACS runs it; its port."""
    argv = [sys.executable, "-m", "clients.gateway.dicom.pacs", "--dir", str(folder), "--aet", "PACS"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(msgspec.json.decode(process.stdout.readline())["port"])
    finally:
        process.terminate()
        process.wait()


def storescu(folder: Path, port: int) -> float:
    """Seconds that DCMTK takes to send a folder over one association, from start to end of its process."""
    argv = ["storescu", "-aec", "PACS", "-pdu", _PDU, "+sd", "127.0.0.1", str(port), str(folder)]
    start = time.monotonic()
    done = subprocess.run(argv, env=FAST, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"storescu ended with {done.returncode}: {done.stderr.decode()[-300:]}")
    return time.monotonic() - start


@contextlib.asynccontextmanager
async def our_scu(port: int, associations: int) -> AsyncIterator[StoreScu]:
    """The gateway's SCU, its child started and with no association yet, as it waits for the first image."""
    to = Destination(aet="PACS", host="127.0.0.1", port=port, calling_aet="BENCH")
    scu = StoreScu(to, associations=associations)
    await scu.start()
    try:
        yield scu
    finally:
        await scu.stop()


async def send(scu: StoreScu, files: list[tuple[Path, InstanceHeader]]) -> tuple[float, int]:
    """(seconds for all, those whose status never came). The associations are opened in that time."""
    start = time.monotonic()
    await scu.prepare((h.sop_class, h.syntax) for _, h in files)
    results = await asyncio.gather(*(scu.store(path, h.sop_class, h.sop_uid, h.syntax) for path, h in files))
    took = time.monotonic() - start
    refused = [r for r in results if r.kind not in ("ok", "unknown")]
    if refused:
        raise SystemExit(f"{len(refused)} instances were refused: {refused[0].code}")
    return took, sum(r.kind == "unknown" for r in results)


def send_ours(port: int, files: list[tuple[Path, InstanceHeader]], associations: int) -> tuple[float, int]:
    """One study by our SCU, as `send`."""

    async def run() -> tuple[float, int]:
        async with our_scu(port, associations) as scu:
            return await send(scu, files)

    return asyncio.run(run())


def headers(files: list[Path]) -> list[tuple[Path, InstanceHeader]]:
    """What a sender knows of its files before it sends."""
    return [(path, read_header(path)) for path in files]


def arrived(folder: Path) -> int:
    """Files that an SCP wrote."""
    return sum(1 for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
