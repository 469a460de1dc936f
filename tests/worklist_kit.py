"""Worklists for tests: DCMTK's `wlmscpfs` over files made by pydicom, and one that says what it is told to."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from clients.gateway.dicom.scu import Destination
from clients.gateway.dicom.tls import TlsFiles, server_context
from clients.gateway.dicom.worklist import Worklist
from clients.gateway.dicom.worklist_child import MODEL
from tests.dicom_kit import free_port, save
from tests.peers import need

AET = "RIS"


def step(number: str, name: str, born: str = "19840312", **values: Any) -> Dataset:
    """One scheduled procedure step of a patient."""
    ds, one = Dataset(), Dataset()
    ds.SpecificCharacterSet = values.pop("SpecificCharacterSet", "ISO_IR 192")
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = number, name, born, "F"
    ds.AccessionNumber, ds.RequestedProcedureID, ds.RequestedProcedureDescription = (
        f"A{number}",
        "RP1",
        "Import",
    )
    ds.StudyInstanceUID = generate_uid()
    one.Modality, one.ScheduledStationAETitle, one.ScheduledProcedureStepID = "CT", "CT1", "SPS1"
    one.ScheduledProcedureStepStartDate, one.ScheduledProcedureStepStartTime = "20261124", "140300"
    one.ScheduledProcedureStepDescription, one.ScheduledPerformingPhysicianName = "Trauma CT", "TEST^A"
    ds.ScheduledProcedureStepSequence = [one]
    for key, value in values.items():
        setattr(ds, key, value)
    return ds


def destination(port: int, aet: str = AET, tls: TlsFiles | None = None, **times: float) -> Destination:
    """A worklist on this machine."""
    patience: dict[str, Any] = {
        "connect": 60.0,
        "association": 60.0,
        "response": 60.0,
        "stall": 60.0,
        **times,
    }
    return Destination(aet=aet, host="127.0.0.1", port=port, calling_aet="TRAUMATX", tls=tls, **patience)


def searcher(port: int, aet: str = AET, tls: TlsFiles | None = None, **times: float) -> Worklist:
    """That worklist, with the patience that a busy machine needs."""
    return Worklist(destination(port, aet, tls, **times), patience=170.0)


@contextlib.contextmanager
def wlmscpfs(folder: Path, steps: list[Dataset]) -> Iterator[int]:
    """DCMTK's worklist SCP as AE title RIS; its port."""
    paths, port = need("wlmscpfs", "echoscu"), free_port()
    (folder / AET).mkdir(parents=True)
    (folder / AET / "lockfile").touch()
    for i, ds in enumerate(steps):
        ds.SOPClassUID, ds.SOPInstanceUID = MODEL, generate_uid()
        save(ds, folder / AET / f"{i}.wl", ExplicitVRLittleEndian)
    process = subprocess.Popen(
        [paths["wlmscpfs"], "-dfp", str(folder), "--max-pdu", "131072", "-csk", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while subprocess.run(
            [paths["echoscu"], "-aec", AET, "127.0.0.1", str(port)], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < until, "wlmscpfs does not listen"
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def worklist(
    answer: Callable[[Dataset], Iterator[tuple[int, Dataset | None]]], tls: TlsFiles | None = None
) -> Iterator[int]:
    """A worklist that answers any query with what `answer` yields, over TLS where it has files for that; its port."""

    def handle(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        yield from answer(event.identifier)

    ae = AE(AET)
    ae.add_supported_context(MODEL, ImplicitVRLittleEndian)
    ae.network_timeout = ae.dimse_timeout = 30
    context = server_context(tls) if tls is not None else None  # wlmscpfs has no TLS
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, handle)], ssl_context=context
    )
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        for assoc in server.active_associations:
            assoc.abort()
        server.shutdown()
        for thread in threading.enumerate():
            if type(thread).__name__ == "Association":
                thread.join(10)


def identifier(data: bytes) -> Dataset:
    """A query as a worklist reads it."""
    return read_dataset(BytesIO(data), is_implicit_VR=True, is_little_endian=True)
