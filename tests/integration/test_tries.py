"""How often a PIN may be wrong, with everything real: a relay and a gateway in processes of their own, and strangers
with a photo of the code or the number of a voice door, many at once and again and again, while the gateway is killed in
between (protocol s. 4).

The limit is for the life of the transfer. Nobody hears "wrong" more often than the limit, and the database has exactly
that many tries spent in the end: a kill costs a stranger a try that was spent, and never gives one.
200 come to the voice door, whose number strangers may guess; `make soak` lets 200 come to the other as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.commands.parties import die_with_parent
from clients.drill import NoAnswerError, Phone
from clients.gateway.views import TransferView
from relay.metastore import BOX_OPEN_RUNS
from tests.programs import Programs, running, write_study
from transfer.errors import LockedError
from transfer.tries import MAX, MAX_VOICE, RUN_SECONDS

ROOT = Path(__file__).resolve().parents[2]
_CLIENTS = {"qr": 200 if os.environ.get("SOAK") else 40, "voice": 200}
_PROCESSES = 8 if os.environ.get("SOAK") else 2
_KILLS = {"qr": 4 if os.environ.get("SOAK") else 1, "voice": 1}
_ROUNDS = 6
_NO_RATES = "[rates]\n" + "".join(
    f"{who} = {{ per_second = 100000, burst = 100000 }}\n"
    for who in ("site", "address", "mailbox", "stranger")
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Programs]:
    """All of them. The relay's rates, which are for availability only, hold nobody up."""
    (tmp_path / "world").mkdir()
    async with running(tmp_path / "world", _NO_RATES, quiet_seconds=3600) as programs:
        yield programs


class Strangers:
    """Processes full of clients that all have the link and guess, until each has been answered or given up."""

    def __init__(self, view: TransferView) -> None:
        self._view = view
        self.wrong: list[int] = []
        """Tries left, of everybody who heard that the PIN is wrong."""
        self.locked = 0
        self.heard = asyncio.Event()

    async def come(self, number: int, processes: int = 1) -> None:
        """All at once."""
        each = -(-number // processes)
        bounds = [(first, min(number, first + each - 1)) for first in range(1, number + 1, each)]
        await asyncio.gather(*(self._crowd(first, last) for first, last in bounds))

    async def _crowd(self, first: int, last: int) -> None:
        view = self._view
        argv = [view.link, view.pin, str(first), str(last), *([view.number] if view.number else [])]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.strangers", *argv,
            stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, cwd=ROOT, preexec_fn=die_with_parent,
        )  # fmt: skip
        assert process.stdout is not None
        async for line in process.stdout:
            what, *left = line.split()
            if what == b"wrong":
                self.wrong.append(int(left[0]))
            else:
                self.locked += 1
            self.heard.set()
        assert await process.wait() == 0
        self.heard.set()


def spent(world: Programs, copy: Path) -> int:
    """Tries that stand as spent in the sender's database."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("gateway.db", "gateway.db-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(world.sender.folder / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "gateway.db")) as con:
        return int(con.execute("SELECT count(*) FROM tries WHERE state='spent'").fetchone()[0])


@pytest.mark.parametrize(("door", "limit"), [("qr", MAX), ("voice", MAX_VOICE)])
async def test_strangers_and_kills_get_exactly_the_limit(
    world: Programs, tmp_path: Path, door: str, limit: int
) -> None:
    write_study(tmp_path / "study", instances=2)
    view = await world.offer(tmp_path / "study")
    if door == "voice":
        view = await world.sender.engine.door(view.tid, door, "", "test")
        assert view.number, "the relay has it"
    strangers, kills = Strangers(view), _KILLS[door]
    crowd = asyncio.create_task(strangers.come(_CLIENTS[door], _PROCESSES))
    for n in range(kills):
        hearing = asyncio.create_task(strangers.heard.wait())
        await asyncio.wait({crowd, hearing}, return_when=asyncio.FIRST_COMPLETED)
        hearing.cancel()
        strangers.heard.clear()
        await world.sender.kill()
        assert spent(world, tmp_path / "copy") <= limit
        # The runs that were open hold their places for a minute, dead as they are.
        world.sender.turn_clock((n + 1) * (RUN_SECONDS + 1))
        await world.sender.start()
    await crowd
    for n in range(kills, kills + _ROUNDS):  # the tries that nobody had yet
        world.sender.turn_clock((n + 1) * (RUN_SECONDS + 1))
        if (left := (await world.sender.engine.transfer(view.tid)).tries_left) == 0:
            break
        await strangers.come(left)
    assert spent(world, tmp_path / "copy") == limit
    assert len(strangers.wrong) < limit, "the last one hears `locked`"
    async with Phone(view.link, view.pin, number=view.number) as right:
        # 200 leave more runs that nobody answers than the relay keeps for one mailbox: it lets nobody in for a while
        with pytest.raises(LockedError if _CLIENTS[door] < BOX_OPEN_RUNS else (LockedError, NoAnswerError)):
            await right.ask()
    assert spent(world, tmp_path / "copy") == limit
