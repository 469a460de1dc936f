"""A PACS by pynetdicom that keeps what it takes, and of which a test says what it does with each instance."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from clients.gateway.dicom.finder import STUDY_ROOT

Manner = Callable[[int, evt.Event], int]
"""The status for the n-th C-STORE (from 0); it may do anything else to the association as well."""
A_ABORT = b"\x07\0\0\0\0\x04\0\0\0\0"
"""By the service user, without a reason (PS3.8 9.3.8)."""


class OddPacs:
    """Counts and keeps; `manner` may be changed at any time. It outlives its server, as a PACS its restart."""

    def __init__(self) -> None:
        self.manner: Manner = lambda n, event: 0x0000
        self.while_it_comes: Callable[[int, evt.Event], None] = lambda n, event: None
        """Called with each P-DATA-TF of the n-th C-STORE, by the thread that reads: may hold or end the connection."""
        self.before_it_answers: Callable[[evt.Event], None] = lambda event: None
        """Called with each C-FIND."""
        self.asked: list[str] = []
        """SOP Instance UIDs in the order of the requests."""
        self.queries: list[str] = []
        """SOP Instance UIDs in the order of the C-FINDs."""
        self.kept: dict[str, list[bytes]] = {}
        """SHA-256 of each copy that it answered as stored."""
        self._one = threading.Lock()

    def store(self, event: evt.Event) -> int:
        """One C-STORE."""
        with self._one:
            n, uid = len(self.asked), str(event.request.AffectedSOPInstanceUID)
            self.asked.append(uid)
        status = self.manner(n, event)
        if status == 0 or status >> 12 == 0xB:
            self.keep(event)
        return status

    def keep(self, event: evt.Event) -> None:
        """It has this one, whatever it answers."""
        uid = str(event.request.AffectedSOPInstanceUID)
        digest = hashlib.sha256(event.request.DataSet.getvalue()).digest()
        with self._one:
            self.kept.setdefault(uid, []).append(digest)

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """One C-FIND."""
        uid = str(event.identifier.SOPInstanceUID)
        self.queries.append(uid)
        self.before_it_answers(event)
        if uid in self.kept:
            yield 0xFF00, event.identifier

    def pdu(self, event: evt.Event) -> None:
        """One PDU of any kind came."""
        if event.pdu.pdu_type == 0x04:
            self.while_it_comes(len(self.asked), event)


def hang_up(event: evt.Event, last: bytes = b"") -> None:
    """Ends the connection, with these last bytes; what has come already is not looked at."""
    sock = event.assoc.dul.socket.socket
    with contextlib.suppress(OSError):
        sock.sendall(last)
        sock.shutdown(socket.SHUT_RDWR)
        while sock.recv(2**16):
            pass
    sock.close()


@contextlib.contextmanager
def odd_pacs(port: int, *, again: OddPacs | None = None, queries: bool = False) -> Iterator[OddPacs]:
    """Listens at `port` for CT images as AE title PACS; it may be one that was there before, and answer C-FIND."""
    pacs = again or OddPacs()
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian])
    if queries:
        ae.add_supported_context(STUDY_ROOT)
    handlers = [(evt.EVT_C_STORE, pacs.store), (evt.EVT_C_FIND, pacs.find), (evt.EVT_PDU_RECV, pacs.pdu)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    assert server is not None
    try:
        yield pacs
    finally:
        server.shutdown()
        ae.shutdown()  # whoever came in meanwhile
