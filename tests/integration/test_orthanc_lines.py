"""Debian's Orthanc as docs/operate/pacs.md has it set, and with a line of that missing: what it does then, and by which
code that is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.query import Terms
from clients.gateway.dicom.scp import Reported, ScpConfig, StorageScp
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.dicom.source import Landed, Source
from clients.gateway.dicom.tls import TlsFiles
from tests.certificates import Authority
from tests.faults.real_pacs import orthanc
from tests.scu_kit import Image

PATIENCE = 60.0


@asynccontextmanager
async def gateway(
    folder: Path, tls: TlsFiles | None = None
) -> AsyncIterator[tuple[int, asyncio.Queue[Reported]]]:
    """Our receiver; its port, and the reports on commitments that come to it."""
    folder.mkdir()
    scp = StorageScp(ScpConfig(aet="TRAUMATX", port=0, min_free_bytes=0, tls=tls), folder)
    _, port = await scp.start()
    reports: asyncio.Queue[Reported] = asyncio.Queue()

    async def read() -> None:
        async for event in scp.events():
            if isinstance(event, Reported):
                reports.put_nowait(event)

    task = asyncio.create_task(read())
    try:
        yield port, reports
    finally:
        await scp.stop()
        await task


async def try_all(folder: Path, to: Destination) -> dict[str, str]:
    """C-ECHO, C-STORE, C-FIND, N-ACTION, C-MOVE and C-GET, each with what it came to."""
    image = Image(folder, "image.dcm")
    h = read_header(image.path)
    scu = StoreScu(to)
    await scu.start()
    echo, stored = await scu.echo(), await image.to(scu)
    found = await scu.find(h.study_uid, h.series_uid, image.uid)
    asked = await scu.commit(str(generate_uid()), [(image.sop_class, image.uid)])
    await scu.stop()
    said = {
        "echo": echo.code,
        "store": stored.code,
        "find": found.code or ("there" if found.there else "not there"),
        "commit": asked.code,
    }
    incoming = folder / "got"
    incoming.mkdir()
    source = Source(to, Landed(folder=str(incoming), min_free_bytes=0))
    await source.start()
    matches = await source.find(Terms(study=h.study_uid))
    said["search"] = matches.trouble or str(len(matches.matches))
    for how in ("move", "get"):
        async with asyncio.timeout(PATIENCE):
            async for line in source.retrieve(how, h.study_uid, 7, [image.sop_class], asyncio.Event()):  # type: ignore[arg-type]
                end: Any = line
        said[how] = end.trouble or f"{end.status:04X}"
    await source.stop()
    return said


GOOD = {
    "echo": "", "store": "", "find": "there", "commit": "", "search": "1", "move": "0000", "get": "0000",
}  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize(
    ("about", "changes"),
    [
        ("as it should be", {}),
        (
            "not in DicomModalities",
            {
                "find": "pacs-lost",
                "commit": "pacs-lost",
                "search": "pacs-lost",
                "move": "pacs-lost",
                "get": "pacs-lost",
            },
        ),
        ("another port in DicomModalities", {"move": "C000"}),
        ("not allowed there", {"commit": "pacs-lost", "move": "pacs-lost", "get": "pacs-lost"}),
    ],
)
async def test_what_a_missing_line_does(tmp_path: Path, about: str, changes: dict[str, str]) -> None:
    async with gateway(tmp_path / "us") as (port, reports):
        lines: dict[str, dict[str, Any]] = {
            "as it should be": {"us": ("TRAUMATX", "127.0.0.1", port)},
            "not in DicomModalities": {},
            "another port in DicomModalities": {"us": ("TRAUMATX", "127.0.0.1", 9)},
            "not allowed there": {
                "us": {"AET": "TRAUMATX", "Host": "127.0.0.1", "Port": port, "AllowMove": False, "AllowGet": False,
                       "AllowStorageCommitment": False},
            },
        }  # fmt: skip
        with orthanc(tmp_path / "pacs", find=False, knows=lines[about]) as pacs:
            to = Destination(aet="PACS", host="127.0.0.1", port=pacs, calling_aet="TRAUMATX")
            assert await try_all(tmp_path, to) == {**GOOD, **changes}
            if not changes:
                await asyncio.wait_for(reports.get(), PATIENCE)
        assert reports.empty()


@pytest.mark.peer
async def test_orthanc_over_tls(tmp_path: Path) -> None:
    """Both directions with certificates, as the page has it."""
    ca = Authority(tmp_path)
    theirs, ours = ca.issue("pacs"), ca.issue("gateway")
    tls = {"DicomTlsEnabled": True, "DicomTlsCertificate": theirs.cert, "DicomTlsPrivateKey": theirs.key,
           "DicomTlsTrustedCertificates": theirs.ca}  # fmt: skip
    async with gateway(tmp_path / "us", ours) as (port, reports):
        knows = {"us": {"AET": "TRAUMATX", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}}
        with orthanc(tmp_path / "pacs", find=False, knows=knows, tls=ours, **tls) as pacs:
            to = Destination(aet="PACS", host="127.0.0.1", port=pacs, calling_aet="TRAUMATX", tls=ours)
            assert await try_all(tmp_path, to) == GOOD
            await asyncio.wait_for(reports.get(), PATIENCE)
