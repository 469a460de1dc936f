"""A PACS by pynetdicom that keeps what it takes, and of which a test says what it does with each instance."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

Manner = Callable[[int, evt.Event], int]
"""The status for the n-th C-STORE (from 0); it may do anything else to the association as well."""


class OddPacs:
    """Counts and keeps; `manner` may be changed at any time."""

    def __init__(self) -> None:
        self.manner: Manner = lambda n, event: 0x0000
        self.asked: list[str] = []
        """SOP Instance UIDs in the order of the requests."""
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
            data = event.request.DataSet.getvalue()
            with self._one:
                self.kept.setdefault(uid, []).append(hashlib.sha256(data).digest())
        return status


@contextlib.contextmanager
def odd_pacs(port: int) -> Iterator[OddPacs]:
    """Listens at `port` for CT images as AE title PACS."""
    pacs = OddPacs()
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian])
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, pacs.store)])
    try:
        yield pacs
    finally:
        ae.shutdown()  # and ends what is open
