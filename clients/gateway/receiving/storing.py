"""One transfer at one destination: each instance once, however often it takes (PS3.4 B).

What is not known is settled (`settling`) before anything is sent again. A PACS that is busy or away is tried with
growing pauses, until nothing was stored for the whole deadline; what it refuses is refused once and is a gap. A
transfer syntax that it does not take is the one refusal about which something can be done (`transcoding`).

Where a transfer goes to several destinations one of them must not hold up the others: one that stays away is passed
over for a while, and what it missed comes in another pass over the packs. Alone, a destination waits with what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from clients.gateway.clock import Clock
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.dicom.statuses import StoreResult, troubled
from clients.gateway.errors import DiskFullError
from clients.gateway.receiving.holdings import CONFLICT, CONFLICT_SENTENCE, Held, Holdings
from clients.gateway.receiving.ledger import Ledger, Result
from clients.gateway.receiving.proving import Prover
from clients.gateway.receiving.settling import RESENT, Answer, Question
from clients.gateway.receiving.transcoding import Fallback, Transcoder
from transfer.messages import ItemEntry

RETRY_FIRST, RETRY_MOST = 1.0, 60.0
"""Seconds between two tries."""
_HOPE = 2
"""Tries of an instance that a destination gets while others wait for the next one."""
_REST = 30.0
"""Seconds that a destination is passed over then."""


class Ready(msgspec.Struct, frozen=True):
    """A restored instance, as it is to be stored."""

    item: ItemEntry
    path: Path
    header: InstanceHeader


class Storing:
    """Feeds one destination, which may be away for `deadline` seconds. `name` is empty where it is the only one."""

    def __init__(
        self,
        name: str,
        scu: StoreScu,
        ledger: Ledger,
        transcoder: Transcoder,
        holdings: Holdings,
        prover: Prover,
        *,
        clock: Clock,
        deadline: int,
        alarm: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self.name, self.ledger = name, ledger
        self._scu, self._holdings, self._prover = scu, holdings, prover
        self._fallback = Fallback(transcoder, scu)
        self._clock, self._deadline, self._alarm = clock, deadline, alarm
        self.patient = True
        """Nothing else waits while this one is away."""
        self.missed = False
        """Something was passed over since `begin`."""
        self._contexts: set[tuple[str, str]] = set()
        self._down_since = 0
        self._rests_until = 0.0
        self._first, self._known = asyncio.Lock(), False
        self._begun = False
        self._doubtful: set[int] = set()
        """Items that may be at the PACS without our knowing: of an earlier run, or tried in this one."""

    def begin(self) -> None:
        """A pass over the packs begins; the ledger is loaded. Of what it calls unknown, we know what we never tried."""
        self.missed = False
        if not self._begun:
            self._begun, self._doubtful = True, set(self.ledger.unknown)
        self.ledger.unknown &= self._doubtful
        self._known = self._known or bool(self.ledger.settled)

    def takes(self) -> bool:
        """Whether it is to be given the next instance; else it misses that one."""
        rests = time.monotonic() < self._rests_until and not self._is_over()
        self.missed = self.missed or rests
        return not rests

    async def announce(self, ready: Ready, listed: int) -> None:
        """`ready` comes next: on disk, and among the contexts that are proposed."""
        self._contexts.add((ready.item.sop_class, ready.item.syntax))
        await self.ledger.sending(ready.item.no, listed, self._holdings.note)

    async def store(self, ready: Ready) -> None:
        """One instance, again and again until the PACS has been away for the whole deadline."""
        item, h = ready.item, ready.header
        self._doubtful.add(item.no)
        async with self._holdings.alone(self.ledger, item.sop_uid):
            held = await self._holdings.look(self.ledger, item.sop_uid, item.hash)
            result = await self._settle(ready, frozenset(self._contexts), held)
            if result is None:
                self.ledger.unknown.add(item.no)  # another transfer that brings it asks first
                self.missed, self._rests_until = True, time.monotonic() + _REST
                return
            if result.proof:
                self._down_since, self._rests_until = 0, 0.0
            self.ledger.settle(
                msgspec.structs.replace(result, study_uid=h.study_uid, series_uid=h.series_uid)
            )

    async def prove(self) -> bool:
        """All is stored that can be: how sure is that? Whether something was lost and is to be stored again."""
        return await self._prover.prove(self.ledger)

    async def _settle(
        self, ready: Ready, contexts: frozenset[tuple[str, str]], held: Held | None
    ) -> Result | None:
        """Asks first where it may be there already, sends where it is not. None: later."""
        no, pause, note, tries = ready.item.no, RETRY_FIRST, "", 0
        unknown = no in self.ledger.unknown or held is not None
        question = Question(self._scu, ready.header)
        while True:
            answer = await question.ask() if unknown else Answer("absent")
            if held is not None and answer.kind != "away":
                if (had := held.settle(no, answer.kind, self._clock.now())) is not None:
                    await self._tell_conflict(had)
                    return had
                held = None  # what is there from now on is ours
            if answer.kind == "there":
                return Result(no, "find", None, note)
            away, syntax = answer.kind == "away", ""
            if away:
                result = troubled(answer.code)
            else:
                result, syntax = await self._send(ready, contexts)
            if answer.kind == "mute" and result.kind != "retry":
                note = RESENT  # it reached the PACS, perhaps once too often
            if result.kind in ("ok", "warning"):
                return Result(no, "store", result.status, note, syntax)
            if result.kind == "refused":
                return Result(no, "", result.status, result.kind if result.status else result.code)
            if self._away_too_long():
                return Result(no, "", result.status, result.kind)
            tries += 1
            unknown = unknown or result.kind == "unknown"
            with contextlib.suppress(DiskFullError):
                await self._tell(result.sentence)
            if not self.patient and tries >= _HOPE:
                if not unknown:
                    self._doubtful.discard(no)
                return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MOST)

    async def _send(self, ready: Ready, contexts: frozenset[tuple[str, str]]) -> tuple[StoreResult, str]:
        """C-STORE: what came of it, and the transfer syntax if it is another. One at a time until the PACS has the
        first: given a new patient by two at once, it may make two.
        """
        item = ready.item
        async with contextlib.AsyncExitStack() as alone:
            if not self._known:
                await alone.enter_async_context(self._first)
            result = await self._scu.store(ready.path, item.sop_class, item.sop_uid, item.syntax, contexts)
            syntax = ""
            if result.code == "pacs-context":
                result, syntax = await self._fallback.store(ready.path, item)
            self._known = self._known or result.kind in ("ok", "warning")
            return result, syntax

    async def _tell_conflict(self, had: Result) -> None:
        if had.note == CONFLICT:
            with contextlib.suppress(DiskFullError):
                await self._alarm(CONFLICT, CONFLICT_SENTENCE)

    async def _tell(self, sentence: str) -> None:
        """Staff, of which PACS it is where there are several."""
        if self.name:
            await self._alarm(f"pacs-{self.name}", f"Destination {self.name}: {sentence}")
        else:
            await self._alarm("pacs", sentence)

    def _away_too_long(self) -> bool:
        """Whether nothing was stored for the whole deadline: then each that is left gets one more try, not hours."""
        self._down_since = self._down_since or self._clock.now()
        return self._is_over()

    def _is_over(self) -> bool:
        return bool(self._down_since) and self._clock.now() >= self._down_since + self._deadline
