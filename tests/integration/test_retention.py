"""After thirty days a transfer is remembered without the names and UIDs that it had."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from clients.gateway.dicom.header import read_header
from clients.gateway.store.retention import REMEMBER, forget
from tests.world import Site, World, hashes


def bytes_of(site: Site) -> bytes:
    """All that the database says, in both of its files."""
    return b"".join(p.read_bytes() for p in sorted(site.folder.glob("gateway.db*")))


async def test_names_and_uids_go_and_the_ends_stay(world: World, study: Path) -> None:
    offered = await world.offer(study)
    await world.answer(offered)
    await world.sender.until(offered.tid, "COMPLETE")
    before = await world.receiver.until(offered.tid, "COMPLETE")
    uids = [uid.encode() for uid in hashes(study)]
    series = [read_header(path).series_uid.encode() for path in study.rglob("*.dcm")]
    assert before.patient_name == "PHANTOM, TRAUMA"
    assert all(uid in bytes_of(world.receiver) for uid in uids)

    for site, later in ((world.sender, REMEMBER - 60), (world.receiver, REMEMBER - 60)):
        erased, _ = await site.rooms.db.run(partial(forget, now=site.clock.now() + later))
        assert not erased
    for site in (world.sender, world.receiver):
        site.clock.skew = REMEMBER + 60
        erased, _ = await site.rooms.db.run(partial(forget, now=site.clock.now()))
        assert erased
        await site.rooms.studies.forget_old(site.rooms.config.policy.keep_seconds)
        await site.rooms.db.scrub()
        data = bytes_of(site)
        assert b"PHANTOM" not in data
        assert not any(uid in data for uid in uids + series)
        erased, _ = await site.rooms.db.run(partial(forget, now=site.clock.now()))
        assert not erased

    after = await world.receiver.engine.transfer(offered.tid)
    assert (after.state, after.stored, after.total, after.gaps) == ("COMPLETE", len(uids), len(uids), 0)
    assert after.receipt_code == before.receipt_code
    sent = await world.sender.engine.transfer(offered.tid)
    assert (sent.state, sent.patient_name) == ("COMPLETE", "")
