"""`clients.gateway.store.reading`: beside a gateway that runs, and never in its way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from clients.gateway.errors import ConfigError
from clients.gateway.store.database import Database, value
from clients.gateway.store.reading import reading


async def test_one_view_beside_a_writer(tmp_path: Path) -> None:
    db = Database(tmp_path / "gateway.db")
    await db.open()
    try:
        await db.run(lambda con: con.execute("INSERT INTO own (k, v) VALUES ('a', x'00')"))
        with reading(tmp_path) as con:
            assert value(con, "SELECT count(*) FROM own") == 1
            await db.run(lambda other: other.execute("INSERT INTO own (k, v) VALUES ('c', x'00')"))
            assert value(con, "SELECT count(*) FROM own") == 1
            with pytest.raises(sqlite3.OperationalError):
                con.execute("DELETE FROM own")
    finally:
        await db.close()


def test_where_no_gateway_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), reading(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
