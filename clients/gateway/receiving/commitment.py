"""Storage commitment of what a PACS has taken: who asked what, and what came back (PS3.4 J).

The request goes out by the SCU child; the report comes in by either child, at any time, perhaps twice, perhaps about
instances that nobody asked about, perhaps never. Here each request is one transaction with a UID of its own and a
deadline, request and report together; what does not belong to an open one is dropped. What a report does not mention
is not answered.

A PACS that cannot commit, or never reports, is not asked again for an hour: whoever waits for a receipt would wait for
it each time. One that has reported before is only busy, and is asked again after a minute.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

import msgspec

from clients.gateway.dicom.commitment import MOST, Report
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.scu import StoreScu

_OPEN = 1000
"""Transactions that may be open at once."""
_REST, _SHORT_REST = 3600.0, 60.0
"""Seconds that a destination which gave no report is not asked: one that never did, one that has."""


class Answered(msgspec.Struct, frozen=True):
    """What is known of the instances that were asked about; None in `why` where every request was taken."""

    safe: frozenset[str]
    lost: dict[str, int]
    """SOP Instance UIDs that the PACS does not answer for, with its reason (PS3.4 J.3.3.1.3)."""
    why: str = ""
    """The code of what stood in the way: `pacs-commit` if it cannot commit, `pacs-late` if it never reported."""


class Commitments:
    """Open transactions, of one gateway. `heard`: our SCP listens, to which most PACS report."""

    def __init__(self, *, heard: bool = True) -> None:
        self._heard = heard
        self._open: dict[str, asyncio.Future[Report]] = {}
        self._able: set[str] = set()
        self._rests: dict[str, float] = {}

    def may_ask(self, destination: str) -> bool:
        """Whether a destination may be able to commit, as far as is known."""
        return self._heard and time.monotonic() >= self._rests.get(destination, 0.0)

    def learn(self, destination: str, answered: Answered) -> None:
        """What an answer says of a destination."""
        if not answered.why:
            self._able.add(destination)
        rest = 0.0 if not answered.why else _SHORT_REST if destination in self._able else _REST
        self._rests[destination] = time.monotonic() + rest

    def report(self, report: Report) -> None:
        """Takes a report, from either child. The first of a transaction counts."""
        waiting = self._open.get(report.transaction)
        if waiting is not None and not waiting.done():
            waiting.set_result(report)

    async def ask(self, scu: StoreScu, references: Sequence[Pair], seconds: float) -> Answered:
        """Asks for all of `references`, request by request, each of which has `seconds` to its report."""
        safe: set[str] = set()
        lost: dict[str, int] = {}
        for i in range(0, len(references), MOST):
            part = list(references[i : i + MOST])
            report, why = await self._transaction(scu, part, seconds)
            if report is None:
                return Answered(frozenset(safe), lost, why)
            asked = {uid for _, uid in part}
            safe |= asked & set(report.safe)
            lost.update(
                {uid: reason for uid, reason in report.failed if uid in asked and uid not in report.safe}
            )
        return Answered(frozenset(safe), lost)

    async def _transaction(
        self, scu: StoreScu, references: list[Pair], seconds: float
    ) -> tuple[Report | None, str]:
        if len(self._open) >= _OPEN:
            return None, "pacs-late"
        transaction = f"2.25.{uuid.uuid4().int}"
        waiting: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._open[transaction] = waiting
        try:
            async with asyncio.timeout(seconds):
                asked = await scu.commit(transaction, references)
                return (await waiting, "") if asked.ok else (None, asked.code)
        except TimeoutError:
            return None, "pacs-late"
        finally:
            del self._open[transaction]
