"""The query/retrieve SCU (PS3.4 C): C-FIND at each level, C-MOVE, and C-GET whose images come on the same association.

A `Puller` is an association that we opened and that one thread reads. In a C-GET the archive is the SCU of its
sub-operations, and we are the SCP (role selection, PS3.7 D.3.3.4): each C-STORE's data set lands in a file as it
arrives, is walked from end to end, forced to disk, told and only then answered, exactly as if it had come to our own
SCP (`landing`). C-STORE requests and responses to our own request come in one queue, in their order.

The number of answers, responses and images is bounded, and so is every wait. A C-MOVE need send no pending response
(C.4.2.1.4), so silence proves nothing: how long a silent one may go on is for the owner to say, who sees whether
images arrive (`Cancel`). An archive that ignores a C-CANCEL loses its association.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, cast

import msgspec
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE, C_STORE

from clients.gateway.dicom.arriving import Undecided, announced
from clients.gateway.dicom.commands import (
    encode_cancel_request,
    encode_find_request,
    encode_get_request,
    encode_move_request,
    encode_store_response,
)
from clients.gateway.dicom.landing import Folder, Held, Landing
from clients.gateway.dicom.query import STUDY_FIND, STUDY_GET, STUDY_MOVE
from clients.gateway.dicom.race import PENDING, SoleReader
from clients.gateway.dicom.refusals import REFUSALS, SUCCESS
from clients.gateway.dicom.scp import Received
from clients.gateway.dicom.upper_layer import TooLongError, p_data
from clients.gateway.errors import IntakeError

_MAX_IDENTIFIER = 2**23
"""Bytes of one answer: a list of failed images may be long."""
_MAX_RESPONSES = 1_000_000
"""Pending responses to one retrieve."""
_LONGEST = 12 * 3600.0
"""Seconds of one retrieve."""
_LONGEST_QUERY = 300.0
"""Seconds of one query, however many answers it has."""
_CANCELLED = 10.0
"""Seconds that an archive has to heed a C-CANCEL."""
_LOOK = 0.25
_CANCEL = 0xFE00
"""Status of what was cancelled (PS3.4 C.4.1.1.4, C.4.2.1.5)."""


class Response(msgspec.Struct, frozen=True):
    """One response to a retrieve."""

    status: int
    completed: int
    failed: int
    warning: int
    remaining: int
    identifier: bytes

    @property
    def is_last(self) -> bool:
        """No other follows."""
        return self.status not in PENDING


class Puller(SoleReader):
    """An association for queries and retrieves; used by one thread at a time."""

    folder: Folder | None = None
    """Where images of a C-GET land; None: there is no C-GET here."""

    def landing(self, message: DIMSEMessage) -> BytesIO:
        """A C-STORE's data set goes to a file, an identifier into memory."""
        return Undecided(message, self._place)

    def _place(self, message: DIMSEMessage) -> BytesIO:
        if isinstance(message, C_STORE_RQ) and self.folder is not None:
            return Landing(self.folder, lambda: announced(self, message))
        return Held(_MAX_IDENTIFIER)

    def search(self, context: int, identifier: bytes, most: int) -> Iterator[tuple[int, bytes]]:
        """C-FIND: the status and identifier of each response. After `most` pending ones it is cancelled (PS3.7
        9.3.2.3), and the last that comes then has status FE00.
        """
        self._send(context, encode_find_request(self._number(), STUDY_FIND), identifier)
        until, count, status = time.monotonic() + _LONGEST_QUERY, 0, PENDING[0]
        while status in PENDING and (response := self._answer(C_FIND, self._soon(until))) is not None:
            status, count = int(response.Status), count + 1
            if status in PENDING and count > most:
                if count == most + 1:
                    self._cancel(context)
                    until = time.monotonic() + _CANCELLED
                continue
            yield status, b"" if response.Identifier is None else response.Identifier.getvalue()
        if status in PENDING and count > most:  # it goes on and on: enough was heard
            self.drop()
            yield _CANCEL, b""

    def move(
        self, context: int, message: int, destination: str, identifier: bytes, cancelled: Callable[[], bool]
    ) -> Iterator[Response]:
        """C-MOVE to `destination`; the last response ends it, or nothing does and the association is over."""
        self._message = message
        self._send(context, encode_move_request(message, STUDY_MOVE, destination), identifier)
        return self._responses(context, C_MOVE, cancelled, lambda context, request: None)

    def get(
        self,
        context: int,
        message: int,
        identifier: bytes,
        cancelled: Callable[[], bool],
        tell: Callable[[Received], None],
    ) -> Iterator[Response]:
        """C-GET: images land, are told and answered as they come."""
        self._message = message
        self._send(context, encode_get_request(message, STUDY_GET), identifier)
        return self._responses(
            context, C_GET, cancelled, lambda context, request: self._take(context, request, tell)
        )

    def _responses(
        self,
        context: int,
        kind: type,
        cancelled: Callable[[], bool],
        take: Callable[[int, C_STORE], None],
    ) -> Iterator[Response]:
        until, told = time.monotonic() + _LONGEST, False
        for count in range(2**62):
            if not told and (cancelled() or count > _MAX_RESPONSES):
                told = True
                self._cancel(context)
                until = min(until, time.monotonic() + _CANCELLED)
            if time.monotonic() > until:
                return
            try:
                over = self.is_over()  # looked at first: what came before it ended is in the queue
                number, message = self.dimse.msg_queue.get(timeout=_LOOK)
            except queue.Empty:
                if over:
                    return
                continue
            if isinstance(message, C_STORE):
                take(number, message)
            elif isinstance(message, kind) and message.MessageIDBeingRespondedTo == self._message:  # type: ignore[attr-defined]
                response = _response(message)
                if response is None:
                    return
                yield response
                if response.is_last:
                    return

    def _take(self, context: int, request: C_STORE, tell: Callable[[Received], None]) -> None:
        """One image of a C-GET: on disk, told, answered; in this order."""
        landing = request.DataSet
        if request.MessageID is None or not isinstance(landing, Landing):
            raise TooLongError  # no request that anybody could answer
        status = SUCCESS
        try:
            landing.check()
            name = landing.settle()
        except IntakeError as why:
            landing.discard()
            status = REFUSALS[why.code].status
        else:
            meta = landing.meta
            tell(
                Received(
                    name=name, size=landing.size, data_offset=meta.data_offset, calling_aet=str(self.ae_title_of_peer),
                    sop_class=meta.sop_class, sop_uid=meta.sop_uid, syntax=meta.syntax, association="",
                    originator=self._message,
                )
            )  # fmt: skip
        command = encode_store_response(
            request.MessageID, str(request.AffectedSOPClassUID or ""), str(request.AffectedSOPInstanceUID or ""), status
        )  # fmt: skip
        self.dul.send_pdu(p_data(context, b"\x03" + command))

    @property
    def ae_title_of_peer(self) -> str:
        """Whom we called."""
        return str(self.acceptor.ae_title).strip()

    def _soon(self, until: float) -> float:
        """When the next response must be here."""
        return min(until, time.monotonic() + float(self.dimse_timeout))

    def _send(self, context: int, command: bytes, identifier: bytes) -> None:
        self.dul.send_pdu(p_data(context, b"\x03" + command))
        self.dul.send_pdu(p_data(context, b"\x02" + identifier))

    def _cancel(self, context: int) -> None:
        self.dul.send_pdu(p_data(context, b"\x03" + encode_cancel_request(self._message)))

    def drop(self) -> None:
        """Ends it, and takes away the file of an image that was under way."""
        super().drop()
        self.dul.join(1.0)  # it writes to that file
        message = self.dimse.message
        if message is not None and isinstance(message.data_set, Landing):
            message.data_set.discard()


def _response(message: Any) -> Response | None:
    """A response's numbers; None where it has no status."""
    if message.Status is None:
        return None
    identifier = cast(BytesIO | None, message.Identifier)
    return Response(
        int(message.Status),
        _number(message.NumberOfCompletedSuboperations), _number(message.NumberOfFailedSuboperations),
        _number(message.NumberOfWarningSuboperations), _number(message.NumberOfRemainingSuboperations),
        b"" if identifier is None else identifier.getvalue(),
    )  # fmt: skip


def _number(given: Any) -> int:
    return -1 if given is None else int(given)
