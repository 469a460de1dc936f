"""pynetdicom's upper layer (PS3.8), made to wait instead of poll, and to stop reading where a peer goes too far.

Everything that reaches below pynetdicom's documented interface is in this file, in `wire.py`, the socket below it, and
in `indication.py`, what it hands up; their tests guard each such place.

As it comes, the provider looks at its socket and its queue once a millisecond, reads 4 KiB at a time, copies
every PDU six times, believes any PDU length, waits for ever in `recv` and `send`, and queues a whole instance
in memory before the first byte is on the wire. Here it

- sleeps in one `poll` on the peer and on our own side, and wakes at once for either;
- reads a PDU into one buffer of its exact size, and hands on views of it;
- refuses a PDU longer than was agreed (PS3.8 D.1) before it reads it, and gives each PDU a deadline;
- queues a bounded number of PDUs, so a slow peer slows the sender instead of filling its memory;
- reads, serves and answers a C-STORE-RQ that has nothing unusual about it without a `Dataset` in between.
"""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
import time
from io import BytesIO
from typing import Any

import pynetdicom.ae
import pynetdicom.association
import pynetdicom.dimse_messages
import pynetdicom.transport
from pynetdicom import _config, evt
from pynetdicom.association import Association as _Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from clients.gateway.dicom.commands import encode_store_response
from clients.gateway.dicom.indication import Stored, decode_command, to_primitive
from clients.gateway.dicom.wire import Socket

MAX_PDU = 131072
"""Bytes of a P-DATA-TF's variable field that we announce, and the most that we send (PS3.8 D.1)."""
_MAX_OTHER_PDU = 2**20
"""Bytes of any other PDU: an A-ASSOCIATE-RQ with 128 contexts of every transfer syntax is far below."""
_MAX_COMMAND = 2**16
_QUEUED = 8
"""PDUs that wait to be sent."""
_IDLE_WAIT = 0.05
"""Seconds between two looks at the timers while nothing happens."""
_P_DATA_TF = 0x04
_HEAD = struct.Struct(">BBL")
_ITEM = struct.Struct(">LB")
_HANDLER_FAILED = 0xC211
"""What pynetdicom answers for a handler that raises."""


class TooLongError(Exception):
    """A peer sends more than was agreed. The association ends."""


class _Views:
    """A received P-DATA-TF, not copied: stands where `P_DATA_TF` would."""

    def __init__(self, body: bytearray) -> None:
        self._values: list[tuple[int, memoryview]] = []
        view, at = memoryview(body), 0
        while at < len(body):
            length, context = _ITEM.unpack_from(body, at)
            end = at + 4 + length
            if length < 2 or end > len(body):
                raise ValueError("presentation data value")
            self._values.append((context, view[at + 5 : end]))
            at = end

    def to_primitive(self) -> P_DATA:
        """The P-DATA indication (PS3.8 7.6)."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self._values)
        return primitive


class _Knocking(queue.Queue):  # type: ignore[type-arg]
    """What the provider has for its user. Each entry wakes a user who waits for a message."""

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds an entry, and an empty message."""
        super().put(item, block, timeout)
        if self._assoc.is_acceptor:
            self._assoc.dimse.msg_queue.put((None, None))


class Dul(DULServiceProvider):  # type: ignore[misc]
    """The upper layer's provider, one thread for each association."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.daemon = True
        self.max_pdu = MAX_PDU
        self._run_loop_delay = 0
        self.to_user_queue = _Knocking(assoc)
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)

    def rest(self, number: int) -> bool:
        """Waits for the peer (file descriptor `number`, or none), for our side or for a moment; True: the peer."""
        waiting = select.poll()
        waiting.register(self._bell, select.POLLIN)
        if number >= 0:
            waiting.register(number, select.POLLIN)
        found = dict(waiting.poll(_IDLE_WAIT * 1000 if number >= 0 else 2))
        if self._bell.fileno() in found:
            try:
                self._bell.recv(4096)
            except OSError:
                pass
        return number in found

    def ring(self) -> None:
        """Wakes the provider's thread."""
        try:
            self._button.send(b"\0")
        except OSError:  # full: it is awake; closed: it is gone
            pass

    def run_reactor(self) -> None:
        """The provider's loop, until it is killed."""
        try:
            super().run_reactor()
        except InvalidEventError:
            pass  # both ended it at the same moment: one event more than the table has; it is over all the same
        finally:
            if self.socket is not None and self.socket.socket is not None:
                self.socket.socket.close()
            self.to_user_queue.put(None)  # whoever waits for an answer need not wait for the time-out
            self._button.close()
            self._bell.close()

    def send_pdu(self, primitive: Any) -> None:
        """Queues a primitive. Waits while the peer is behind with what was queued before."""
        waiting = self.to_provider_queue
        if isinstance(primitive, P_DATA) and threading.current_thread() is not self:
            with waiting.not_full:
                while len(waiting.queue) >= _QUEUED and self.is_alive() and not self._kill_thread:
                    waiting.not_full.wait(_IDLE_WAIT)
        super().send_pdu(primitive)
        self.ring()

    def kill_dul(self) -> None:
        """Ends the thread."""
        super().kill_dul()
        self.ring()

    def stop_dul(self) -> bool:
        """Ends the thread if it is idle, and waits for it."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join(5)
        return not self.is_alive()

    def _read_pdu_data(self) -> None:
        """Reads one PDU and queues its event (PS3.8 9.2.3): Evt17 if the peer went away, Evt19 if it is no PDU."""
        if self.state_machine.current_state == "Sta13":  # all is said; what still comes is not looked at
            if not self.socket.discard():
                self.event_queue.put("Evt17")
            return
        try:
            head = self.socket.recv(_HEAD.size)
            if len(head) < _HEAD.size:
                self.event_queue.put("Evt17")
                return
            kind, _, length = _HEAD.unpack(head)
            if not 1 <= kind <= 7 or length > (self.max_pdu if kind == _P_DATA_TF else _MAX_OTHER_PDU):
                self.event_queue.put("Evt19")
                return
            body = self.socket.recv(length)
        except (OSError, AttributeError):
            self.event_queue.put("Evt17")
            return
        if len(body) < length:
            self.event_queue.put("Evt17")
            return
        try:
            if kind == _P_DATA_TF:
                pdu, event = _Views(body), "Evt10"
            else:
                pdu, event = self._decode_pdu(head + body)
        except Exception:
            self.event_queue.put("Evt19")
            return
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _send(self, pdu: Any) -> None:
        """Sends a PDU; a P-DATA-TF straight from its values."""
        if self.socket is None or not isinstance(pdu, P_DATA_TF):
            super()._send(pdu)
            return
        parts: list[bytes | memoryview] = [b""]
        for item in pdu.presentation_data_value_items:
            value = item.presentation_data_value
            parts += [_ITEM.pack(len(value) + 1, item.presentation_context_id), value]
        parts[0] = _HEAD.pack(_P_DATA_TF, 0, sum(map(len, parts)))
        self.socket.send_buffers(*parts)


class _Capped(BytesIO):
    """A command set as it arrives (PS3.7 6.3)."""

    def write(self, data: Any) -> int:
        """Raises `TooLongError`."""
        if self.tell() + len(data) > _MAX_COMMAND:
            raise TooLongError
        return super().write(data)


def p_data(context_id: int, value: bytes) -> P_DATA:
    """A P-DATA request of one value: its first byte says what it is (PS3.8 E.2)."""
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((context_id, value))
    return primitive


class _Messages(queue.Queue):  # type: ignore[type-arg]
    """Messages for the association's own thread. A C-STORE is kept aside for the one that received it: were it in the
    queue for a moment, both might serve it, or the one find it gone.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc
        self.aside: tuple[int, C_STORE] | None = None

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds a message, or keeps it aside. Only the provider's thread adds messages."""
        if isinstance(item[1], C_STORE) and item[0] in self._assoc._accepted_cx:
            self.aside = item
        else:
            super().put(item, block, timeout)


class Dimse(DIMSEServiceProvider):  # type: ignore[misc]
    """The message provider (PS3.7)."""

    message: DIMSEMessage | None

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._took_at = 0.0
        if assoc.is_acceptor:
            self.msg_queue = _Messages(assoc)

    def is_stuck(self) -> bool:
        """Whether a message is under way whose next fragment does not come."""
        patience = self.dimse_timeout
        return self.message is not None and bool(patience) and time.monotonic() - self._took_at > patience

    @property
    def maximum_pdu_size(self) -> int:
        """What the peer can take and we care to build; a peer that says 0 takes any."""
        theirs = int(super().maximum_pdu_size)
        return min(theirs, MAX_PDU) if theirs else MAX_PDU

    def get_msg(self, block: bool = False) -> Any:
        """The next message. An acceptor that has nothing else to do waits a moment for one."""
        if block or self.assoc.is_requestor:
            return super().get_msg(block)
        try:
            return self.msg_queue.get(timeout=_IDLE_WAIT)
        except queue.Empty:
            return None, None

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Sends a message. What a C-STORE is answered goes the short way."""
        if isinstance(primitive, C_STORE) and primitive.MessageIDBeingRespondedTo is not None:
            command = encode_store_response(
                primitive.MessageIDBeingRespondedTo,
                primitive.AffectedSOPClassUID or "",
                primitive.AffectedSOPInstanceUID or "",
                primitive.Status,
            )
            self.dul.send_pdu(p_data(context_id, b"\x03" + command))
        else:
            super().send_msg(primitive, context_id)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Takes in the next fragments of a message."""
        self._took_at = time.monotonic()
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.encoded_command_set = _Capped()
            self.message.data_set = self.assoc.landing(self.message)
        try:
            super().receive_primitive(primitive)
            if isinstance(self.msg_queue, _Messages) and self.msg_queue.aside is not None:
                (context, message), self.msg_queue.aside = self.msg_queue.aside, None
                self._serve_here(context, message)
        except Exception:
            self.dul.event_queue.put("Evt19")

    def _serve_here(self, context: int, message: C_STORE) -> None:
        """Serves a C-STORE in the thread that received it: handing it to another one and back costs as much again."""
        while not self.assoc.is_established and self.assoc.is_alive():  # our A-ASSOCIATE-AC was just sent
            time.sleep(0.001)
        if isinstance(message, Stored):
            self.assoc.serve_store(message, context)
        else:
            self.assoc._serve_request(message, context)


class Association(_Association):  # type: ignore[misc]
    """An association over this upper layer."""

    is_established: bool

    def __init__(self, ae: Any, mode: str) -> None:
        super().__init__(ae, mode)
        self.dul = Dul(self)
        self.dimse = Dimse(self)
        # The setters keep their times in the provider, which is another one now
        self.acse_timeout = ae.acse_timeout
        self.network_timeout = ae.network_timeout

    def landing(self, message: DIMSEMessage) -> BytesIO:
        """Where the data set of `message` is written as it arrives."""
        return _Capped()

    def serve_store(self, request: Any, context: int) -> None:
        """Has a C-STORE handled, and answers it."""
        if self._sent_release:
            return
        about = {"request": request, "context": self._accepted_cx[context].as_tuple}
        try:
            status = int(evt.trigger(self, evt.EVT_C_STORE, about))
        except Exception:
            status = _HANDLER_FAILED
        if self.is_established:
            answer = encode_store_response(
                request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID, status
            )
            self.dul.send_pdu(p_data(context, b"\x03" + answer))

    def _run_reactor(self) -> None:
        """Serves what the peer asks for until it releases, aborts, goes silent or away (PS3.8 9.2)."""
        while not self._kill:
            context, message = self.dimse.get_msg()
            if message:
                self._serve_request(message, context)
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released, self.is_established = True, False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
            elif self.acse.is_aborted() or not self.dul.is_alive():
                self.is_aborted, self.is_established = True, False
                evt.trigger(self, evt.EVT_ABORTED, {})
                self.kill()
            elif self.dul.idle_timer_expired() or self.dimse.is_stuck():
                self.abort()


def install(association: type[Association]) -> None:
    """Makes pynetdicom build its associations from `association`. For a child process, which has but one use for it."""
    pynetdicom.association.Association = association
    pynetdicom.ae.Association = association
    pynetdicom.transport.AssociationSocket = Socket
    pynetdicom.ae.AssociationSocket = Socket
    pynetdicom.dimse_messages.decode = decode_command
    C_STORE_RQ.message_to_primitive = to_primitive
    _config.LOG_HANDLER_LEVEL = "none"
