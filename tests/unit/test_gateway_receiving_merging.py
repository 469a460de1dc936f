from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import resources

import pytest
from msgspec.structs import replace

from clients.gateway.dicom.person import Person
from clients.gateway.errors import GatewayError
from clients.gateway.receiving.merging import (
    MOST,
    IdentityChange,
    book,
    changes_of,
    settle,
    standing,
    waiting,
)
from transfer.ids import Tid


@pytest.fixture
def con() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        made.row_factory = sqlite3.Row
        folder = resources.files("clients.gateway.store") / "migrations"
        for script in sorted((p for p in folder.iterdir() if p.name.endswith(".sql")), key=lambda p: p.name):
            made.executescript(script.read_text("utf-8"))
        yield made


def change(n: int, **values: object) -> IdentityChange:
    facts = {
        "id": 0, "tid": Tid(bytes([n]) * 16), "from_id": "VALLEY2K7Q-4711", "from_issuer": "VALLEY", "to_id": "900",
        "to_issuer": "LAKESIDE", "to_name": "TEST^ALPHA", "to_birth_date": "19840312", "to_sex": "F", "by": "dr-lee",
        "at": n, "state": "waiting", "note": "",
    }  # fmt: skip
    return IdentityChange(**{**facts, **values})  # type: ignore[arg-type]


def test_what_waits_is_told_in_its_order_and_once(con: sqlite3.Connection) -> None:
    for n in (1, 2, 3):
        book(con, change(n))
    first, second, third = waiting(con)
    assert [c.tid[0] for c in (first, second, third)] == [1, 2, 3]
    settle(con, first.id, "sent", "", 10)
    settle(con, second.id, "waiting", "no answer yet", 11)
    settle(con, third.id, "failed", "refused", 12)
    (left,) = waiting(con)
    assert (left.id, left.note) == (second.id, "no answer yet")
    (sent,) = changes_of(con, first.tid)
    assert (sent.state, sent.to_id, sent.to_name) == ("sent", "900", "TEST^ALPHA")
    assert changes_of(con, Tid(bytes(16))) == []


def test_the_audit_log_tells_who_and_what_without_a_name(con: sqlite3.Connection) -> None:
    book(con, change(1))
    settle(con, waiting(con)[0].id, "sent", "", 10)
    lines = con.execute("SELECT actor, action, subject, detail FROM audit ORDER BY seq").fetchall()
    said = [(r["actor"], r["action"]) for r in lines]
    assert said == [("dr-lee", "incoming.merge"), ("gateway", "incoming.merge-sent")]
    assert all(r["subject"] == "01" * 16 and r["detail"] == "" for r in lines)


def test_a_transfer_has_a_line_for_each_change_and_not_without_end(con: sqlite3.Connection) -> None:
    for n in range(MOST):
        book(con, change(1, at=n))
    with pytest.raises(GatewayError) as caught:
        book(con, change(1, at=99))
    assert caught.value.code == "merge-often"
    assert [c.at for c in changes_of(con, Tid(bytes([1]) * 16))] == list(range(MOST))
    book(con, change(2))


def test_an_update_has_audit_lines_of_its_own(con: sqlite3.Connection) -> None:
    book(con, change(1, from_id="900", from_issuer="LAKESIDE"))
    settle(con, waiting(con)[0].id, "failed", "", 10)
    lines = con.execute("SELECT action FROM audit ORDER BY seq").fetchall()
    assert [r["action"] for r in lines] == ["incoming.update", "incoming.update-failed"]


FILED = Person(patient_id="VALLEY2K7Q-4711", issuer="VALLEY", name="DOE^JANE", birth_date="19000101")
OURS = Person(patient_id="900", issuer="LAKESIDE", name="TEST^ALPHA", birth_date="19840312", sex="F")


def test_each_change_begins_where_the_last_one_ended_that_was_not_refused() -> None:
    merged = change(1, to_name="", to_birth_date="", to_sex="")
    stands = standing(FILED, True, [merged])
    assert (stands.known, stands.alone) == (replace(FILED, patient_id="900", issuer="LAKESIDE"), False)
    assert standing(FILED, True, [replace(merged, state="failed")]) == standing(FILED, True, [])
    named = change(1, from_id="900", from_issuer="LAKESIDE")
    assert standing(FILED, True, [merged, named]).known == OURS
    renamed = change(1, to_id=FILED.patient_id, to_issuer=FILED.issuer)
    assert standing(FILED, True, [renamed]).alone, "no other patient came into it"


def test_the_same_number_is_an_update_where_something_new_is_said_of_its_patient() -> None:
    alone, shared = standing(FILED, True, []), standing(OURS, False, [])
    ours = replace(OURS, patient_id=FILED.patient_id)
    assert alone.plan(ours) == ("update", replace(ours, issuer="VALLEY")), "whatever issuer was typed"
    assert alone.plan(OURS) == ("merge", OURS)
    for person in (OURS, replace(OURS, name="TEST^ALPHA^^^"), Person(patient_id="900", issuer="LAKESIDE")):
        with pytest.raises(GatewayError) as caught:
            shared.plan(person)
        assert caught.value.code == "merge-same"
    assert shared.plan(replace(OURS, sex="M"))[0] == "update"
    assert shared.plan(replace(OURS, issuer="OTHER"))[0] == "merge", "another hospital's 900"
