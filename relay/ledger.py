"""One SQLite file with one writer that commits many callers' transactions at once.

A commit with `synchronous=FULL` costs an fsync of the WAL whether it holds one change or fifty, so the writer
takes whatever waits, runs each caller's *work* (a plain function of the connection) in a savepoint of one
transaction, and commits once. A work that raises is rolled back alone; nobody is answered before the commit,
so what `write` returned from survives a power cut. Reads have a connection of their own and see the last
commit.

aiosqlite runs every call to a connection in that connection's thread, one after the other. `Writer.commit` is
the one call that does a whole batch, which saves a change of threads for each statement.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiosqlite

from relay.errors import BusyError, DiskError
from relay.metastore import first_number

T = TypeVar("T")
Row = tuple[Any, ...]
_BATCH = 256
"""Works in one transaction."""
_WAITING = 10_000
"""Works that may wait. There are fewer callers than connections, so this is never reached."""
_PRAGMAS = (
    "busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY",
    "wal_autocheckpoint=2000", "journal_size_limit=67108864", "cache_size=-16384",
)  # fmt: skip
_COUNTED = ("letters", "packs")


class Work(Generic[T]):
    """One caller's transaction, and what came of it."""

    def __init__(self, do: Callable[[sqlite3.Connection], T], done: asyncio.Future[T]) -> None:
        self.do, self.done = do, done
        self.result: T | None = None
        self.error: Exception | None = None

    def run(self, con: sqlite3.Connection) -> None:
        """Does it, or leaves nothing of it."""
        con.execute("SAVEPOINT work")
        try:
            self.result = self.do(con)
        except Exception as why:
            if not con.in_transaction:
                raise  # SQLite gave up the whole transaction: the disk is full or fails
            con.execute("ROLLBACK TO work")
            self.error = why
        con.execute("RELEASE work")

    def settle(self, failure: Exception | None) -> None:
        """Tells the caller, unless they went away."""
        error = failure or self.error
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(_translate(error))
        else:
            self.done.set_result(self.result)  # type: ignore[arg-type]  # set, since nothing failed


class Writer(sqlite3.Connection):
    """The connection that writes: `commit` does all the works that wait, in one transaction."""

    waiting: deque[Work[Any]]
    batch: list[Work[Any]]
    """What the last commit did, or failed to do."""

    def commit(self) -> None:
        """Up to `_BATCH` works, all durable when it returns; if it raises, none happened."""
        self.batch = [self.waiting.popleft() for _ in range(min(len(self.waiting), _BATCH))]
        self.execute("BEGIN IMMEDIATE")
        try:
            for work in self.batch:
                work.run(self)
            self.execute("COMMIT")
        except Exception:
            if self.in_transaction:
                self.execute("ROLLBACK")
            raise


class Ledger:
    """The file at `path`: `write` a work, `read` rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[Work[Any]] = deque()
        self._wake = asyncio.Event()
        self._open = False

    def _make_writer(self, *args: Any, **kwargs: Any) -> Writer:
        self._raw = Writer(*args, **kwargs)
        self._raw.waiting, self._raw.batch = self._waiting, []
        tune(self._raw)
        return self._raw

    async def open(self, now: int) -> None:
        """Opens the file and brings its tables up to date."""
        self._writer = await aiosqlite.connect(self._path, factory=self._make_writer, isolation_level=None)
        try:
            self._reader = await aiosqlite.connect(self._path, isolation_level=None)
        except BaseException:
            await self._writer.close()
            raise
        self._open = True
        self._task = asyncio.create_task(self._commit_for_ever(), name="ledger")
        try:
            for pragma in ("busy_timeout=10000", "query_only=ON", "cache_size=-16384"):
                await self._reader.execute_fetchall(f"PRAGMA {pragma}")
            await self.write(lambda con: prepare(con, now))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Commits what waits, then closes the file."""
        if not self._open:
            return
        self._open = False
        self._wake.set()
        await self._task
        await self._reader.close()
        await self._writer.close()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returned, once it is durable; what it raised, once nothing of it is left."""
        if not self._open or len(self._waiting) >= _WAITING:
            raise BusyError
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(Work(work, done))
        self._wake.set()
        return await done

    async def read(self, sql: str, args: tuple[Any, ...] = ()) -> list[Row]:
        """All rows of one statement, as of the last commit."""
        try:
            return list(await self._reader.execute_fetchall(sql, args))
        except sqlite3.OperationalError as why:
            raise _translate(why) from None

    async def _commit_for_ever(self) -> None:
        while self._open or self._waiting:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                failure = None
                try:
                    await self._writer.commit()
                except Exception as why:
                    failure = why
                for work in self._raw.batch:
                    work.settle(failure)


def tune(con: sqlite3.Connection) -> None:
    """The settings that the promises above rest on."""
    for pragma in _PRAGMAS:
        con.execute(f"PRAGMA {pragma}").fetchall()


def prepare(con: sqlite3.Connection, now: int) -> None:
    """Inside a transaction: runs the migrations that this file has not seen, and lets its numbers grow.

    The numbers grow also where the file is as old as it should be: it cannot know whether it was put back.
    """
    done: int = con.execute("PRAGMA user_version").fetchone()[0]
    for number, script in migrations():
        if number > done:
            for statement in statements(script):
                con.execute(statement)
            con.execute(f"PRAGMA user_version={number}")
    for table in _COUNTED:
        if done == 0:
            con.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, 0)", (table,))
        count_on = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"
        con.execute(count_on, (first_number(now), table))


def migrations() -> list[tuple[int, str]]:
    """Number and text of each script in `relay/migrations`, in order."""
    folder = resources.files("relay") / "migrations"
    scripts = sorted((p for p in folder.iterdir() if p.name.endswith(".sql")), key=lambda p: p.name)
    return [(int(p.name.split("_")[0]), p.read_text("utf-8")) for p in scripts]


def statements(script: str) -> Iterator[str]:
    """A script's statements one by one: `executescript` would commit the transaction that this runs in."""
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
    if text.strip():
        yield text


def _translate(why: Exception) -> Exception:
    code = getattr(why, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskError()
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError()
    return why
