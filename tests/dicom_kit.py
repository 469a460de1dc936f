"""What the DICOM tests share: real files, made-up instances, and peers that behave or do not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.part10 import read_meta
from clients.gateway.dicom.structure import DEFLATED
from clients.gateway.errors import IntakeError
from tests.peers import need

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT.parent / "shared" / "data" / "dev"
BUNDLED = Path(pydicom.__file__).parent / "data"
FAST = {**os.environ, "TCP_NODELAY": "1"}
"""DCMTK's switch against 40 ms pauses."""


def corpus() -> list[Path]:
    """Real files and odd ones: what pydicom brings, and the studies beside this repository where they are."""
    return sorted(path for folder in (BUNDLED, DEV) for path in folder.rglob("*") if path.is_file())


def sendable() -> list[Path]:
    """Those of the corpus that are taken."""
    found = []
    for path in corpus():
        with contextlib.suppress(IntakeError):
            read_header(path)
            found.append(path)
    return found


def data_set(path: Path) -> bytes:
    """The data set's bytes of a DICOM file."""
    raw = path.read_bytes()
    return raw[read_meta(lambda at, n: raw[at : at + n]).data_offset :]


def digests(files: Iterable[Path]) -> Counter[str]:
    """How often each data set is there, as it crosses the wire: a deflated one of odd length with its pad byte."""
    return Counter(hashlib.sha256(_on_the_wire(path)).hexdigest() for path in files)


def _on_the_wire(path: Path) -> bytes:
    raw = path.read_bytes()
    meta = read_meta(lambda at, n: raw[at : at + n])
    body = raw[meta.data_offset :]
    return body + b"\0" * (len(body) % 2 if meta.syntax in DEFLATED else 0)


def instance(**changes: object) -> Dataset:
    """A small CT image; `changes` by keyword."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality = "Test^Phantom", "T1", "CT"
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = bytes(128)
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set's bytes."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == "1.2.840.10008.1.2"
    buffer.is_little_endian = syntax != "1.2.840.10008.1.2.2"
    write_dataset(buffer, ds)
    return buffer.getvalue()


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """A DICOM file by pydicom."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


def free_port() -> int:
    """A port that was free just now, and below those that the kernel gives to connections and to whoever asks for any
    (32768 and up on Linux): a program that is killed and started again would find one of them in its place.
    """
    for _ in range(1000):
        port = 15_000 + secrets.randbelow(17_000)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


@contextlib.contextmanager
def storescp(
    folder: Path, aet: str = "PACS", tls: tuple[str, ...] = (), more: tuple[str, ...] = ()
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """DCMTK's storescp, which writes exactly what it reads; (port, process). `tls` are its options for TLS, `more`
    are others of its own.
    """
    paths = need("storescp", "echoscu")
    port = free_port()
    folder.mkdir(exist_ok=True)
    command = [paths["storescp"], "-aet", aet, "-pdu", "131072", "+B", "+uf", "-od", str(folder), "+xa"]
    process = subprocess.Popen(
        [*command, *tls, *more, str(port)], env=FAST, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 30
        probe = [paths["echoscu"], *tls, "-aec", aet, "127.0.0.1", str(port)]
        while subprocess.run(probe, capture_output=True, check=False).returncode:
            assert time.monotonic() < until, "storescp does not listen"
        yield port, process
    finally:
        process.kill()
        process.wait()


def call(port: int, ds: Dataset | None = None, *, calling: str = "TEST", called: str = "SCP") -> Association:
    """An association by pynetdicom as it comes, which proposes the class of `ds`."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    contexts = [build_context("1.2.840.10008.1.1")]
    if ds is not None:
        contexts.append(build_context(ds.SOPClassUID, ExplicitVRLittleEndian))
    return ae.associate("127.0.0.1", port, contexts=contexts, ae_title=called)
