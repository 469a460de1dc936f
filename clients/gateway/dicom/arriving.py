"""What a message's data set is of: known once its command set is read, when its first fragment comes (PS3.7 6.3.1)."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage

from clients.gateway.dicom.landing import Announced
from clients.gateway.dicom.part10 import is_uid
from clients.gateway.dicom.refusals import refuse
from clients.gateway.dicom.upper_layer import Association, TooLongError


class Undecided(BytesIO):
    """Stands for the data set of `message` until then; `choose` says where it goes."""

    def __init__(self, message: DIMSEMessage, choose: Callable[[DIMSEMessage], BytesIO]) -> None:
        super().__init__()
        self._message, self._choose = message, choose

    def write(self, data: Any) -> int:
        """Takes the first fragment, and puts the right one in its own place. Raises `TooLongError`."""
        chosen = self._message.data_set = self._choose(self._message)
        return int(chosen.write(data))


def announced(assoc: Association, message: DIMSEMessage) -> Announced:
    """What the command set of a C-STORE announces (PS3.7 9.3.1.1). Raises `IntakeError`; `TooLongError` ends it."""
    context = assoc._accepted_cx.get(message.context_id)
    if not isinstance(message, C_STORE_RQ) or context is None:
        raise TooLongError
    command = message.command_set
    sop_class = str(command.get("AffectedSOPClassUID", ""))
    sop_uid = str(command.get("AffectedSOPInstanceUID", ""))
    if not (is_uid(sop_class) and is_uid(sop_uid)):
        raise refuse("dicom-uid")
    if sop_class != str(context.abstract_syntax):
        raise refuse("dicom-class")
    return Announced(sop_class, sop_uid, str(context.transfer_syntax[0]))
