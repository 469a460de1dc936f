"""The command sets of C-STORE, C-FIND, C-GET, C-MOVE and C-CANCEL (PS3.7 9.3, E.1), encoded by hand: in Implicit VR
Little Endian, elements in order; and the usual C-STORE-RQ, read by hand.

They are sent once for each instance. pydicom's general encoder takes half a millisecond for the same 120
bytes, and its decoder as long again, which is as long as it takes to put half a megabyte on the wire.
"""

from __future__ import annotations

import struct
from typing import Any

from clients.gateway.dicom.part10 import is_uid

_NO_DATA_SET, _DATA_SET = 0x0101, 0x0001
_STORE_RQ, _STORE_RSP, _FIND_RQ = 0x0001, 0x8001, 0x0020
_GET_RQ, _MOVE_RQ, _CANCEL_RQ = 0x0010, 0x0021, 0x0FFF
_MEDIUM = 0x0000
_HEAD = struct.Struct("<HHL")
_UIDS = {0x0002: "AffectedSOPClassUID", 0x1000: "AffectedSOPInstanceUID"}
_NUMBERS = {
    0x0100: "CommandField", 0x0110: "MessageID", 0x0700: "Priority", 0x0800: "CommandDataSetType",
    0x1031: "MoveOriginatorMessageID",
}  # fmt: skip
_NEEDED = {*_UIDS.values(), "CommandField", "MessageID", "Priority", "CommandDataSetType"}


def encode_store_request(message: int, sop_class: str, sop_uid: str) -> bytes:
    """C-STORE-RQ, priority medium; a data set follows."""
    return _group(
        _uid(0x0002, sop_class),
        _us(0x0100, _STORE_RQ),
        _us(0x0110, message),
        _us(0x0700, _MEDIUM),
        _us(0x0800, _DATA_SET),
        _uid(0x1000, sop_uid),
    )


def encode_store_response(message: int, sop_class: str, sop_uid: str, status: int) -> bytes:
    """C-STORE-RSP to the request `message`."""
    return _group(
        _uid(0x0002, sop_class),
        _us(0x0100, _STORE_RSP),
        _us(0x0120, message),
        _us(0x0800, _NO_DATA_SET),
        _us(0x0900, status),
        _uid(0x1000, sop_uid),
    )


class Command(dict[str, Any]):
    """The elements of a command set by their keywords, to be read as pydicom's `Dataset` is: as attributes, and by
    `get`.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def decode_store_request(data: bytes) -> Command | None:
    """A C-STORE-RQ with a data set (PS3.7 9.3.1.1) as nearly everybody sends it; None for whatever else it may be,
    also for one with a fault, which is left to who judges faults.
    """
    found, at, last = Command(), 0, -1
    while at < len(data):
        if len(data) < at + 8:
            return None
        group, element, length = _HEAD.unpack_from(data, at)
        at += 8 + length
        value = data[at - length : at]
        if group or element <= last or len(value) < length:
            return None
        last = element
        if element in _UIDS:
            text = value.rstrip(b"\0").decode("latin-1")
            if not is_uid(text):
                return None
            found[_UIDS[element]] = text
        elif element in _NUMBERS and length == 2:
            found[_NUMBERS[element]] = int.from_bytes(value, "little")
        elif element == 0x1030 and value.isascii():
            found["MoveOriginatorApplicationEntityTitle"] = value.decode().strip("\0 ")
        elif element:
            return None
    if found.keys() < _NEEDED or found.CommandField != _STORE_RQ or found.CommandDataSetType == _NO_DATA_SET:
        return None
    return found


def encode_find_request(message: int, model: str) -> bytes:
    """C-FIND-RQ in the information model `model`, priority medium; the identifier follows."""
    return _query(_FIND_RQ, message, model)


def encode_get_request(message: int, model: str) -> bytes:
    """C-GET-RQ in the information model `model`, priority medium; the identifier follows."""
    return _query(_GET_RQ, message, model)


def encode_move_request(message: int, model: str, destination: str) -> bytes:
    """C-MOVE-RQ to the AE title `destination`, priority medium; the identifier follows."""
    return _query(_MOVE_RQ, message, model, _ae(0x0600, destination))


def encode_cancel_request(message: int) -> bytes:
    """C-CANCEL-RQ of the request `message` (PS3.7 9.3.2.3)."""
    return _group(_us(0x0100, _CANCEL_RQ), _us(0x0120, message), _us(0x0800, _NO_DATA_SET))


def _query(field: int, message: int, model: str, destination: bytes = b"") -> bytes:
    return _group(
        _uid(0x0002, model),
        _us(0x0100, field),
        _us(0x0110, message),
        destination,
        _us(0x0700, _MEDIUM),
        _us(0x0800, _DATA_SET),
    )


def _group(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _us(element: int, value: int) -> bytes:
    return struct.pack("<HHLH", 0, element, 2, value)


def _uid(element: int, text: str) -> bytes:
    value = text.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, element, len(value)) + value


def _ae(element: int, title: str) -> bytes:
    value = title.encode("ascii")
    value += b" " * (len(value) % 2)
    return struct.pack("<HHL", 0, element, len(value)) + value
