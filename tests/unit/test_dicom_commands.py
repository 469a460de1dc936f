from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode

from clients.gateway.dicom.commands import encode_store_request, encode_store_response

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
