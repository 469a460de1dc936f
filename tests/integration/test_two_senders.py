"""Two hospitals send an image of one SOP Instance UID to one trauma center: its PACS gets the first; staff are told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clients.gateway.receiving.holdings import CONFLICT
from tests.delivery_kit import Party
from tests.gateway_kit import House, an_instance, houses
from tests.spool_kit import workers

__all__ = ["workers"]


async def test_the_second_senders_image_under_the_same_uid_takes_nobodys_place(
    tmp_path: Path, workers: ThreadPoolExecutor
) -> None:
    """Both prefixes differ, so even the same bytes would be one UID in two patients' folders. The rest is stored."""
    async with houses(tmp_path) as (valley, center):
        county = await House(tmp_path / "c", valley.clock).make("County Hospital")
        first, second = Party(valley, center, workers), Party(county, center, workers)
        try:
            await county.pin(center)
            await center.pin(county)
            first.pacs.queries = True
            first.pacs.start()
            second.pacs, second.holdings = first.pacs, first.holdings
            shared = an_instance(InstanceNumber=1)
            await first.study(shared)
            await first.deliver(policy="prefix")
            had = dict(first.pacs.bytes)
            twin = an_instance(InstanceNumber=1, SOPInstanceUID=shared.SOPInstanceUID, PatientID="P2")
            own = an_instance(InstanceNumber=2, PatientID="P2")
            await second.study(twin, own)
            await second.deliver(policy="prefix")
            assert (await first.row())["state"] == "COMPLETE"
            row = await second.row()
            assert row["state"] == "PARTIAL"
            assert (await second.ledger()) == {0: "failed", 1: "stored"}
            assert first.pacs.bytes.keys() == had.keys() | {own.SOPInstanceUID}
            assert first.pacs.bytes[shared.SOPInstanceUID] == had[shared.SOPInstanceUID], "it is what it was"
            assert first.pacs.seen[shared.SOPInstanceUID] == 1
            alarms = await center.rows("SELECT code FROM alarms WHERE tid=?", second.tid)
            assert CONFLICT in [alarm["code"] for alarm in alarms]
            receipt = await second.receipt()
            assert receipt.gaps == [0], "and its sender reads of it"
        finally:
            first.pacs.stop()
            await first.transcoder.stop()
            await second.transcoder.stop()
            await county.close()
