"""The demo's PACS: the bundled one (keeps the exact bytes of the wire), Debian's Orthanc, or one that is there
already.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from clients.commands.parties import Party
from clients.gateway.dicom.header import read_header
from clients.gateway.errors import GatewayError
from clients.module import module

_START = 30.0


class Pacs:
    """A PACS at AET@HOST:PORT of which nothing more can be asked."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def compare(self, source: Path) -> tuple[int, int, str]:
        """(instances that are right there, instances sent, a sentence)."""
        n = len(await asyncio.to_thread(_hashes, source))
        return n, n, f"{n} images were accepted by {self.address}; look at them there."


class BundledPacs(Pacs):
    """Our own storage SCP: byte for byte is judged on its wire."""

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__(address)
        self._folder = folder

    async def compare(self, source: Path) -> tuple[int, int, str]:
        """Compares the SHA-256 of every data set by SOP Instance UID."""
        sent, there = await asyncio.to_thread(lambda: (_hashes(source), _hashes(self._folder)))
        same = sum(1 for uid, digest in sent.items() if there.get(uid) == digest)
        return (
            same,
            len(sent),
            f"{same} of {len(sent)} images are in {self._folder}, byte for byte as they were sent.",
        )


class OrthancPacs(Pacs):
    """Debian's Orthanc. It re-encodes some images (dicom.md), so it is asked which instances it holds."""

    def __init__(self, address: str, rest: str) -> None:
        super().__init__(address)
        self._rest = rest

    async def compare(self, source: Path) -> tuple[int, int, str]:
        """Asks for each SOP Instance UID."""
        sent = await asyncio.to_thread(_hashes, source)
        same = 0
        async with aiohttp.ClientSession() as session:
            for uid in sent:
                async with session.post(f"{self._rest}/tools/lookup", data=uid) as answer:
                    same += len(await answer.json()) == 1
        return same, len(sent), f"{same} of {len(sent)} images are in Orthanc: {self._rest}"


@contextlib.asynccontextmanager
async def open_pacs(kind: str, folder: Path) -> AsyncIterator[Pacs]:
    """A PACS of this kind, running. Raises `GatewayError`."""
    if kind == "bundled":
        party = Party(
            "PACS", folder.parent / "pacs.log", *module(
                "clients.gateway.dicom.pacs", "--dir", str(folder), "--port", "0", "--aet", "PACS"
            ),
        )  # fmt: skip
        ready = await party.start()
        try:
            yield BundledPacs(f"PACS@127.0.0.1:{ready['port']}", folder)
        finally:
            await party.stop()
    elif kind == "orthanc":
        async with _orthanc(folder) as pacs:
            yield pacs
    elif "@" in kind:
        yield Pacs(kind)
    else:
        raise GatewayError(
            "--pacs is bundled, orthanc or AET@HOST:PORT. Correct it and try again.", code="demo-pacs"
        )


@contextlib.asynccontextmanager
async def _orthanc(folder: Path) -> AsyncIterator[Pacs]:
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if program is None:
        raise GatewayError("Orthanc is not installed. Install it, or use --pacs bundled.", code="demo-pacs")
    dicom, http = _free_port(), _free_port()
    settings = {
        "Name": "demo", "DicomAet": "ORTHANC", "DicomPort": dicom, "HttpPort": http, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "DicomAlwaysAllowStore": True, "Plugins": [], "UnknownSopClassAccepted": True,
    }  # fmt: skip
    config = folder / "orthanc.json"
    await asyncio.to_thread(config.write_text, json.dumps(settings))
    with (folder.parent / "pacs.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(program, str(config), stdout=log, stderr=log)
    rest = f"http://127.0.0.1:{http}"
    try:
        await _answering(rest)
        yield OrthancPacs(f"ORTHANC@127.0.0.1:{dicom}", rest)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answering(rest: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(int(_START / 0.2)):
            try:
                async with session.get(f"{rest}/system") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise GatewayError("Orthanc does not answer. Look at its log with --keep.", code="demo-pacs")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _hashes(folder: Path) -> dict[str, bytes]:
    """SHA-256 of each data set in a folder, by SOP Instance UID."""
    found: dict[str, bytes] = {}
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    for file in files:
        with contextlib.suppress(GatewayError):
            header = read_header(file)
            found[header.sop_uid] = hashlib.sha256(file.read_bytes()[header.data_offset :]).digest()
    return found
