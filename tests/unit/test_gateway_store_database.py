"""`clients.gateway.store.database`: transactions that are whole or not there, and erased bytes that are nowhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from clients.gateway.errors import ConfigError, DiskFullError
from clients.gateway.store.database import Con, Database, one, rows, value
from tests.faults import disks
from tests.gateway_kit import running


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "gateway.db")
    await database.open()
    yield database
    await database.close()


def put(con: Con, key: str, secret: bytes = b"v") -> None:
    con.execute("INSERT INTO own (k, v) VALUES (?,?)", (key, secret))


async def keys(db: Database) -> set[str]:
    return {r[0] for r in await db.run(lambda con: rows(con, "SELECT k FROM own"))}


def found(path: Path, secret: bytes) -> list[str]:
    """The files around a database in which `secret` can be read."""
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal")]
    return [f.name for f in files if f.exists() and secret in f.read_bytes()]


class Oops(Exception):
    """What a transaction may raise."""


async def test_an_exception_takes_the_whole_transaction_back(db: Database) -> None:
    def half(con: Con) -> None:
        put(con, "a")
        raise Oops

    await db.run(lambda con: put(con, "before"))
    with pytest.raises(Oops):
        await db.run(half)
    assert await keys(db) == {"before"}
    await db.run(lambda con: put(con, "after"))
    assert await keys(db) == {"before", "after"}


async def test_a_constraint_takes_the_whole_transaction_back(db: Database) -> None:
    def twice(con: Con) -> None:
        put(con, "a")
        put(con, "a")

    with pytest.raises(sqlite3.IntegrityError):
        await db.run(twice)
    assert await keys(db) == set()


async def test_a_cancelled_caller_leaves_no_half_transaction(db: Database) -> None:
    """The transaction runs in its own thread: it ends as a whole, and the next one finds the connection free."""

    def two(con: Con) -> None:
        put(con, "a")
        put(con, "b")

    async with running(db.run(two)):
        await asyncio.sleep(0)
    assert await keys(db) in (set(), {"a", "b"})


async def test_transactions_come_one_after_another(db: Database) -> None:
    def count(con: Con) -> None:
        n = value(con, "SELECT v FROM own WHERE k='n'") or b"0"
        con.execute("INSERT OR REPLACE INTO own VALUES ('n', ?)", (str(int(n) + 1).encode(),))

    await asyncio.gather(*(db.run(count) for _ in range(200)))
    assert await db.run(lambda con: value(con, "SELECT v FROM own WHERE k='n'")) == b"200"


async def test_the_files_are_for_their_owner_alone(db: Database, tmp_path: Path) -> None:
    await db.run(lambda con: put(con, "a"))
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["gateway.db", "gateway.db-shm", "gateway.db-wal"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


async def test_what_run_returned_from_is_in_the_wal_on_disk(db: Database) -> None:
    pragmas = {
        name: await db.run(lambda con, name=name: value(con, f"PRAGMA {name}"))  # type: ignore[misc]
        for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}


async def test_migrations_happen_once(tmp_path: Path) -> None:
    for _ in range(3):
        db = Database(tmp_path / "gateway.db")
        await db.open()
        await db.run(lambda con: con.execute("INSERT INTO own VALUES (hex(randomblob(8)), NULL)"))
        version = await db.run(lambda con: value(con, "PRAGMA user_version"))
        assert version >= 1
        await db.close()
    db = Database(tmp_path / "gateway.db")
    await db.open()
    assert len(await keys(db)) == 3
    await db.close()


async def test_a_database_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """After a downgrade: better no start than a program that does not know what its columns mean."""
    db = Database(tmp_path / "gateway.db")
    await db.open()
    await db.run(lambda con: con.execute("PRAGMA user_version=999"))
    await db.close()
    with pytest.raises(ConfigError, match="later version"):
        await Database(tmp_path / "gateway.db").open()


async def test_no_database_at_all(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_bytes(b"this is no database, " * 400)
    with pytest.raises(ConfigError, match="backup"):
        await Database(tmp_path / "gateway.db").open()


async def test_helpers(db: Database) -> None:
    def look(con: Con) -> None:
        put(con, "a")
        row = one(con, "SELECT k, v FROM own")
        assert row is not None
        assert (row["k"], row["v"]) == ("a", b"v")
        assert one(con, "SELECT k FROM own WHERE k='b'") is None
        assert value(con, "SELECT v FROM own WHERE k='b'") is None
        assert [r["k"] for r in rows(con, "SELECT k FROM own")] == ["a"]

    await db.run(look)


@pytest.mark.parametrize("size", [32, 3000, 70_000])
async def test_scrub_leaves_an_erased_secret_nowhere(db: Database, size: int) -> None:
    """Protocol s. 1: not in the WAL, not in a free page, not in the slack of a page in use."""
    secret = os.urandom(size)
    await db.run(lambda con: put(con, "key", secret))
    for i in range(50):
        await db.run(lambda con, i=i: put(con, f"other {i}", os.urandom(100)))  # type: ignore[misc]
    assert found(db.path, secret[-32:])
    await db.run(lambda con: con.execute("UPDATE own SET v=NULL WHERE k='key'"))
    await db.scrub()
    assert found(db.path, secret[:32]) == found(db.path, secret[-32:]) == []
    assert db.path.with_name("gateway.db-wal").stat().st_size == 0


async def test_a_secret_that_was_in_the_file_already_is_erased_there(db: Database) -> None:
    secret = os.urandom(40)
    await db.run(lambda con: put(con, "key", secret))
    await db.scrub()
    assert found(db.path, secret) == ["gateway.db"]
    await db.run(lambda con: con.execute("DELETE FROM own"))
    await db.scrub()
    assert found(db.path, secret) == []


async def test_a_crash_between_erasure_and_scrub_is_made_good_at_the_next_start(
    db: Database, tmp_path: Path
) -> None:
    """`kill -9` just after the commit: the WAL still holds the key, until somebody opens the database again."""
    secret = os.urandom(40)
    await db.run(lambda con: put(con, "key", secret))
    await db.run(lambda con: con.execute("DELETE FROM own"))
    after = tmp_path / "after"
    after.mkdir()
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"gateway.db{end}", after / f"gateway.db{end}")
    assert found(after / "gateway.db", secret) == ["gateway.db-wal"]
    again = Database(after / "gateway.db")
    await again.open()
    assert found(again.path, secret) == []
    assert await keys(again) == set()
    await again.close()


async def test_scrub_while_another_program_reads(db: Database) -> None:
    """A reader beside the gateway (a backup) holds the WAL; the erasure is done once it has gone."""
    secret = os.urandom(40)
    await db.run(lambda con: put(con, "key", secret))
    reader = sqlite3.connect(db.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM own").fetchall()
    await db.run(lambda con: con.execute("DELETE FROM own"))
    await db.scrub()
    reader.close()
    await db.run(lambda con: put(con, "anything"))
    assert found(db.path, secret) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with disks.small_disk(tmp_path / "small", "2m") as disk:
        yield disk.folder


async def test_a_full_disk_has_a_name_and_loses_nothing(small_disk: Path) -> None:
    db = Database(small_disk / "gateway.db")
    await db.open()
    await db.run(lambda con: put(con, "before"))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(2**21))

    async def fill() -> None:
        for i in range(1000):
            await db.run(lambda con, i=i: put(con, f"big {i}", bytes(5000)))  # type: ignore[misc]

    with pytest.raises(DiskFullError):
        await fill()
    with pytest.raises(DiskFullError):
        await db.run(lambda con: put(con, "one more", bytes(50_000)))
    assert "before" in await keys(db)
    ballast.unlink()
    await db.run(lambda con: put(con, "after", bytes(50_000)))
    assert {"before", "after"} <= await keys(db)
    assert await db.run(lambda con: value(con, "PRAGMA integrity_check")) == "ok"
    await db.close()


async def test_scrub_on_a_full_disk_has_the_same_name(small_disk: Path) -> None:
    """The erasure is in the WAL; moving it into the file needs room that is not there. It is done at the next one."""
    secret = os.urandom(40)
    db = Database(small_disk / "gateway.db")
    await db.open()
    await db.scrub()
    await db.run(lambda con: put(con, "key", secret))
    for i in range(12):
        await db.run(lambda con, i=i: put(con, f"{i}", bytes(4000)))  # type: ignore[misc]
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(2**21))

    async def erase() -> None:
        await db.run(lambda con: con.execute("DELETE FROM own"))
        await db.scrub()

    with pytest.raises(DiskFullError):
        await erase()
    ballast.unlink()
    await erase()
    assert found(db.path, secret) == []
    await db.close()
