"""PACS of other people that can be asked what they hold: Debian's Orthanc and DCMTK's dcmqrscp."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.dicom_kit import FAST, free_port
from tests.peers import need

_PATIENCE = 60.0


@contextlib.contextmanager
def orthanc(folder: Path, *, port: int = 0, find: bool = True, **more: object) -> Iterator[int]:
    """Orthanc as AE title PACS, which answers C-FIND of anybody or, as it is installed, of nobody; its DICOM port.
    `more` are settings of its own. ECHOSCU is a title that it knows.
    """
    port, folder = port or free_port(), folder.absolute()
    folder.mkdir(exist_ok=True)
    settings = {
        "DicomAet": "PACS", "DicomPort": port, "HttpServerEnabled": False, "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"), "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": find,
        "Plugins": [], "UnknownSopClassAccepted": True, "DicomModalities": {"echo": ["ECHOSCU", "127.0.0.1", 104]},
        **more,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with _listening(port, [need("Orthanc")["Orthanc"], str(folder / "orthanc.json")]):
        yield port


@contextlib.contextmanager
def dcmqrscp(folder: Path, *, port: int = 0) -> Iterator[int]:
    """DCMTK's image archive as AE title PACS; its port."""
    port, store = port or free_port(), folder.absolute() / "db"
    store.mkdir(parents=True, exist_ok=True)
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {store} RW (20, 1024mb) ANY\nAETable END\n"
    )
    with _listening(port, [need("dcmqrscp")["dcmqrscp"], "-c", str(folder / "dcmqrscp.cfg")]):
        yield port


@contextlib.contextmanager
def _listening(port: int, command: list[str]) -> Iterator[None]:
    """The program, from its first answer to a C-ECHO until the block ends."""
    probe = [need("echoscu")["echoscu"], "-aec", "PACS", "127.0.0.1", str(port)]
    process = subprocess.Popen(command, env=FAST, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _PATIENCE
        while subprocess.run(probe, capture_output=True, check=False).returncode:
            assert process.poll() is None, f"{command[0]} has ended"
            assert time.monotonic() < until, f"{command[0]} does not listen"
        yield
    finally:
        process.terminate()
        process.wait()
