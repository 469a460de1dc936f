"""A PACS by pynetdicom that commits (PS3.4 J), or does about it what a test says: reports once, twice, never, about
others, on an association of its own or on the one that asked; refuses with any status.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, Association, build_role, evt

from clients.gateway.dicom.commitment import ALL_SAFE, PUSH_INSTANCE, PUSH_MODEL, SOME_FAILED
from clients.gateway.dicom.finder import STUDY_ROOT
from tests.faults.pacs import OddPacs

ABSENT = 0x0112
Say = Callable[["CommittingPacs", evt.Event, str, list[str]], int]
"""Answers a request (its transaction and SOP Instance UIDs) with a status, after it has arranged for its reports."""


class CommittingPacs(OddPacs):
    """Reports to the SCP at `to`, AE title `title`. It has lost what a test puts into `gone`, once; what is sent again
    it has again.
    """

    def __init__(self, to: int = 0, say: Say | None = None, title: str = "TRAUMATX") -> None:
        super().__init__()
        self.to, self.say, self.title = to, say or honest, title
        self.gone: set[str] = set()
        self.requests: list[list[str]] = []
        """SOP Instance UIDs of each N-ACTION."""
        self.transactions: list[str] = []
        self.told: list[int] = []
        """What our side answered to each report, as it came."""
        self.requested = threading.Event()
        self._telling: list[threading.Thread] = []

    def lose(self, uid: str) -> None:
        """It has taken this one, and does not have it."""
        self.gone.add(uid)

    def keep(self, event: evt.Event) -> None:
        """It has this one; or so it says."""
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in self.gone:
            self.gone.discard(uid)
        else:
            super().keep(event)

    def action(self, event: evt.Event) -> tuple[int, None]:
        """One N-ACTION."""
        asked = event.action_information
        uids = [str(item.ReferencedSOPInstanceUID) for item in asked.ReferencedSOPSequence]
        self.requests.append(uids)
        self.transactions.append(str(asked.TransactionUID))
        self.requested.set()
        return self.say(self, event, self.transactions[-1], uids), None

    def tell(
        self,
        transaction: str,
        safe: list[str],
        failed: list[tuple[str, int]],
        *,
        over: Association | None = None,
        times: int = 1,
    ) -> None:
        """Reports, from a thread of its own, over an association of its own or `over` this one."""
        thread = threading.Thread(target=self._tell, args=(_report(transaction, safe, failed), over, times))
        self._telling.append(thread)
        thread.start()

    def _tell(self, report: tuple[Dataset, int], over: Association | None, times: int) -> None:
        assoc = over or _associate(self.to, self.title)
        for _ in range(times):
            status, _ = assoc.send_n_event_report(*report, PUSH_MODEL, PUSH_INSTANCE)
            self.told.append(int(status.get("Status", -1)))
        if over is None:
            assoc.release()

    def finish(self) -> None:
        """Waits for all reports."""
        for thread in self._telling:
            thread.join()


def honest(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
    """All that it has is safe, over an association of its own."""
    has = [uid for uid in uids if uid in pacs.kept]
    pacs.tell(transaction, has, [(uid, ABSENT) for uid in uids if uid not in has])
    return 0x0000


def _associate(port: int, title: str) -> Association:
    ae = AE("PACS")
    ae.add_requested_context(PUSH_MODEL, ImplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", port, ae_title=title, ext_neg=[build_role(PUSH_MODEL, scp_role=True)])
    assert assoc.is_established
    return assoc


def _report(transaction: str, safe: list[str], failed: list[tuple[str, int]]) -> tuple[Dataset, int]:
    report = Dataset()
    report.TransactionUID = transaction
    report.ReferencedSOPSequence = [_reference(uid) for uid in safe]
    if failed:
        report.FailedSOPSequence = [_reference(uid, reason) for uid, reason in failed]
    return report, SOME_FAILED if failed else ALL_SAFE


def _reference(uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
    if reason is not None:
        item.FailureReason = reason
    return item


@contextlib.contextmanager
def committing_pacs(port: int, pacs: CommittingPacs, *, queries: bool = False) -> Iterator[CommittingPacs]:
    """`pacs` listens at `port` as AE title PACS; it may answer C-FIND too."""
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian])
    ae.add_supported_context(PUSH_MODEL, ImplicitVRLittleEndian)
    if queries:
        ae.add_supported_context(STUDY_ROOT)
    handlers = [
        (evt.EVT_C_STORE, pacs.store), (evt.EVT_C_FIND, pacs.find), (evt.EVT_PDU_RECV, pacs.pdu),
        (evt.EVT_N_ACTION, pacs.action),
    ]  # fmt: skip
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    assert server is not None
    try:
        yield pacs
    finally:
        server.shutdown()
        pacs.finish()
        ae.shutdown()  # whoever came in meanwhile
