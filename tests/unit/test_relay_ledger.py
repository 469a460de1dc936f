"""The one writer: many works in one commit, each whole or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from relay.errors import BusyError, DiskError
from relay.ledger import Ledger, migrations, prepare, statements, tune


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    made = Ledger(tmp_path / "l.db")
    await made.open(1)
    await made.write(lambda con: con.execute("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT").rowcount)
    yield made
    await made.close()


def insert(*xs: int) -> Callable[[sqlite3.Connection], int]:
    def work(con: sqlite3.Connection) -> int:
        for x in xs:
            con.execute("INSERT INTO t VALUES (?)", (x,))
        return len(xs)

    return work


async def test_what_is_written_is_read(ledger: Ledger) -> None:
    assert await ledger.write(insert(1, 2)) == 2
    assert await ledger.read("SELECT x FROM t ORDER BY x") == [(1,), (2,)]


async def test_a_work_that_fails_leaves_nothing_and_harms_no_neighbour(ledger: Ledger) -> None:
    works = [insert(1), insert(2, 3, 1), insert(4)]
    done = await asyncio.gather(*(ledger.write(w) for w in works), return_exceptions=True)
    assert done[0] == 1
    assert isinstance(done[1], sqlite3.IntegrityError)
    assert done[2] == 1
    assert await ledger.read("SELECT x FROM t ORDER BY x") == [(1,), (4,)]


async def test_many_works_share_commits(ledger: Ledger, tmp_path: Path) -> None:
    commits = 0
    real = ledger._raw.commit

    def counted() -> None:
        nonlocal commits
        commits += 1
        real()

    ledger._raw.commit = counted  # type: ignore[method-assign]
    await asyncio.gather(*(ledger.write(insert(i)) for i in range(200)))
    assert len(await ledger.read("SELECT x FROM t")) == 200
    assert commits <= 3


async def test_a_caller_that_goes_away_harms_nobody(ledger: Ledger) -> None:
    gone = asyncio.ensure_future(ledger.write(insert(1)))
    stays = asyncio.ensure_future(ledger.write(insert(2)))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 1
    assert (2,) in await ledger.read("SELECT x FROM t")


async def test_a_full_disk_is_named_and_keeps_nothing_half(ledger: Ledger) -> None:
    pages = (await ledger.read("PRAGMA page_count"))[0][0]
    await ledger.write(lambda con: con.execute(f"PRAGMA max_page_count={pages}").fetchall())
    await ledger.write(lambda con: con.execute("INSERT INTO sites VALUES (x'00', '', '', 0, 0)").rowcount)

    def large(con: sqlite3.Connection) -> None:
        con.execute("UPDATE sites SET card = 'half'")
        con.execute("UPDATE sites SET card = ?", ("x" * 2**20,))

    with pytest.raises(DiskError):
        await ledger.write(large)
    assert await ledger.read("SELECT card FROM sites") == [("",)]
    assert await ledger.write(insert(1)) == 1


async def test_a_commit_that_fails_fails_for_all(ledger: Ledger) -> None:
    other = sqlite3.connect(ledger._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await ledger._writer.execute_fetchall("PRAGMA busy_timeout=0")
    done = await asyncio.gather(*(ledger.write(insert(i)) for i in (1, 2)), return_exceptions=True)
    assert [type(x) for x in done] == [BusyError, BusyError]
    other.execute("ROLLBACK")
    other.close()
    assert await ledger.write(insert(1)) == 1


async def test_closing_commits_what_waits_and_then_refuses(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    await ledger.open(1)
    await ledger.write(lambda con: con.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)").rowcount)
    waits = asyncio.ensure_future(ledger.write(insert(1)))
    await asyncio.sleep(0)
    await ledger.close()
    assert await waits == 1
    with pytest.raises(BusyError):
        await ledger.write(insert(2))
    await ledger.close()


async def test_the_promises_rest_on_these_settings(ledger: Ledger) -> None:
    def settings(con: sqlite3.Connection) -> list[object]:
        return [
            con.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous", "busy_timeout")
        ]

    assert await ledger.write(settings) == ["wal", 2, 10000]


def test_migrations_run_once_and_survive_company(tmp_path: Path) -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))
    for now, most in ((5, 5), (6, 6), (4, 6)):  # the last clock is behind: numbers never fall
        con = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
        tune(con)
        con.execute("BEGIN IMMEDIATE")
        prepare(con, now)
        con.execute("COMMIT")
        assert con.execute("PRAGMA user_version").fetchone()[0] == len(migrations())
        assert set(con.execute("SELECT name, seq FROM sqlite_sequence")) == {
            ("letters", most << 20),
            ("packs", most << 20),
        }
        con.close()


def test_statements_are_split_at_their_ends() -> None:
    script = (
        "-- a; b\nCREATE TABLE t (x);\nCREATE TRIGGER g AFTER INSERT ON t BEGIN\n  SELECT 1;\nEND;\nSELECT 2"
    )
    found = list(statements(script))
    assert len(found) == 3
    assert found[1].strip().endswith("END;")
    assert found[2] == "SELECT 2"
