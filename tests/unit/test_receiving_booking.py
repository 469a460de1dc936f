"""The delivery's last look at its ledger waits for results that are being booked."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

from clients.gateway.clock import Signal, SystemClock
from clients.gateway.receiving.delivery import Delivery
from clients.gateway.store.database import Con, Database, value
from transfer.ids import Tid

TID = Tid(b"t" * 16)
NOBODY = cast(Any, None)


async def test_a_result_under_way_is_not_lost(tmp_path: Path) -> None:
    db = Database(tmp_path / "gateway.db")
    await db.open()

    def listed(con: Con) -> None:
        con.execute(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at)"
            " VALUES ('PACS', '1.2', ?, 0, 0, x'00', 'sending', 0)",
            (TID,),
        )

    await db.run(listed)
    delivery = Delivery(
        tid=TID, db=db, vault=NOBODY, inbox=NOBODY, prefetch=NOBODY, scu=NOBODY, destination="PACS",
        folder=tmp_path, workers=NOBODY, clock=SystemClock(), changed=Signal(), deadline=60, largest=2**31,
    )  # fmt: skip
    disk = threading.Event()
    slow = asyncio.create_task(db.run(lambda con: disk.wait()))
    booking = asyncio.create_task(delivery._book())
    delivery._stored.append(0)
    delivery._results.set()

    async def end() -> None:
        await delivery._flush()
        booking.cancel()

    ending = asyncio.create_task(end())
    while delivery._stored:  # noqa: ASYNC110  # until the booking has taken it
        await asyncio.sleep(0)
    disk.set()
    await asyncio.gather(slow, ending)
    assert await db.run(lambda con: value(con, "SELECT state FROM ledger")) == "stored"
    await db.close()
