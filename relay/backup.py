"""Copies the database of a relay that runs: `python -m relay.backup DIR FILE`.

Copying `relay.db` with `cp` while the relay writes would miss what is still in the WAL, or catch half of it.
SQLite's own backup reads one committed state and holds nobody up. Only the database is copied: packs need no
backup, since their senders keep them until the receiver has confirmed, and a database that is older than the
packs' folder (or newer) is put right at start by `relay.reconcile`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import click

from relay.enroll import DATABASE
from relay.errors import ConfigError, DiskError


def backup(data: Path, to: Path) -> None:
    """Writes the database in `data` to the new file `to`, whole and durable. `ConfigError`, `DiskError`."""
    source = data / DATABASE
    if not source.is_file():
        raise ConfigError("There is no relay's database in this folder. Name the relay's data folder.")
    if to.exists():
        raise ConfigError("The file for the backup is there already and was not touched. Name a new file.")
    half = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        _copy(source, half)
        _sync(half)
        os.link(half, to)
        _sync(to.parent)
    except sqlite3.OperationalError as why:
        if why.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise DiskError from None
        raise ConfigError("The relay's database cannot be copied. Check both paths and rights.") from None
    except sqlite3.DatabaseError:
        raise ConfigError("The file relay.db in this folder is not a relay's database. Check it.") from None
    except OSError:
        raise ConfigError("The backup cannot be written. Check the path, its rights and its disk.") from None
    finally:
        half.unlink(missing_ok=True)


def _copy(source: Path, half: Path) -> None:
    """One state, in one read transaction; as a plain file that needs no WAL beside it."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(half)) as copy:
        live.execute("PRAGMA busy_timeout=10000").fetchall()
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
        if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@click.command(
    epilog="Example: python -m relay.backup /var/lib/trauma-transfer-relay /backup/relay-monday.db"
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def main(folder: Path, file: Path) -> None:
    """Copy the database of the relay whose data is in DIR to the new FILE. The relay may run."""
    try:
        backup(folder, file)
    except (ConfigError, DiskError) as why:
        click.echo(f"{why.sentence} {why.next} [{why.code}]", err=True)
        sys.exit(1)
    click.echo("The database was copied.")


if __name__ == "__main__":
    main(prog_name="python -m relay.backup")
