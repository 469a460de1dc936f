"""A gateway's database read beside whoever holds its folder: SQLite's WAL lets a reader in at any time."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from clients.gateway.errors import ConfigError
from clients.gateway.store.database import Con


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[Con]:
    """One consistent view, which cannot write. Raises `ConfigError` where there is no gateway."""
    path = folder / "gateway.db"
    if not path.is_file():
        raise ConfigError("There is no gateway in this folder. Give the folder that `gateway init` made.")
    con = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
    try:
        con.row_factory = sqlite3.Row
        con.execute("BEGIN")
        yield con
    finally:
        con.close()
