"""Disks that are full: a small file system where this user may mount one, and a database that cannot grow."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from clients.gateway.store.database import Con, Database, value


class SmallDisk:
    """A tmpfs at `folder`, which must be empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Not one more byte fits."""
        with (self.folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Somebody has tidied up."""
        (self.folder / "ballast").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=64m", self.folder], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """A file system of `size` at `folder`; skips the test where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True
    )
    if mount.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.asynccontextmanager
async def full_database(db: Database) -> AsyncIterator[None]:
    """The database cannot grow (SQLITE_FULL, as on a full disk) until the block ends."""

    def fill(con: Con) -> None:
        free = value(con, "PRAGMA freelist_count")
        con.execute("CREATE TABLE IF NOT EXISTS ballast (x BLOB)")
        con.execute("INSERT INTO ballast VALUES (zeroblob(?))", ((free + 1) * 4096,))

    await db.run(fill)
    await db.run(lambda con: con.execute(f"PRAGMA max_page_count={value(con, 'PRAGMA page_count')}"))
    try:
        yield
    finally:
        await db.run(lambda con: con.execute("PRAGMA max_page_count=1073741823"))
