from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode

from clients.gateway.dicom.commands import (
    Command,
    decode_store_request,
    encode_store_request,
    encode_store_response,
)

CT = "1.2.840.10008.5.1.4.1.1.2"


def by_pynetdicom(primitive: C_STORE, message: C_STORE_RQ | C_STORE_RSP) -> Dataset:
    message.primitive_to_message(primitive)
    raw = encode(message.command_set, True, True)
    assert raw
    return decode(BytesIO(raw), True, True)


def by_us(raw: bytes) -> Dataset:
    return decode(BytesIO(raw), True, True)


def test_a_request_is_what_pynetdicom_would_say() -> None:
    for uid in ("1.2.3", "1.2.34"):
        primitive = C_STORE()
        primitive.MessageID, primitive.Priority = 65535, 0
        primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, uid
        ours, theirs = by_us(encode_store_request(65535, CT, uid)), by_pynetdicom(primitive, C_STORE_RQ())
        assert ours.CommandDataSetType == 0x0001
        del ours.CommandDataSetType, theirs.CommandDataSetType  # theirs has none, as it was given none
        assert ours == theirs


def test_a_response_is_what_pynetdicom_would_say() -> None:
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, 0xA700
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, "1.2.345"
    assert by_us(encode_store_response(7, CT, "1.2.345", 0xA700)) == by_pynetdicom(primitive, C_STORE_RSP())


def test_a_request_is_read_as_pynetdicom_reads_it() -> None:
    for uid in ("1.2.3", "1.2.34"):
        raw = encode_store_request(7, CT, uid)
        ours, theirs = decode_store_request(raw), by_us(raw)
        assert isinstance(ours, Command)
        assert ours == {e.keyword: e.value for e in theirs if e.tag.element}
        assert (ours.CommandField, ours.get("Nothing", "other")) == (1, "other")
        assert not hasattr(ours, "Nothing")


def test_one_of_a_move_names_its_originator() -> None:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 3, 1
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, "1.2.345"
    primitive.MoveOriginatorApplicationEntityTitle, primitive.MoveOriginatorMessageID = "ARCHIVE", 9
    primitive.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    raw = encode(message.command_set, True, True)
    assert raw is not None
    found = decode_store_request(raw)
    assert found is not None
    assert (found.MoveOriginatorApplicationEntityTitle, found.MoveOriginatorMessageID) == ("ARCHIVE", 9)


def test_what_is_unusual_is_left_to_pynetdicom() -> None:
    usual = encode_store_request(7, CT, "1.2.345")
    body = usual[12:]
    for raw in (
        b"",
        usual[:-1],
        usual + b"\0",
        usual + body,  # every element twice
        encode_store_response(7, CT, "1.2.345", 0),
        usual.replace(b"\0\0\x00\x08\x02\0\0\0\x01\0", b"\0\0\x00\x08\x02\0\0\0\x01\x01"),  # no data set
        encode_store_request(7, CT, "1.2.x"),
        encode_store_request(7, "", "1.2.3"),
        usual + b"\0\0\x31\x10\x04\0\0\0" + bytes(4),  # a number of the wrong length
        usual + b"\0\0\x32\x10\x02\0\0\0" + bytes(2),  # an element that has no place in it
        b"\x08" + usual[1:],
        usual[:12] + body[body.index(b"\0\0\x10\x01") :],  # without its class
    ):
        assert decode_store_request(raw) is None
