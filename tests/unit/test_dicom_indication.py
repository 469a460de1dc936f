"""`clients.gateway.dicom.indication`: the short way says what pynetdicom's says, and leaves to it what is unusual."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode

from clients.gateway.dicom.commands import Command, encode_store_request
from clients.gateway.dicom.indication import Stored, decode_command, to_primitive

CT = "1.2.840.10008.5.1.4.1.1.2"
SAID = (
    "MessageID", "AffectedSOPClassUID", "AffectedSOPInstanceUID", "Priority", "MoveOriginatorApplicationEntityTitle",
    "MoveOriginatorMessageID", "is_valid_request", "msg_type",
)  # fmt: skip


def request(**elements: Any) -> bytes:
    """A command set as somebody sends it, with some elements changed."""
    command = decode(BytesIO(encode_store_request(7, CT, "1.2.345")), True, True)
    for keyword, value in elements.items():
        setattr(command, keyword, value)
    command.CommandGroupLength = len(encode(command, True, True) or b"") - 12
    return encode(command, True, True) or b""


def taken(command: Command | Dataset) -> C_STORE:
    message = C_STORE_RQ()
    message.command_set, message.context_id, message.data_set = command, 5, BytesIO(b"pixels")
    return (
        to_primitive(message) if isinstance(command, Command) else DIMSEMessage.message_to_primitive(message)
    )


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"Priority": 2},
        {"MoveOriginatorApplicationEntityTitle": "ARCHIVE", "MoveOriginatorMessageID": 9},
        {"AffectedSOPInstanceUID": "1.2.3456"},
    ],
)
def test_both_ways_say_the_same(elements: dict[str, Any]) -> None:
    raw = request(**elements)
    ours, theirs = (
        taken(decode_command(BytesIO(raw), True, True)), taken(decode(BytesIO(raw), True, True)),
    )  # fmt: skip
    assert isinstance(ours, Stored)
    for name in SAID:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert (ours._context_id, ours.DataSet.getvalue()) == (5, b"pixels")


@pytest.mark.parametrize("elements", [{"AffectedSOPInstanceUID": "none"}, {"ErrorComment": "odd"}])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_the_unusual_goes_the_other_way(elements: dict[str, Any]) -> None:
    found = decode_command(BytesIO(request(**elements)), True, True)
    assert isinstance(found, Dataset)
    message = C_STORE_RQ()
    message.command_set, message.context_id, message.data_set = found, 5, BytesIO()
    assert type(to_primitive(message)) is C_STORE


def test_a_priority_that_there_is_not_is_said_as_before() -> None:
    found = decode_command(BytesIO(request(Priority=7)), True, True)
    assert isinstance(found, Command)
    with pytest.raises(ValueError, match="Priority"):
        taken(found)
