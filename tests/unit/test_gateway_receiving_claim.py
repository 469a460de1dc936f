from __future__ import annotations

import sqlite3

import msgspec
import pytest

from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.receiving.claim import claim_of, present, presented
from transfer.ids import Tid

HEADER = InstanceHeader(
    sop_class="1.2", sop_uid="1.2.3", syntax="1.2.840.10008.1.2.1", study_uid="1.2.1", series_uid="1.2.2",
    data_offset=0, size=0, patient_name="TEST, ALPHA", patient_id="4711", issuer="VALLEY", birth_date="1984-03-12",
    modality="CT", study_description="Head", study_date="2026-11-24", charset="ISO_IR 100",
)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({}, False), ({"patient_name": "TEST, A."}, False), ({"patient_id": ""}, False), ({"issuer": ""}, False),
        ({"birth_date": ""}, False), ({"patient_id": "4712"}, True), ({"issuer": "COUNTY"}, True),
        ({"birth_date": "1984-03-13"}, True),
    ],
)  # fmt: skip
def test_another_patient_in_the_same_study(fields: dict[str, str], other: bool) -> None:
    assert claim_of(HEADER).is_other(msgspec.structs.replace(HEADER, **fields)) is other


def test_the_first_instance_says_it_once() -> None:
    con = sqlite3.connect(":memory:")
    con.row_factory = sqlite3.Row
    con.execute("CREATE TABLE presented (tid BLOB PRIMARY KEY, sender BLOB, at INTEGER)")
    tid = Tid(bytes(16))
    assert presented(con, tid) is None
    assert present(con, tid, HEADER, 10) == 10
    assert present(con, tid, msgspec.structs.replace(HEADER, patient_id="9"), 20) == 10
    found = presented(con, tid)
    con.close()
    assert found is not None
    claim, at = found
    assert (claim.patient_id, claim.what, claim.charset, at) == (
        "4711",
        "CT, Head, 2026-11-24",
        "ISO_IR 100",
        10,
    )
