"""`clients.gateway.store.audit`: lines that cannot be changed unseen, and alarms that do not pile up."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, rows, value

LINES = 6


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "gateway.db")
    await database.open()

    def work(con: Con) -> None:
        for i in range(LINES):
            audit.record(con, "os:clerk", "transfer.create", f"{i:032x}", "transfer", 1000 + i)

    await database.run(work)
    yield database
    await database.close()


async def test_lines_are_kept_in_order(db: Database) -> None:
    lines = await db.run(lambda con: rows(con, "SELECT * FROM audit ORDER BY seq"))
    assert [r["at"] for r in lines] == [1000 + i for i in range(LINES)]
    assert [r["seq"] for r in lines] == list(range(1, LINES + 1))
    assert await db.run(audit.verify) == 0


@pytest.mark.parametrize(
    "change", ["UPDATE audit SET actor='nobody' WHERE seq=2", "DELETE FROM audit WHERE seq=2"]
)
async def test_nobody_changes_a_line_through_this_program(db: Database, change: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        await db.run(lambda con: con.execute(change))
    assert await db.run(lambda con: value(con, "SELECT count(*) FROM audit")) == LINES


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("UPDATE audit SET actor='nobody' WHERE seq=3", 3),
        ("UPDATE audit SET at=at+1 WHERE seq=1", 1),
        ("UPDATE audit SET detail='' WHERE seq=6", 6),
        ("UPDATE audit SET action='transfer.creat', subject='e' || subject WHERE seq=2", 2),
        ("DELETE FROM audit WHERE seq=4", 5),
        ("DELETE FROM audit WHERE seq=1", 2),
        ("UPDATE audit SET seq=99 WHERE seq=2", 3),
    ],
)
async def test_a_change_by_another_program_is_found(db: Database, change: str, line: int) -> None:
    """Somebody with the file open takes the triggers away first."""
    other = sqlite3.connect(db.path)
    other.executescript(f"DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete; {change};")
    other.close()
    assert await db.run(audit.verify) == line


async def test_what_cannot_be_seen_is_in_no_line(db: Database) -> None:
    """Neither a mark that turns the page's direction, nor the NUL between the fields of what is hashed."""

    def work(con: Con) -> tuple[str, ...]:
        audit.record(con, "clerk\x00x", "transfer.note", "\u202eid", "a\r\nb\u200b\x1b[2J", 5)
        return tuple(rows(con, "SELECT actor, subject, detail FROM audit ORDER BY seq DESC LIMIT 1")[0])

    assert await db.run(work) == ("clerkx", "id", "a  b[2J")
    assert await db.run(audit.verify) == 0


async def test_an_alarm_is_one_alarm_however_often_it_is_raised(db: Database) -> None:
    def raise_alarms(con: Con) -> None:
        for i in range(5):
            for tid in (b"a" * 16, None):
                audit.alarm(con, tid, "pacs", f"Sentence {i}.", 1000 + i)
                audit.alarm(con, tid, "other", "Another.", 1000)

    await db.run(raise_alarms)
    found = await db.run(lambda con: rows(con, "SELECT * FROM alarms ORDER BY id"))
    assert [(r["tid"], r["code"]) for r in found] == [
        (b"a" * 16, "pacs"), (b"a" * 16, "other"), (None, "pacs"), (None, "other"),
    ]  # fmt: skip
    assert {(r["sentence"], r["at"]) for r in found if r["code"] == "pacs"} == {("Sentence 4.", 1004)}
