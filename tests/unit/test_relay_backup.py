"""A backup is one whole state of the database, taken beside a relay that writes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from relay.backup import backup
from relay.errors import ConfigError
from tests.relay_client import Site, relay_at


async def test_a_backup_beside_a_relay_that_writes(tmp_path: Path) -> None:
    """Sixteen write letters in pairs that belong to one moment; no copy holds less than was answered before."""
    async with relay_at(tmp_path / "data") as bench:
        s, r = bench.site(), bench.site()
        stop = False
        sent = 0

        async def write() -> None:
            nonlocal sent
            while not stop:
                assert (await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", s.ack())).status == 200
                sent += 1

        writers = [asyncio.create_task(write()) for _ in range(4)]
        for n in range(5):
            before = sent
            await asyncio.to_thread(backup, bench.data, tmp_path / f"{n}.db")
            with closing(sqlite3.connect(tmp_path / f"{n}.db")) as con:
                assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert con.execute("SELECT count(*) FROM letters").fetchone()[0] >= before
        stop = True
        await asyncio.gather(*writers)
    assert (tmp_path / "0.db").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.db", "1.db", "2.db", "3.db", "4.db", "data"]


def test_what_cannot_be_copied_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "relay.db").write_bytes(os.urandom(9000))
    (tmp_path / "there.db").write_bytes(b"another backup")
    for data, to in ((tmp_path, "a.db"), (tmp_path / "broken", "b.db"), (tmp_path / "broken", "no/c.db")):
        with pytest.raises(ConfigError):
            backup(data, tmp_path / to)
    with pytest.raises(ConfigError, match="there already"):
        backup(tmp_path / "broken", tmp_path / "there.db")
    assert (tmp_path / "there.db").read_bytes() == b"another backup"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "there.db"]


async def test_as_an_operator_calls_it(tmp_path: Path) -> None:
    async with relay_at(tmp_path / "data") as bench:
        site: Site = bench.site()
        await site.call("POST", f"/v1/sites/{site.id.hex()}/queue", site.ack())
        assert run(bench.data, tmp_path / "copy.db") == (0, "The database was copied.\n", "")
    code, out, err = run(tmp_path / "none", tmp_path / "other.db")
    assert (code, out) == (1, "")
    assert err.endswith("Name the relay's data folder. [config]\n")


def run(*args: Path) -> tuple[int, str, str]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "relay.backup", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    return done.returncode, done.stdout, done.stderr
