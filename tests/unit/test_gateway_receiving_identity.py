"""`clients.gateway.receiving.identity`: a number that nobody else has, the same each time, decided once."""

from __future__ import annotations

import os
import sqlite3
from itertools import combinations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.dicom.coercion import Change, Local
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.receiving.identity import code_of, freeze, frozen_of, prefixed
from transfer.ids import SiteId, Tid

HEADER = InstanceHeader(
    sop_class="1.2", sop_uid="1.2.3", syntax="1.2.840.10008.1.2.1", study_uid="1.2.1", series_uid="1.2.2",
    data_offset=0, size=0, patient_id="4711", issuer="VALLEY",
)  # fmt: skip


def header(**fields: str) -> InstanceHeader:
    return msgspec.structs.replace(HEADER, **fields)


def test_the_number_as_the_sender_has_it_where_that_can_be() -> None:
    assert prefixed("VALLEY2K7Q", header(issuer="")) == "VALLEY2K7Q-4711"
    with_issuer = prefixed("VALLEY2K7Q", HEADER)
    assert with_issuer == prefixed("VALLEY2K7Q", header(study_uid="9.9", patient_name="X"))
    assert with_issuer.startswith("VALLEY2K7Q.")
    assert with_issuer.endswith("-4711")
    assert with_issuer != prefixed("VALLEY2K7Q", header(issuer="CLINIC"))


def test_two_unknown_patients_are_two() -> None:
    a, b = (
        prefixed("V", header(patient_id="", patient_name="DOE, JANE", study_uid=uid))
        for uid in ("1.1", "1.2")
    )
    assert a != b
    assert a == prefixed("V", header(patient_id="", study_uid="1.1"))


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=6, unique=True))
def test_any_numbers_stay_apart_and_fit(numbers: list[str]) -> None:
    made = [prefixed("VALLEY2K7Q", header(patient_id=n)) for n in numbers]
    assert all(len(m) <= 64 and m.isascii() and m.isprintable() and "\\" not in m for m in made)
    assert all(a != b for a, b in combinations(made, 2))


def test_no_digest_looks_like_a_number_of_the_sender() -> None:
    """A sender that guesses our digests and uses one as a number: its own patients only, and no other site's."""
    long = prefixed("V", header(patient_id="1" * 80))
    assert prefixed("W", header(patient_id=long.removeprefix("V-"))) != long


def test_codes_of_two_sites_with_one_name_differ() -> None:
    a, b = (code_of("Clínica San José – Área 51", SiteId(os.urandom(32))) for _ in range(2))
    assert a != b
    assert a[:7] == b[:7] == "CLINICA"
    assert code_of("山田", SiteId(bytes(32))).startswith("SITE")


def test_decided_once() -> None:
    con = sqlite3.connect(":memory:")
    con.row_factory = sqlite3.Row
    con.execute("CREATE TABLE identities (tid BLOB PRIMARY KEY, change BLOB, by TEXT, at INTEGER)")
    con.execute("CREATE TABLE presented (tid BLOB PRIMARY KEY, sender BLOB, at INTEGER)")
    tid = Tid(bytes(16))
    assert frozen_of(con, tid) is None
    first = Change(
        local=Local(patient_id="V-1"), system="TRAUMATX", source="Valley", at="20261124120000+0000"
    )
    other = Change(local=Local(patient_id="9"), system="X", source="Y", at="20261124120001")
    assert freeze(con, tid, first, "gateway", 1).change == first
    again = freeze(con, tid, other, "jdoe", 2)
    assert (again.change, again.by, again.at) == (first, "gateway", 1)
    assert freeze(con, Tid(b"1" * 16), None, "gateway", 3).change is None
