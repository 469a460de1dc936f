"""What comes late follows by itself, through real gateways: series and reports, in mid-delivery and after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.errors import GatewayError
from clients.gateway.views import TransferView
from tests.dicom_kit import save
from tests.gateway_kit import an_instance
from tests.world import Site, World


def series(folder: Path, uid: str, count: int) -> set[str]:
    """A folder with one more series of the one study; the UIDs of its images."""
    folder.mkdir()
    made = [an_instance(InstanceNumber=n, SeriesInstanceUID=uid) for n in range(1, count + 1)]
    for n, ds in enumerate(made):
        save(ds, folder / f"{n}.dcm")
    return {str(ds.SOPInstanceUID) for ds in made}


async def test_a_late_series_and_a_report_follow_and_a_changed_report_is_flagged(
    world: World, tmp_path: Path
) -> None:
    s, r = world.sender, world.receiver
    first = series(tmp_path / "1", "2.25.31", 3)
    view = await world.offer(tmp_path / "1")
    await world.pacs.stop()  # so that the parent is still on its way when the first report comes
    await world.answer(view)
    await r.until(view.tid, "OPENED")
    study = view.study
    await s.engine.add_report(study, "CT head", "No bleeding.", b"", "desk")
    early = await added(s, view.tid, 1)
    await r.until(early, "OPENED")
    assert (await s.engine.transfer(view.tid)).state == "RELEASED"
    await world.start_pacs()
    for tid in (view.tid, early):
        await s.until(tid, "COMPLETE")
    before = await s.engine.transfer(view.tid)
    assert (before.stored, before.gaps) == (3, 0)
    assert (await s.engine.transfer(early)).contents == "1 report"

    # After COMPLETE: seven thin slices, and the report again, in other words.
    late = series(tmp_path / "2", "2.25.32", 7)
    await s.engine.import_path(str(tmp_path / "2"), "desk")
    await s.engine.add_report(study, "CT head (corrected)", "There is bleeding.", b"", "desk")
    await s.engine.close_study(study, "desk")
    tids = await all_complete(s, view.tid, images=7)
    there = await r.until(tids[-1], "COMPLETE")
    assert (there.kind, there.before) == ("add", view.tid)
    assert first | late <= world.stored().keys()
    assert len(world.stored()) == 12, "each once: ten images and two reports"
    parent = await r.engine.transfer(view.tid)
    assert parent.additions == tids
    flagged = [await r.engine.transfer(tid) for tid in tids]
    assert [v.changed_reports for v in flagged] == [0] * (len(tids) - 1) + [1]
    assert any("report of this study was changed" in alarm for alarm in flagged[-1].alarms)
    assert {v.filed for v in flagged} == {parent.filed}, "the same patient"

    # The parent is what it was, at both.
    after = await s.engine.transfer(view.tid)
    assert (after.state, after.receipt_code, after.ended_at) == (
        "COMPLETE",
        before.receipt_code,
        before.ended_at,
    )
    assert parent.receipt_code == before.receipt_code

    # Staff close it: what comes now is a new transfer.
    closed = await s.engine.close_additions(view.tid, "desk")
    assert closed.add_until <= s.rooms.clock.now()
    await s.engine.add_report(study, "CT spine", "Broken.", b"", "desk")
    await s.eventually(lambda: late_alarm(s, view.tid))
    assert (await s.engine.transfer(view.tid)).additions == tids
    with pytest.raises(GatewayError, match="nothing to close"):
        await s.engine.close_additions(view.tid, "desk")


async def added(s: Site, tid: str, count: int) -> str:
    async def look() -> TransferView | None:
        view = await s.engine.transfer(tid)
        return view if len(view.additions) >= count else None

    return (await s.eventually(look)).additions[count - 1]


async def all_complete(s: Site, tid: str, images: int) -> list[str]:
    """The additions of a transfer, once they are complete and brought so many images, in however many bursts."""

    async def look() -> list[str] | None:
        tids = (await s.engine.transfer(tid)).additions
        views = [await s.engine.transfer(x) for x in tids]
        done = all(v.state == "COMPLETE" for v in views) and sum(v.stored for v in views) == images + 2
        return tids if done else None

    return await s.eventually(look)


async def late_alarm(s: Site, tid: str) -> object:
    return next((x for x in (await s.engine.transfer(tid)).alarms if "new transfer" in x), None)
