"""The command sets of C-GET, C-MOVE and C-CANCEL, as pynetdicom reads them (PS3.7 9.3.2.3, 9.3.3, 9.3.4)."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from clients.gateway.dicom.commands import encode_cancel_request, encode_get_request, encode_move_request
from clients.gateway.dicom.query import STUDY_GET, STUDY_MOVE


def read(raw: bytes) -> Dataset:
    found = decode(BytesIO(raw), True, True)
    assert found.CommandGroupLength == len(raw) - 12
    assert [int(e.tag) for e in found] == sorted(int(e.tag) for e in found)
    return found


@pytest.mark.parametrize("title", ["TRAUMATX", "ODD", "SIXTEEN LETTERS!"])
def test_a_move_names_where_to(title: str) -> None:
    found = read(encode_move_request(65535, STUDY_MOVE, title))
    assert (found.CommandField, found.MessageID, found.MoveDestination) == (0x0021, 65535, title)
    assert (found.AffectedSOPClassUID, found.Priority, found.CommandDataSetType) == (STUDY_MOVE, 0, 1)


def test_a_get_and_a_cancel() -> None:
    found = read(encode_get_request(7, STUDY_GET))
    assert (found.CommandField, found.MessageID, found.AffectedSOPClassUID) == (0x0010, 7, STUDY_GET)
    assert found.CommandDataSetType == 1
    found = read(encode_cancel_request(7))
    assert (found.CommandField, found.MessageIDBeingRespondedTo, found.CommandDataSetType) == (
        0x0FFF,
        7,
        0x0101,
    )
    assert "MessageID" not in found
