"""PACS of other people that can be asked what they hold: Debian's Orthanc and DCMTK's dcmqrscp."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from clients.gateway.dicom.tls import TlsFiles
from tests.dicom_kit import FAST, free_port
from tests.peers import need

_PATIENCE = 60.0


@contextlib.contextmanager
def orthanc(
    folder: Path,
    *,
    find: bool = True,
    knows: Mapping[str, object] | None = None,
    tls: TlsFiles | None = None,
    **more: object,
) -> Iterator[int]:
    """Orthanc as AE title PACS, which answers C-FIND of anybody or, as it is installed, of nobody; its DICOM port.
    `knows` are modalities by name (AE title, host, port), to which it reports; ECHOSCU is always one of them. `more`
    are settings of its own; `tls` is a caller's, where these ask for it.
    """
    program, folder = need("Orthanc")["Orthanc"], folder.absolute()
    folder.mkdir(exist_ok=True)
    settings = {
        "DicomAet": "PACS", "HttpServerEnabled": False, "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"), "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": find,
        "Plugins": [], "UnknownSopClassAccepted": True,
        "DicomModalities": {"echo": ("ECHOSCU", "127.0.0.1", 104), **(knows or {})},
        **more,
    }  # fmt: skip

    def start(port: int) -> list[str]:
        (folder / "orthanc.json").write_text(json.dumps({**settings, "DicomPort": port}))
        return [program, str(folder / "orthanc.json")]

    flags = [] if tls is None else ["+tls", tls.key, tls.cert, "+cf", tls.ca]
    with _listening(start, flags) as port:
        yield port


@contextlib.contextmanager
def dcmqrscp(folder: Path) -> Iterator[int]:
    """DCMTK's image archive as AE title PACS; its port."""
    program, store = need("dcmqrscp")["dcmqrscp"], folder.absolute() / "db"
    store.mkdir(parents=True, exist_ok=True)

    def start(port: int) -> list[str]:
        (folder / "dcmqrscp.cfg").write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
            "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nPACS {store} RW (20, 1024mb) ANY\nAETable END\n"
        )
        return [program, "-c", str(folder / "dcmqrscp.cfg")]

    with _listening(start) as port:
        yield port


@contextlib.contextmanager
def _listening(start: Callable[[int], list[str]], flags: Sequence[str] = ()) -> Iterator[int]:
    """The program, from its first answer to a C-ECHO until the block ends. Both refuse a port on which anybody had a
    connection a minute ago: then it gets another one.
    """
    echoscu, until = need("echoscu")["echoscu"], time.monotonic() + _PATIENCE
    port = free_port()
    process = _popen(start(port))
    try:
        while subprocess.run(
            [echoscu, *flags, "-aec", "PACS", "127.0.0.1", str(port)], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < until, f"{process.args!r} does not listen"
            if process.poll() is not None:
                port = free_port()
                process = _popen(start(port))
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # asked to end, they wait for whoever is still connected
        process.wait()


def _popen(command: list[str]) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen(command, env=FAST, stdout=null, stderr=null, start_new_session=True)
