"""The race that loses responses: that it is still there in pynetdicom, and not in ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynetdicom.ae
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.wire import Socket, prepare
from tests.dicom_kit import instance, save

CT = "1.2.840.10008.5.1.4.1.1.2"
SENDS = 300


@pytest.fixture
def port() -> Iterator[int]:
    ae = AE("PEER")
    ae.add_supported_context(CT, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)])
    yield server.server_address[1]
    server.shutdown()


def associate(port: int, dimse_timeout: float) -> Any:
    ae = AE("US")
    ae.dimse_timeout, ae.network_timeout = dimse_timeout, None
    assoc = ae.associate(
        "127.0.0.1",
        port,
        contexts=[build_context(CT, ExplicitVRLittleEndian)],
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: prepare(event.assoc.dul.socket.socket, 30))],
    )
    assert assoc.is_established
    return assoc


def test_pynetdicom_still_loses_a_response(port: int) -> None:
    """When this fails, pynetdicom has cured its race, and `race.py` may have had its day.

    Two threads are held where a busy machine may hold them: the reactor behind its checkpoint until the response is
    there, the sender between its last byte and its look at the queue.
    """
    assoc: Association = associate(port, 1.0)
    wait, get_msg, looked = assoc._reactor_checkpoint.wait, assoc.dimse.get_msg, threading.Event()

    def hold_reactor(timeout: float | None = None) -> bool:
        passed = wait(timeout)
        until = time.monotonic() + 5
        while assoc.dimse.msg_queue.empty() and time.monotonic() < until:
            time.sleep(0.001)
        return passed

    def hold_sender(block: bool = False) -> Any:
        if threading.current_thread() is assoc:
            found = get_msg(block)
            looked.set()
            return found
        looked.wait(5)
        return get_msg(block)

    assoc._reactor_checkpoint.wait = hold_reactor  # type: ignore[method-assign]
    while not assoc._is_paused:  # the reactor is on its way into the place where it is held
        time.sleep(0.001)
    assoc.dimse.get_msg = hold_sender
    ds = instance()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert "Status" not in assoc.send_c_store(ds)
    assoc.abort()


def test_ours_loses_none_with_the_window_wide_open(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pynetdicom.ae, "Association", SoleReader)
    monkeypatch.setattr(pynetdicom.ae, "AssociationSocket", Socket)
    path = save(instance(), tmp_path / "a.dcm")
    assoc: SoleReader = associate(port, 20.0)
    wait, readers = assoc._reactor_checkpoint.wait, set()

    def slow(timeout: float | None = None) -> bool:
        passed = wait(timeout)
        readers.add("reactor")
        time.sleep(0.003)
        return passed

    assoc._reactor_checkpoint.wait = slow  # type: ignore[method-assign]
    ds = instance()
    with path.open("rb") as file:
        statuses = [
            assoc.store(
                assoc.contexts()[(CT, ExplicitVRLittleEndian)], CT, ds.SOPInstanceUID, file.fileno(), 400
            )
            for _ in range(SENDS)
        ]
    assert statuses == [0] * SENDS
    assert readers == set()  # nobody but the sender reads
    assoc.part()


def test_a_rejection_that_hung_up_before_we_looked_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in fifty on a loaded machine: the reason was lost, and the PACS said not to answer."""
    monkeypatch.setattr(pynetdicom.ae, "Association", SoleReader)
    monkeypatch.setattr(pynetdicom.ae, "AssociationSocket", Socket)
    peer = AE("PEER")
    peer.add_supported_context(CT, ExplicitVRLittleEndian)
    peer.require_called_aet = True
    server = peer.start_server(("127.0.0.1", 0), block=False)
    try:
        assoc = AE("US").associate(
            "127.0.0.1",
            server.server_address[1],
            contexts=[build_context(CT, ExplicitVRLittleEndian)],
            ae_title="OTHER",
            evt_handlers=[(evt.EVT_REQUESTED, lambda event: event.assoc.dul.join(20))],
        )
        assert not assoc.is_rejected, "pynetdicom sees it by itself now: `rejection` may have had its day"
        assert isinstance(assoc, SoleReader)
        assert assoc.rejection() == (0x01, 0x07)
    finally:
        server.shutdown()
