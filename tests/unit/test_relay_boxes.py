"""What `relay.boxes` does to the tables; the rules as a store has them are in test_relay_metastore.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from typing import Any

import pytest

from relay import boxes, metastore
from relay.config import Quota
from relay.errors import AbsentError, DifferentError, GoneError, NotYoursError, QuotaError, RateError
from relay.metastore import Hello
from transfer.encoding import sha256
from transfer.ids import Digest, SiteId

NOW = 1_795_000_000
S, X = SiteId(b"\1" * 32), SiteId(b"\2" * 32)
MB, RUN = "ab" * 16, "cd" * 16
QUOTA = Quota(site_mailboxes=2, pair_letters=3, pair_bytes=100)
HELLO, ENDED = Hello(b"m0", False, NOW + 100), Hello(b"end", True, NOW + 900)


@pytest.fixture
def con() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        for script in sorted((resources.files("relay") / "migrations").iterdir(), key=lambda p: p.name):
            if script.name.endswith(".sql"):
                made.executescript(script.read_text("utf-8"))
        boxes.put_hello(made, MB, S, HELLO, QUOTA)
        yield made


def put(
    con: sqlite3.Connection, slot: int, body: bytes = b"m", site: SiteId | None = None, run: str = RUN
) -> int:
    message = boxes.Message(MB, run, slot, body, Digest(sha256(body)))
    return boxes.put_message(con, message, site, NOW, QUOTA).i


def one(con: sqlite3.Connection, sql: str) -> Any:
    return con.execute(sql).fetchone()[0]


def test_a_phones_message_is_a_letter_to_its_site_and_the_sites_own_is_none(con: sqlite3.Connection) -> None:
    assert (put(con, 1), put(con, 2, site=S)) == (0, 0)
    (letter,) = con.execute("SELECT owner, sender, body, mb, run, slot, i FROM letters").fetchall()
    assert letter == (S, boxes.PHONE, b"m", MB, RUN, 1, 0)
    assert put(con, 1) == 0, "the same again is no second one"
    assert one(con, "SELECT count(*) FROM letters") == 1


def test_who_may_not_and_what_does_not_fit(con: sqlite3.Connection) -> None:
    with pytest.raises(NotYoursError):
        put(con, 2, site=X)
    put(con, 1)
    with pytest.raises(DifferentError):
        put(con, 1, b"another")
    with pytest.raises(AbsentError):
        boxes.put_message(con, boxes.Message("00" * 16, RUN, 1, b"", Digest(sha256(b""))), None, NOW, QUOTA)
    for n in range(2):
        put(con, 1, run=f"{n:032x}")
    with pytest.raises(QuotaError):
        put(con, 1, run="ff" * 16)  # three letters wait


def test_a_box_takes_so_many_runs_at_a_time(con: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metastore, "BOX_OPEN_RUNS", 1)
    put(con, 1)
    with pytest.raises(RateError):
        put(con, 1, run="00" * 16)
    put(con, 2, site=S)  # answered
    put(con, 1, run="00" * 16)
    monkeypatch.setattr(metastore, "BOX_MESSAGES", 3)
    with pytest.raises(QuotaError):
        put(con, 6, site=S)


def test_a_tombstone_stays_one_and_an_end_takes_messages_and_letters(con: sqlite3.Connection) -> None:
    put(con, 1)
    boxes.put_hello(con, MB, S, ENDED, QUOTA)
    assert one(con, "SELECT dies FROM mailboxes") == ENDED.dies
    with pytest.raises(GoneError):
        boxes.put_hello(con, MB, S, HELLO, QUOTA)
    boxes.put_hello(con, MB, S, Hello(b"later", True, NOW + 9999), QUOTA)
    assert one(con, "SELECT dies FROM mailboxes") == ENDED.dies, "it dies when it was to die"
    with pytest.raises(GoneError):
        put(con, 3)
    assert put(con, 1) == 0, "which may not have heard that it arrived"
    with pytest.raises(NotYoursError):
        boxes.delete(con, MB, X)
    boxes.delete(con, MB, S)
    assert [one(con, f"SELECT count(*) FROM {t}") for t in ("messages", "letters", "mailboxes")] == [0, 0, 1]
    with pytest.raises(GoneError):
        boxes.put_hello(con, MB, S, HELLO, QUOTA)
    with pytest.raises(GoneError):
        boxes.present(con.execute("SELECT body, gone FROM mailboxes").fetchall())
    with pytest.raises(AbsentError):
        boxes.present([])


def test_a_site_has_so_many_boxes_that_are_alive(con: sqlite3.Connection) -> None:
    boxes.put_hello(con, "01" * 16, S, HELLO, QUOTA)
    with pytest.raises(QuotaError):
        boxes.put_hello(con, "02" * 16, S, HELLO, QUOTA)
    boxes.end(con, MB)
    boxes.put_hello(con, "02" * 16, S, HELLO, QUOTA)


def test_letters_are_bounded_by_their_bytes_too(con: sqlite3.Connection) -> None:
    first = boxes.add_letter(con, S, X, Digest(sha256(b"1")), b"x" * 60, NOW, QUOTA)
    with pytest.raises(QuotaError):
        boxes.add_letter(con, S, X, Digest(sha256(b"2")), b"y" * 41, NOW, QUOTA)
    assert boxes.add_letter(con, S, X, Digest(sha256(b"3")), b"z" * 40, NOW, QUOTA) > first
