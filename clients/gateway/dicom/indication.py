"""What the message provider hands up of a C-STORE-RQ (PS3.7 9.1.1), without a `Dataset` in between.

pynetdicom decodes each command set into a data set of elements, judges every value twice and copies them into a
primitive: a millisecond for a hundred bytes, which is as long as half a megabyte takes on the wire. A request in which
every element is as it should be is read by `commands.decode_store_request` instead. Whatever else comes goes
pynetdicom's way, and ends as it always did.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode

from clients.gateway.dicom.commands import Command, decode_store_request


class Stored(C_STORE):  # type: ignore[misc]
    """The indication of a C-STORE-RQ in which every element is as it should be."""

    msg_type = "C-STORE"
    """pynetdicom makes it of the class's name."""


def decode_command(encoded: BytesIO, implicit: bool, little: bool) -> Any:
    """A command set: a `Command`, or for what that is not made for, a `Dataset`."""
    found = decode_store_request(encoded.getvalue())
    return decode(encoded, implicit, little) if found is None else found


def to_primitive(message: DIMSEMessage) -> Any:
    """The indication of a C-STORE-RQ. Raises what a value raises that is none."""
    command = message.command_set
    if not isinstance(command, Command):
        return DIMSEMessage.message_to_primitive(message)
    stored = Stored()
    stored.MessageID, stored.Priority = command.MessageID, command.Priority
    stored._affected_sop_class_uid = command.AffectedSOPClassUID
    stored._affected_sop_instance_uid = command.AffectedSOPInstanceUID
    stored.MoveOriginatorApplicationEntityTitle = command.get("MoveOriginatorApplicationEntityTitle")
    stored.MoveOriginatorMessageID = command.get("MoveOriginatorMessageID")
    stored.DataSet, stored._context_id = message.data_set, message.context_id
    return stored
