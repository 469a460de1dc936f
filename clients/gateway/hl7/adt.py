"""Identities that are known later, told to the hospital's systems: ADT^A40 and ADT^A08 (IHE ITI TF-2 3.30).

What staff confirmed is a row of `identity_changes` (`receiving.merging`), and that row is the queue: it waits until the
other side has answered, so neither a restart nor a system that is down for a weekend loses one. They go one at a time,
in the order in which staff said them, each over a connection of its own:

    another number       ADT^A40: what was filed under the old one belongs to the new one
    the same number      ADT^A08: who is behind it
    AA (or CA)           done, and never sent again
    AE, AR (or CE, CR)   they will not have it: an alarm at the transfer, and staff do it by hand
    no answer            tried again, later each time; an alarm once it has failed for a while

The control id (MSH-10) follows from the row. A message whose answer was lost comes again under the same id, by which a
receiver knows it (chapter 2.9.2); an A40 that it takes twice merges what is merged.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable

import structlog

from clients.gateway.clock import Clock, Signal, date_time
from clients.gateway.hl7 import mllp
from clients.gateway.hl7.message import Ends, Hl7Error, Person, control_of, merge, update
from clients.gateway.receiving import merging
from clients.gateway.receiving.merging import IdentityChange
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database

log = structlog.get_logger()
_FIRST, _LONGEST = 2.0, 300.0
"""Seconds between two tries."""
_PATIENT = 3
"""Tries that fail before staff are told."""
_LOOK = 15.0
_STALE = 7 * 86400
"""Seconds after which staff have merged the two by hand, or nobody will: HL7 may have been set up later than that."""
_DONE, _NOT = frozenset({"AA", "CA"}), frozenset({"AE", "AR", "CE", "CR"})
DOWN = (
    "The HL7 interface that is to learn who a patient is does not answer. It is tried again; check hl7.adt in"
    " gateway.toml and the interface engine."
)
REFUSED: dict[merging.Kind, str] = {
    "merge": "The hospital's system refused to merge this patient's two numbers ({code}, message {control}). Merge them"
    " by hand in the PACS and the HIS.",
    "update": "The hospital's system refused what is known now of this patient ({code}, message {control}). Enter it by"
    " hand in the PACS and the HIS.",
}
STALE: dict[merging.Kind, str] = {
    "merge": "This change is older than a week and was not sent. Merge the two numbers by hand if nobody has.",
    "update": "This change is older than a week and was not sent. Enter who the patient is by hand if nobody has.",
}


class IdentityFeed:
    """Sends what waits to one system."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        host: str,
        port: int,
        ends: Ends,
        changed: Signal,
        pause: Callable[[int], float] | None = None,
    ) -> None:
        self._db, self._clock, self._host, self._port, self._ends = db, clock, host, port, ends
        self._changed, self._pause = changed, pause or _pause

    async def run(self) -> None:
        """Until cancelled."""
        failed = 0
        while True:
            seen = self._changed.seen
            waiting = await self._db.run(lambda con: merging.waiting(con, 1))
            if not waiting:
                await self._changed.wait(seen, _LOOK)
                continue
            if await self.tell(waiting[0]):
                failed = 0
                continue
            failed += 1
            await self._complain(waiting[0], failed)
            await asyncio.sleep(self._pause(failed))

    async def tell(self, change: IdentityChange) -> bool:
        """Sends one change; False where there was no answer to it."""
        now = self._clock.now()
        if now - change.at > _STALE:
            await self._settle(change, "failed", STALE[change.kind])
            return True
        control = control_id(change)
        code = await self._ask(message_of(change, self._ends, control, now), control)
        if code in _DONE:
            await self._settle(change, "sent", "")
        elif code in _NOT:
            await self._settle(change, "failed", REFUSED[change.kind].format(code=code, control=control))
        return bool(code)

    async def _ask(self, message: str, control: str) -> str:
        """The code of the acknowledgement, or nothing."""
        try:
            code, of = control_of(await mllp.call(self._host, self._port, message.encode()))
        except (mllp.MllpError, Hl7Error):
            return ""
        return code if of == control and code in _DONE | _NOT else ""

    async def _settle(self, change: IdentityChange, state: merging.State, note: str) -> None:
        now = self._clock.now()

        def work(con: Con) -> None:
            merging.settle(con, change.id, state, note, now)
            if state == "failed":
                audit.alarm(con, change.tid, "hl7-adt", note, now)

        await self._db.run(work)
        self._changed.set()

    async def _complain(self, change: IdentityChange, failed: int) -> None:
        log.warning("an HL7 message has no answer", tries=failed)
        if failed != _PATIENT:
            return
        now = self._clock.now()

        def work(con: Con) -> None:
            merging.settle(con, change.id, "waiting", DOWN, now)
            audit.alarm(con, None, "hl7-down", DOWN, now)

        await self._db.run(work)
        self._changed.set()


def _pause(failed: int) -> float:
    return min(_FIRST * 2.0 ** min(failed - 1, 20), _LONGEST)


def control_id(change: IdentityChange) -> str:
    """MSH-10 of a change: the same each time, and nobody else's. 20 characters (chapter 2.14.9.10)."""
    body = hashlib.sha256(
        bytes(change.tid) + change.at.to_bytes(8, "big") + change.id.to_bytes(8, "big")
    ).digest()
    return "TT" + base64.b32encode(body).decode()[:18]


def message_of(change: IdentityChange, ends: Ends, control: str, now: int) -> str:
    """The message of a change."""
    family, given = [*change.to_name.split("^"), "", ""][:2]
    person = Person(
        id=change.to_id, issuer=change.to_issuer, family=family, given=given, birth_date=change.to_birth_date,
        sex=change.to_sex,
    )  # fmt: skip
    stamp = date_time(now)
    if change.kind == "update":
        return update(person, ends, control, stamp)
    old = Person(id=change.from_id, issuer=change.from_issuer)
    return merge(person, old, ends, control, stamp)
