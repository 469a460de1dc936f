"""What is behind "stored": after the last image the PACS is asked to answer for all of them.

An answer to a C-STORE says that an instance was taken, not that it is kept. Three proofs, the best that the PACS gives:

    commit  it takes responsibility for the instance (storage commitment, PS3.4 J)
    find    it names the instance when it is asked for it (C-FIND at the level IMAGE, PS3.4 C.4.1)
    store   it has answered the C-STORE with success, and nothing more can be had

All stored instances of a transfer at one destination are asked about, batch by batch, commitment first. What a PACS
reports as absent (0x0112, or 0x0119: another class under this UID) is *lost*: it is sent once more and asked about
again, and who is lost twice is a gap with the note `lost`. What it says nothing about, or for which it only gives a
reason of its own (out of resources, a class that it does not commit), is asked for by query, and so is everything
where the PACS cannot commit at all. An archive may list an image a moment after it took it: what a query does not find
is asked for again for a while before it counts as lost. Where a PACS answers no queries either, the proof stays
`store`; but an instance for which it *refused* to answer counts as lost then, except for want of the class (0x0122).

Nothing is held in memory: what was proven is in the ledger. A restart in the middle asks again about the rest, with a
transaction of its own; a report for the one before is nobody's. Sending, first image to last, is over before any of
this begins, and everything has a bound: the receipt is not later for it than those bounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog

from clients.gateway.dicom.commitment import MOST
from clients.gateway.dicom.refusals import CLASS_NOT_SUPPORTED
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.receiving.commitment import Answered, Commitments
from clients.gateway.receiving.ledger import Ledger
from clients.gateway.receiving.proofs import Proofs, Unproven
from clients.gateway.receiving.settling import Question
from clients.gateway.store.database import Database

log = structlog.get_logger()
_ABSENT = (0x0112, 0x0119)
"""Failure reasons (PS3.4 J.3.3.1.3): no such instance; the class is another one."""
_AWAY, _BROKEN = ("pacs-down", "pacs-busy"), ("pacs-lost", "dicom-child")
_BROKEN_MOST = 2
"""Times that a request may break off before that counts as an answer."""
_QUERIES = 300.0
"""Seconds for the queries about one transfer; what is not asked for by then keeps the proof that it has."""
_LAG = 30.0
"""Seconds that an archive may take to list what it has taken."""
_PAUSE_FIRST, _PAUSE_MOST = 0.5, 8.0


class Prover:
    """Proves the transfers of one destination. `seconds` bounds a commitment; 0: nothing is asked, by query neither."""

    def __init__(self, db: Database, scu: StoreScu, commitments: Commitments, seconds: float) -> None:
        self._db, self._scu, self._commitments, self._seconds = db, scu, commitments, seconds

    async def prove(self, ledger: Ledger) -> bool:
        """Asks about all that is stored and not committed. Whether something was lost and is to be sent again."""
        if not self._seconds:
            return False
        proofs = Proofs(ledger, self._db)
        again, after, inquiry = False, -1, _Inquiry(self._scu, proofs)
        while batch := await proofs.open(after, MOST):
            after = batch[-1].no
            lost, refused, left = await self._commit(ledger.destination, proofs, batch)
            lost += await inquiry.about(left, refused)
            if lost:
                log.warning("the pacs has lost images", count=len(lost))
                again = await proofs.lose(lost)
        return again

    async def _commit(
        self, destination: str, proofs: Proofs, batch: list[Unproven]
    ) -> tuple[list[int], set[int], list[Unproven]]:
        """Storage commitment of a batch: who is lost, whom the PACS does not answer for, and all who are left to ask
        for.
        """
        asked = [x for x in batch if x.sop_class]
        if not asked or not self._commitments.may_ask(destination):
            return [], set(), batch
        answered = await self._ask(asked)
        self._commitments.learn(destination, answered)
        if answered.why:
            log.info("no storage commitment", code=answered.why)
        await proofs.prove("commit", [x.no for x in asked if x.sop_uid in answered.safe])
        lost = [x.no for x in asked if answered.lost.get(x.sop_uid) in _ABSENT]
        reasons = {x.no: answered.lost[x.sop_uid] for x in asked if x.sop_uid in answered.lost}
        refused = {no for no, reason in reasons.items() if reason != CLASS_NOT_SUPPORTED}
        left = [x for x in batch if x.sop_uid not in answered.safe and x.no not in lost]
        return lost, refused, left

    async def _ask(self, batch: list[Unproven]) -> Answered:
        """The PACS's report; one that is away just now is asked again within the time."""
        until, pause, broken = time.monotonic() + self._seconds, _PAUSE_FIRST, 0
        while True:
            left = until - time.monotonic()
            answered = await self._commitments.ask(self._scu, [(x.sop_class, x.sop_uid) for x in batch], left)
            broken += answered.why in _BROKEN
            goes_on = answered.why in _AWAY or (answered.why in _BROKEN and broken <= _BROKEN_MOST)
            if not goes_on or time.monotonic() + pause >= until:
                return answered
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MOST)


class _Inquiry:
    """The queries about one transfer."""

    def __init__(self, scu: StoreScu, proofs: Proofs) -> None:
        self._scu, self._proofs = scu, proofs
        self._mute = False
        self._until = time.monotonic() + _QUERIES

    async def about(self, left: list[Unproven], refused: set[int]) -> list[int]:
        """Asks for those who are left. Returns the numbers of those who are not there."""
        there, open_ = await self._round([x for x in left if x.proof != "find" and x.study_uid])
        await self._proofs.prove("find", there)
        until, pause = min(self._until, time.monotonic() + _LAG), _PAUSE_FIRST
        while open_ and not self._mute and time.monotonic() + pause < until:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MOST)
            there, open_ = await self._round(open_)
            await self._proofs.prove("find", there)
        if self._mute:  # nothing is known of who is left, but of some that the PACS did not answer for them
            return [x.no for x in open_ if x.no in refused]
        return [x.no for x in open_]

    async def _round(self, asked: Iterable[Unproven]) -> tuple[list[int], list[Unproven]]:
        """Numbers of those who are there, and who is not, or was not asked for any more."""
        there: list[int] = []
        absent: list[Unproven] = []
        for x in asked:
            known = None if self._mute else await self._is_there(x)
            if known:
                there.append(x.no)
            else:
                absent.append(x)
        return there, absent

    async def _is_there(self, x: Unproven) -> bool | None:
        """Whether the PACS names an instance; None if it does not say, and will not."""
        question, pause = Question(self._scu, x), _PAUSE_FIRST
        while time.monotonic() < self._until:
            answer = await question.ask()
            if answer.kind in ("there", "absent"):
                return answer.kind == "there"
            if answer.kind == "mute":
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MOST)
        self._mute = True
        return None
