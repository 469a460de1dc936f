"""kill -9 of anybody, anywhere in a transfer, several times: the seed decides whom, and after how many bytes on which
wire. Whatever it hits, what must hold holds: the PACS has each instance exactly as it was sent, both sites call the
transfer COMPLETE, the tries and `used` are what they were, and the audit logs are whole. A no, or a PIN that was
wrong, brings nothing to the PACS.

`make soak` runs a thousand seeds (`RUNS=n` for another number); `SEED=n` runs one again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import drill
from clients.drill import LinkError, NoAnswerError, Phone
from clients.gateway.store import audit
from clients.gateway.views import TransferView
from tests.programs import Gateway, Link, Program, Programs, eventually, write_study
from transfer import tries
from transfer.door import WrongPinError
from transfer.states import TERMINAL

pytestmark = pytest.mark.asyncio(loop_scope="module")
_RUNS = int(os.environ.get("RUNS", "1000")) if os.environ.get("SOAK") else 2
SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(_RUNS)
_LONGEST = 2.0
"""Seconds that a killer waits for its byte: a wire on which nothing more goes never brings it."""
_HEARD = 120.0
"""Seconds in which a person is heard, through all of it."""


class Killer:
    """Kills one party after another, each at a byte of a wire that the dice name."""

    def __init__(self, world: Programs, dice: random.Random) -> None:
        self._world, self._dice = world, dice
        self.killed: list[str] = []
        self.alive = asyncio.Lock()
        """Held while somebody is dead."""

    async def run(self) -> None:
        """Two to four deaths."""
        for _ in range(self._dice.randrange(2, 5)):
            link: Link = self._dice.choice(self._world.links)
            link.hold(self._dice.choice(("up", "down")), self._dice.randrange(300_000))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._dice.random() * _LONGEST):
                    await link.held.wait()
            async with self.alive:
                victims = self._dice.sample(self._world.programs, self._dice.choice((1, 1, 1, 2)))
                self.killed += [v.name for v in victims]
                await asyncio.gather(*(v.kill() for v in victims))
                link.release()
                await asyncio.gather(*(_start(v) for v in victims))


async def _start(program: Program) -> None:
    await program.start()


class Person:
    """Answers as people do: again, where the page says that nobody answered."""

    def __init__(self) -> None:
        self.wrong = 0
        """How often it heard that its PIN is wrong."""

    async def guess(self, view: TransferView) -> None:
        """One wrong PIN, whether or not anybody hears it."""
        pin = f"{(int(view.pin) + 1) % 10**6:06d}"
        with contextlib.suppress(NoAnswerError, LinkError):
            async with Phone(view.link, pin) as phone:
                try:
                    await phone.ask()
                except WrongPinError:
                    self.wrong += 1
                    return

    async def answer(self, view: TransferView, d: str) -> str:
        """The state that S tells, in the end. Who is impatient has eight runs open soon, and waits a minute then. The
        relay does not know a code whose m0 S could not bring it yet, since one of them was dead.
        """
        async with asyncio.timeout(_HEARD):
            while True:
                with contextlib.suppress(NoAnswerError, LinkError):
                    async with Phone(view.link, view.pin) as phone:
                        asked = await phone.ask()
                        if asked.decided is not None:
                            return asked.state
                        return (await phone.decide(d, by="patient", name="", rel="self")).state


@pytest.mark.parametrize("seed", SEEDS)
async def test_kill_anybody_anywhere(
    everybody: Programs, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "_STEP", 6.0)
    monkeypatch.setattr(drill, "_RUNS", 1)
    monkeypatch.setattr(drill, "_PATIENCE", 10.0)
    world, dice = everybody, random.Random(f"kill/{seed}")
    await world.heal()
    d = dice.choice(("approve", "approve", "approve", "deny"))
    sent = write_study(
        tmp_path / "study", instances=dice.randrange(1, 20), side=dice.choice((16, 64, 128)), seed=seed
    )
    killer = Killer(world, dice)
    person = Person()
    guesses = dice.choice((0, 0, 1))
    view = await world.create(tmp_path / "study")
    killing = asyncio.create_task(killer.run())
    try:
        view = await _offered(world.sender, view.tid, killer)
        for _ in range(guesses):
            await person.guess(view)
        await person.answer(view, d)
    finally:  # never in the middle of a start: whoever comes next needs everybody
        await asyncio.gather(killing, return_exceptions=True)
        print(f"SEED={seed} {d} instances={len(sent)} guesses={guesses} killed={killer.killed}")
    await killing
    await world.heal()
    for site in (world.sender, world.receiver):
        end = await site.until(view.tid, *TERMINAL)
        assert end.state == ("COMPLETE" if d == "approve" else "DENIED"), (site.name, end.state, end.why)
    _promises(
        world,
        view.tid,
        sent if d == "approve" else {},
        tmp_path,
        wrong=person.wrong,
        killed=len(killer.killed),
    )
    assert set(world.at_pacs(sent)) == (set(sent) if d == "approve" else set())


async def _offered(site: Gateway, tid: str, killer: Killer) -> TransferView:
    """The view with its link, from a gateway that may be dead just now."""

    async def look() -> TransferView | None:
        async with killer.alive:
            view = await site.seen(tid)
        return view if view is not None and view.link else None

    return await eventually(look)


def _promises(
    world: Programs, tid: str, sent: dict[str, bytes], copy: Path, *, wrong: int, killed: int
) -> None:
    at_pacs = world.at_pacs(sent)
    assert {uid: set(copies) for uid, copies in at_pacs.items()} == {uid: {h} for uid, h in sent.items()}
    assert all(len(copies) <= 1 + killed for copies in at_pacs.values())
    ident = bytes.fromhex(tid)
    with _database(world.sender, copy / "s") as con:
        spent = con.execute("SELECT count(*) FROM tries WHERE tid=? AND state='spent'", (ident,)).fetchone()[
            0
        ]
        assert wrong <= spent <= tries.MAX
        assert audit.verify(con) == 0
    with _database(world.receiver, copy / "r") as con:
        assert con.execute("SELECT count(*) FROM used WHERE tid=?", (ident,)).fetchone()[0] == (
            1 if sent else 0
        )
        ledger = {
            r[0] for r in con.execute("SELECT sop_uid FROM ledger WHERE tid=? AND state='stored'", (ident,))
        }
        assert ledger == set(sent)
        assert audit.verify(con) == 0


@contextlib.contextmanager
def _database(site: Gateway, copy: Path) -> Iterator[sqlite3.Connection]:
    copy.mkdir()
    for name in ("gateway.db", "gateway.db-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(site.folder / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "gateway.db")) as con:
        con.row_factory = sqlite3.Row
        yield con
