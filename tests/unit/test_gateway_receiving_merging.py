from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import resources

import pytest

from clients.gateway.receiving.merging import IdentityChange, book, change_of, settle, waiting
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
    sent = change_of(con, first.tid)
    assert sent is not None
    assert (sent.state, sent.to_id, sent.to_name) == ("sent", "900", "TEST^ALPHA")
    assert change_of(con, Tid(bytes(16))) is None


def test_the_audit_log_tells_who_and_what_without_a_name(con: sqlite3.Connection) -> None:
    book(con, change(1))
    settle(con, waiting(con)[0].id, "sent", "", 10)
    lines = con.execute("SELECT actor, action, subject, detail FROM audit ORDER BY seq").fetchall()
    said = [(r["actor"], r["action"]) for r in lines]
    assert said == [("dr-lee", "incoming.merge"), ("gateway", "incoming.merge-sent")]
    assert all(r["subject"] == "01" * 16 and r["detail"] == "" for r in lines)


def test_one_transfer_one_change(con: sqlite3.Connection) -> None:
    book(con, change(1))
    with pytest.raises(sqlite3.IntegrityError):
        book(con, change(1, to_id="901"))
