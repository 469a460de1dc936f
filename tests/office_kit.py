"""A receiver that asks whose images an opened transfer is, and the staff who answer there."""

from __future__ import annotations

import asyncio

from clients.gateway.clock import Signal
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.dicom.worklist import Worklist
from clients.gateway.receiving.identity import Frozen, Identities, Policy
from clients.gateway.receiving.reconciling import Reconciling
from clients.gateway.store.database import Database, rows, value
from clients.gateway.whose import Candidate
from tests.gateway_kit import NOW, PATIENCE, StillClock
from transfer.ids import SiteId, Tid

TID, PEER = Tid(b"t" * 16), SiteId(b"p" * 32)
HEADER = InstanceHeader(
    sop_class="1.2", sop_uid="1.2.3", syntax="1.2.840.10008.1.2.1", study_uid="1.2.1", series_uid="1.2.2",
    data_offset=0, size=0, patient_name="TEST, ALPHA", patient_id="4711", issuer="VALLEY", birth_date="1984-03-12",
    sex="F", charset="ISO_IR 100",
)  # fmt: skip
SAME = Candidate(patient_id="900", name="TEST, ALPHA", birth_date="1984-03-12", sex="F")
BOTH = ["name", "birth_date"]


class Office:
    """A receiver with one opened transfer, and who decides there."""

    def __init__(
        self, db: Database, policy: Policy = "match", wait: int = 600, issuer: str = "LAKESIDE"
    ) -> None:
        self.db, self.clock, self.changed = db, StillClock(), Signal()
        self.identities = Identities(db, self.clock, policy, "TRAUMATX", self.changed, wait)
        self.reconciling = Reconciling(db, self.clock, self.identities, Worklist(None), policy, issuer)

    async def opened(self, tid: Tid = TID) -> None:
        await self.db.run(
            lambda con: con.execute(
                "INSERT INTO receives (tid, cid, peer, state, offer, created_at, exp) VALUES (?,?,?,'OPENED','',?,?)",
                (tid, tid, PEER, NOW, NOW + 7200),
            )
        )

    def asks(self, h: InstanceHeader = HEADER, tid: Tid = TID) -> asyncio.Task[Frozen]:
        return asyncio.create_task(self.identities.of(tid, PEER, h))

    async def waits(self) -> None:
        """Until staff are asked."""
        async with asyncio.timeout(PATIENCE):
            while (seen := self.changed.seen) >= 0 and not await self._asked():
                await self.changed.wait(seen, 1.0)

    async def _asked(self) -> bool:
        return (
            await self.db.run(lambda con: value(con, "SELECT why FROM receives WHERE tid=?", (TID,)))
        ) == "identity"

    async def ended(self, state: str = "COMPLETE") -> None:
        await self.db.run(lambda con: con.execute("UPDATE receives SET state=?", (state,)))

    async def audit(self) -> list[tuple[str, str, str]]:
        sql = "SELECT actor, action, detail FROM audit ORDER BY seq"
        return await self.db.run(lambda con: [tuple(r) for r in rows(con, sql)])  # type: ignore[misc]

    async def alarms(self) -> list[str]:
        return await self.db.run(lambda con: [r["code"] for r in rows(con, "SELECT code FROM alarms")])
