"""The gateway's SQLite file: one connection, one thread, one function for each transaction.

`run(work)` calls `work(connection)` in the database's own thread inside BEGIN IMMEDIATE ... COMMIT. A
transaction is therefore a plain function: nothing can come between its statements, and a state and its
effects change together or not at all. WAL with synchronous=FULL: what `run` returned from survives a power
cut. `secure_delete` overwrites what is deleted; `scrub` empties the WAL as well, so that an erased key is
nowhere in either file (protocol s. 1). `open` scrubs too, for the erasure that a crash came after.

What a transaction has to say in the log it says by `after_commit`: a line of something that was rolled back
would be a lie. `work` runs in the caller's context, so the line carries the caller's transfer (`gateway.log`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from clients.gateway.errors import ConfigError, DiskFullError

T = TypeVar("T")
Con = sqlite3.Connection
_said: ContextVar[list[tuple[str, dict[str, str]]] | None] = ContextVar("said", default=None)


class Database:
    """Opened with `open`; closed with `close`. All access goes through `run`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._con: Con | None = None
        self._unscrubbed = False

    async def open(self) -> None:
        """Opens the file and brings its schema up to date. Raises `ConfigError`, `DiskFullError`."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except BaseException:
            await self.close()
            raise

    def _open(self) -> None:
        try:
            self._connect()
            self._scrub()
        except sqlite3.DatabaseError as why:
            raise _named(why) from None

    def _connect(self) -> None:
        con = self._con = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        self.path.chmod(0o600)
        con.row_factory = sqlite3.Row
        for pragma in (
            "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON", "wal_autocheckpoint=2000",
            "journal_size_limit=67108864", "temp_store=MEMORY",
        ):  # fmt: skip
            con.execute(f"PRAGMA {pragma}")
        self._migrate(con)

    def _migrate(self, con: Con) -> None:
        done = con.execute("PRAGMA user_version").fetchone()[0]
        folder = resources.files("clients.gateway.store") / "migrations"
        number = 0
        for script in sorted((p for p in folder.iterdir() if p.name.endswith(".sql")), key=lambda p: p.name):
            number = int(script.name.split("_")[0])
            if number > done:
                con.executescript(
                    f"BEGIN IMMEDIATE; {script.read_text('utf-8')}; PRAGMA user_version={number}; COMMIT;"
                )
        if done > number:
            raise ConfigError(
                "A later version of this program has used this folder. Install that one again, or restore a backup."
            )

    async def run(self, work: Callable[[Con], T]) -> T:
        """The result of `work` in one transaction; an exception rolls it back. Raises `DiskFullError`."""
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._thread, context.run, self._run, work)

    def _run(self, work: Callable[[Con], T]) -> T:
        con = self._con
        assert con is not None, "the database is not open"
        said: list[tuple[str, dict[str, str]]] = []
        _said.set(said)  # of this call's context, which nobody else has
        try:
            con.execute("BEGIN IMMEDIATE")
            try:
                result = work(con)
                con.execute("COMMIT")
            except BaseException:
                if con.in_transaction:
                    con.execute("ROLLBACK")
                raise
            if self._unscrubbed:
                with contextlib.suppress(sqlite3.OperationalError):  # what was asked for is done
                    self._scrub()
        except sqlite3.OperationalError as why:
            raise _named(why) from None
        if said:
            _say(said)
        return result

    async def scrub(self) -> None:
        """Moves the WAL into the file and empties it: after an erasure. Raises `DiskFullError`.

        While another program reads the file (a backup) that cannot be done; it is done after the next
        transaction then.
        """

        def work() -> None:
            try:
                self._scrub()
            except sqlite3.OperationalError as why:
                raise _named(why) from None

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _scrub(self) -> None:
        con = self._con
        assert con is not None, "the database is not open"
        self._unscrubbed = True
        con.execute("PRAGMA busy_timeout=100")  # nobody waits here for another program's reader
        try:
            busy = con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            con.execute("PRAGMA busy_timeout=10000")
        self._unscrubbed = bool(busy)

    async def close(self) -> None:
        """Waits for what runs, then closes the file."""

        def work() -> None:
            if self._con is not None:
                self._con.close()
                self._con = None

        await asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._thread.shutdown()


def after_commit(event: str, **fields: str) -> None:
    """A line of the log, once the transaction that calls this has committed; none if it does not."""
    said = _said.get()
    if said is not None:
        said.append((event, fields))


def _say(said: list[tuple[str, dict[str, str]]]) -> None:
    import structlog  # a tenth of a second that the shortest commands do without

    log = structlog.get_logger()
    for event, fields in said:
        log.info(event, **fields)


def _named(why: sqlite3.Error) -> Exception:
    """`why` as the error that people read, where there is one."""
    code = getattr(why, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskFullError()
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return ConfigError("The database gateway.db is damaged. Restore the folder from its backup.")
    return why


def quoted(words: Iterable[str]) -> str:
    """Constants of ours for SQL's IN: 'A', 'B'. Never for what came from outside."""
    return ", ".join(f"'{word}'" for word in words)


def one(con: Con, sql: str, args: Sequence[Any] = ()) -> sqlite3.Row | None:
    """The first row, or None."""
    row: sqlite3.Row | None = con.execute(sql, args).fetchone()
    return row


def rows(con: Con, sql: str, args: Sequence[Any] = ()) -> list[sqlite3.Row]:
    """All rows."""
    return con.execute(sql, args).fetchall()


def value(con: Con, sql: str, args: Sequence[Any] = ()) -> Any:
    """The first column of the first row, or None."""
    row = con.execute(sql, args).fetchone()
    return row[0] if row else None
