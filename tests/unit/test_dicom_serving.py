"""A C-STORE is served once, by the thread that received it, however the threads of its association take turns."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pynetdicom.association
import pynetdicom.transport
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dimse import DIMSEServiceProvider

from clients.gateway.dicom.upper_layer import Association
from clients.gateway.dicom.wire import Socket
from tests.dicom_kit import call, instance, save

CT = "1.2.840.10008.5.1.4.1.1.2"
STORES = 60


@pytest.fixture
def turns() -> Iterator[None]:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("turns")
def test_each_is_served_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served: Counter[str] = Counter()
    threads: set[str] = set()

    def store(event: evt.Event) -> int:
        served[event.request.AffectedSOPInstanceUID] += 1
        threads.add(type(threading.current_thread()).__name__)
        return 0

    peek = DIMSEServiceProvider.peek_msg

    def slow_peek(self: DIMSEServiceProvider) -> object:
        """Whoever looks before taking gives the others time to take it."""
        found = peek(self)
        threading.Event().wait(0.001)
        return found

    monkeypatch.setattr(DIMSEServiceProvider, "peek_msg", slow_peek)
    monkeypatch.setattr(pynetdicom.association, "Association", Association)  # those that are opened with us
    monkeypatch.setattr(pynetdicom.transport, "AssociationSocket", Socket)
    ae = AE("SCP")
    ae.add_supported_context(CT, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        images = [instance() for _ in range(STORES)]
        assoc = call(server.server_address[1], images[0])
        assert assoc.is_established
        statuses = [assoc.send_c_store(save(ds, tmp_path / "image")).get("Status") for ds in images]
        assoc.release()
    finally:
        server.shutdown()
    assert Counter(statuses) == {0: STORES}
    assert served == {ds.SOPInstanceUID: 1 for ds in images}
    assert threads == {"Dul"}
