"""The sole reader: how a response to a C-STORE or C-FIND cannot be lost.

pynetdicom runs a reactor thread beside each association, and a caller of `send_c_store` asks it to pause
while it waits for the response. The reactor says that it is paused, waits, and then takes it back; a caller
that comes in between sends, while the reactor makes one more round and takes the C-STORE-RSP off the queue,
as a message that nobody asked for. The caller waits in vain, the association is aborted, and an instance that
the PACS has stored counts as not answered. It happened once in six thousand sends on a loaded machine, and in
most runs over a slow network (pynetdicom 3.0.4).

Here the reactor of a requestor is not started at all. The thread that sends is the only one that reads: there
is nothing to race with, and no millisecond of waiting for the other. What the reactor did while nothing was
sent, `tend` does when it is asked to.

A peer that answers more than anybody asked is cut off: what it has said and nobody has read is bounded.
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_FIND, C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.pdu_primitives import A_ASSOCIATE

from clients.gateway.dicom.commands import encode_find_request, encode_store_request
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.upper_layer import Association, TooLongError, p_data

_LAST_COMMAND, _DATA, _LAST_DATA = b"\x03", b"\x00", b"\x02"
"""Message control headers (PS3.8 E.2)."""
_VALUE_HEAD = 6
"""Bytes that a presentation data value has in front of its fragment (PS3.8 9.3.5.1)."""
_LOOK = 0.25
_PARTING = 3.0
"""Seconds that a peer has to answer a release."""
_UNREAD = 256
"""Responses that may wait to be read, of at most 64 KiB each. One request has one, or a pending one for each match."""
_REJECTED = (0x01, 0x02)
"""For good, for now (PS3.8 9.3.4)."""
PENDING = (0xFF00, 0xFF01)
"""Statuses of a C-FIND response that is not the last (PS3.4 C.4.1.1.4)."""


class _Answers(queue.Queue):  # type: ignore[type-arg]
    """The peer's responses. One too many ends the association; that it has ended needs no room of its own."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds a response. Raises `TooLongError`; the provider's thread, which calls this, never waits here."""
        try:
            super().put(item, block=False)
        except queue.Full:
            if item[1] is not None:
                raise TooLongError from None


def event_answer(report: N_EVENT_REPORT) -> N_EVENT_REPORT:
    """The N-EVENT-REPORT-RSP that says that `report` was taken."""
    answer = N_EVENT_REPORT()
    answer.MessageIDBeingRespondedTo = report.MessageID
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = (
        report.AffectedSOPClassUID,
        report.AffectedSOPInstanceUID,
    )
    answer.EventTypeID, answer.Status = report.EventTypeID, 0x0000
    return answer


class SoleReader(Association):
    """An association that we opened; used by one thread at a time."""

    def __init__(self, ae: Any, mode: str) -> None:
        super().__init__(ae, mode)
        self.dimse.msg_queue = _Answers(_UNREAD)  # type: ignore[assignment]
        self._reports: queue.Queue[tuple[int, N_EVENT_REPORT]] = queue.Queue(_UNREAD)
        self._message = 0
        self.whole = False
        """Whether the end of the last instance was handed to the provider: before that the peer cannot have it."""

    def start(self) -> None:
        """Starts no reactor. Whoever asks finds it paused."""
        self._is_paused = True

    def contexts(self) -> dict[Pair, int]:
        """Context ids of what the peer took."""
        return {
            (str(c.abstract_syntax), str(c.transfer_syntax[0])): c.context_id
            for c in self.accepted_contexts
            if c.as_scu is not False
        }

    def store(
        self, context: int, sop_class: str, sop_uid: str, fd: int, offset: int, *, pad: bool = False
    ) -> int | None:
        """C-STORE of the data set in the file `fd` from `offset`: the status, or None if the answer never came.

        `pad` makes an odd data set even with a NUL, as a deflated one must be (PS3.5 A.5): DCMTK ends the association
        over an odd fragment, and whoever inflates does not see the byte.
        """
        command = encode_store_request(self._number(), sop_class, sop_uid)
        self.whole = False
        self.dul.send_pdu(p_data(context, _LAST_COMMAND + command))
        for value in self._fragments(fd, offset, pad=pad):
            self.whole = value.startswith(_LAST_DATA)
            self.dul.send_pdu(p_data(context, value))
            if not self.dul.is_alive():
                return None
        response = self._answer(C_STORE, time.monotonic() + self.dimse_timeout)
        return None if response is None else int(response.Status)

    def find(self, context: int, model: str, identifier: bytes) -> Iterator[tuple[int, bytes]]:
        """C-FIND: the status and the identifier of each response as it comes; the last status is not a pending one,
        unless the peer went silent or away. All of them together may take as long as the response to a C-STORE.
        """
        self.dul.send_pdu(p_data(context, _LAST_COMMAND + encode_find_request(self._number(), model)))
        self.dul.send_pdu(p_data(context, _LAST_DATA + identifier))
        until, status = time.monotonic() + self.dimse_timeout, PENDING[0]
        while status in PENDING and (response := self._answer(C_FIND, until)) is not None:
            status = int(response.Status)
            yield status, b"" if response.Identifier is None else response.Identifier.getvalue()

    def act(self, context: int, sop_class: str, instance: str, action: int, data: bytes) -> int | None:
        """N-ACTION (PS3.7 10.1.4): the status, or None if the answer never came."""
        request = N_ACTION()
        request.MessageID = self._number()
        request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = UID(sop_class), UID(instance)
        request.ActionTypeID, request.ActionInformation = action, BytesIO(data)
        self.dimse.send_msg(request, context)
        response = self._answer(N_ACTION, time.monotonic() + self.dimse_timeout)
        return None if response is None else int(response.Status)

    def events(self) -> Iterator[N_EVENT_REPORT]:
        """N-EVENT-REPORTs that have come meanwhile (PS3.7 10.1.1), each answered with success as it is handed on."""
        while True:
            try:
                context, report = self._reports.get_nowait()
            except queue.Empty:
                return
            yield report
            self.dimse.send_msg(event_answer(report), context)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """pynetdicom passes a valid N-EVENT-REPORT here, past the queue of answers and in a thread of its own (3.0.4):
        it is kept for `events`. One too many is not answered.
        """
        if isinstance(msg, N_EVENT_REPORT):
            with contextlib.suppress(queue.Full):
                self._reports.put_nowait((context_id, msg))

    def _number(self) -> int:
        """The id of the next message (PS3.7 E.1)."""
        self._message = self._message % 0xFFFF + 1
        return self._message

    def _fragments(self, fd: int, offset: int, *, pad: bool) -> Iterator[bytes]:
        """The data set in even pieces that the peer can take; the last one says so."""
        most = (self.dimse.maximum_pdu_size - _VALUE_HEAD) & ~1
        end = os.fstat(fd).st_size
        while offset < end:
            piece = os.pread(fd, min(most, end - offset), offset)
            if not piece:
                raise OSError
            offset += len(piece)
            if offset < end:
                yield _DATA + piece
            else:
                yield _LAST_DATA + piece + b"\0" * (pad and len(piece) % 2)

    def _answer(self, kind: type, until: float) -> Any:
        """The next response of `kind` to our last message; None if there is none until then, or it is broken."""
        while time.monotonic() < until:
            try:
                _, response = self.dimse.msg_queue.get(timeout=_LOOK)
            except queue.Empty:
                response = None
            if isinstance(response, kind) and response.MessageIDBeingRespondedTo == self._message:  # type: ignore[attr-defined]
                return None if response.Status is None else response  # type: ignore[attr-defined]
            if response is None and self.is_over():
                break
        return None

    def is_over(self) -> bool:
        """Whether the peer or the network has ended it."""
        return not self.is_established or bool(self.acse.is_aborted()) or not self.dul.is_alive()

    def rejection(self) -> tuple[int, int] | None:
        """(source, diagnostic) of the peer's A-ASSOCIATE-RJ (PS3.8 9.3.4), if that was its answer.

        pynetdicom looks whether it is connected before it looks for the answer: a peer that rejects and hangs up
        before that counts as one that could not be reached, and its reasons lie unread.
        """
        answers = [self.acceptor.primitive, *self.dul.to_user_queue.queue]
        for answer in answers:
            if isinstance(answer, A_ASSOCIATE) and answer.result in _REJECTED:
                return int(answer.result_source), int(answer.diagnostic)
        return None

    def tend(self) -> bool:
        """Looks after an association that has nothing to send; False once it is over."""
        if self.is_over():
            self.drop()
            return False
        if self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released, self.is_established = True, False
            self.drop()
            return False
        return True

    def part(self) -> None:
        """Releases the association (PS3.8 7.2), or drops it if the peer does not answer soon."""
        if self.tend():
            self.acse_timeout = _PARTING
            self.acse.send_release()
            self.dul.receive_pdu(wait=True, timeout=_PARTING)
            self.is_released, self.is_established = True, False
            self.drop()

    def drop(self) -> None:
        """Ends it without asking, and soon."""
        if self.is_established:
            self.is_established, self.is_aborted = False, True
            self.acse.send_abort(0x00)
        self.dul.join(0.2)
        if self.dul.is_alive():
            self.dul.socket._shutdown_socket()
            self.dul.kill_dul()
