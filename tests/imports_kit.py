"""A sender that imports a disc, and a gate that holds an import where a test wants it.

A crash is the end of every task and a restart on the same folder. Where an import stands then is decided by `Gate`,
which holds it in front of its n-th file.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clients.gateway.sending import imports as module
from clients.gateway.sending.imports import Imported, Imports
from tests.dicom_kit import save
from tests.gateway_kit import PATIENCE, House, an_instance, eventually, houses, running
from tests.spool_kit import Spool
from transfer.ids import Cid, Tid

FILES = 6


class Gate:
    """Lets `after` files of imports through, and holds the others until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stage, self._open, self._left = module.stage_again, threading.Event(), 0
        self._lock, self._inside, self._dead = threading.Condition(), 0, False
        self.reached = threading.Event()
        monkeypatch.setattr(module, "stage_again", self._pass)
        self.open()

    def hold(self, after: int) -> None:
        self._left = after
        self._open.clear()
        self.reached.clear()

    def open(self) -> None:
        self._open.set()

    def crash(self) -> None:
        """Whoever is at work ends, and who is held copies nothing any more: a dead process has no threads."""
        self._dead = True
        self.open()
        with self._lock:
            assert self._lock.wait_for(lambda: not self._inside, PATIENCE)
        self._dead = False

    def _pass(self, *args: object) -> object:
        with self._lock:
            self._left -= 1
            through = self._left >= 0
            self._inside += 1
        try:
            if not through:
                self.reached.set()
                assert self._open.wait(PATIENCE)
            if self._dead:
                raise RuntimeError
            return self._stage(*args)  # type: ignore[arg-type]
        finally:
            with self._lock:
                self._inside -= 1
                self._lock.notify_all()


class Party:
    """A sender that imports, and a receiver."""

    def __init__(self, s: House, r: House, disc: Path, workers: ThreadPoolExecutor) -> None:
        self.s, self.r, self.disc, self._workers = s, r, disc, workers

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Imports]:
        """The rooms that import, from a start to a crash."""
        s = self.s
        imports = Imports(s.db, s.clock, s.studies, s.offers, s.outgoing)
        async with running(s.studies.run()), running(imports.run()):
            yield imports

    async def early(self, imports: Imports) -> Imported:
        async with asyncio.timeout(PATIENCE):
            return await imports.early(self.disc, "clerk")

    async def offered(self, study: str) -> Tid:
        """A transfer that waits for its answer."""
        return await self.s.offer_to(self.r, study)

    async def done(self) -> None:
        """No import is open any more."""

        async def look() -> bool:
            return not await self.s.rows("SELECT 1 FROM imports WHERE stopped=''")

        await eventually(look)

    async def study(self) -> tuple[int, int]:
        """(images, closed) of the study."""
        row = await self.s.one("SELECT id, closed FROM studies")
        return await self.s.value("SELECT count(*) FROM instances WHERE study=?", row["id"]), row["closed"]

    async def seal(self, tid: Tid) -> Spool:
        """Everything of the study that there is, in packs."""
        row = await self.s.send(tid)
        spool = Spool(self.s, row["study"], tid, Cid(row["cid"]), self._workers)
        await spool.pack()
        return spool


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A folder of one study."""
    folder = tmp_path / "disc"
    folder.mkdir()
    for n in range(1, FILES + 1):
        save(an_instance(InstanceNumber=n, SeriesInstanceUID=f"2.25.12{n % 2}"), folder / f"{n}.dcm")
    (folder / "readme.txt").write_text("viewer")
    return folder


@pytest.fixture
async def party(tmp_path: Path, disc: Path) -> AsyncIterator[Party]:
    with ThreadPoolExecutor(2) as workers:
        async with houses(tmp_path) as (s, r):
            yield Party(s, r, disc, workers)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


async def held(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, PATIENCE)
