"""A study that goes to another hospital instead, through real gateways: before the yes, after it, in mid-delivery."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.errors import GatewayError
from clients.gateway.sending.additions import ELSEWHERE
from tests.dicom_kit import save
from tests.gateway_kit import an_instance
from tests.world import Site, World, hashes

NORTH = "Northside Trauma Center"


def a_study(folder: Path, number: int) -> set[str]:
    """A folder of one small study; the UIDs of its images."""
    folder.mkdir()
    uids = set()
    for n in range(1, 4):
        ds = an_instance(
            InstanceNumber=n, StudyInstanceUID=f"2.25.11{number}", SeriesInstanceUID=f"2.25.12{number}"
        )
        save(ds, folder / f"{n}.dcm")
        uids.add(str(ds.SOPInstanceUID))
    return uids


async def one_more(s: Site, folder: Path, number: int) -> set[str]:
    """A late image of that study arrives; its UID."""
    folder.mkdir()
    ds = an_instance(StudyInstanceUID=f"2.25.11{number}", SeriesInstanceUID="2.25.99")
    save(ds, folder / "1.dcm")
    await s.engine.import_path(str(folder), "desk")
    return {str(ds.SOPInstanceUID)}


async def _arrived(world: World, north: Site, tid: str, uids: set[str]) -> None:
    end = await world.sender.until(tid, "COMPLETE", "PARTIAL")
    assert (end.state, end.peer, end.gaps) == ("COMPLETE", NORTH, 0)
    await north.until(tid, "COMPLETE")
    assert uids <= set(hashes(world.base / f"{NORTH} pacs"))


async def test_before_the_yes_after_it_and_in_mid_delivery(world: World, tmp_path: Path) -> None:
    s, r = world.sender, world.receiver
    north = await world.another(NORTH)

    # Before: R has it sealed. Not a byte is uploaded again; the same yes is enough.
    uids = a_study(tmp_path / "1", 1)
    view = await world.offer(tmp_path / "1", alt=(NORTH,))
    sealed = (await s.eventually(lambda: _uploaded(s, view.tid))).bytes
    await r.eventually(lambda: _fetched(r, view.tid, sealed))
    child = await s.engine.divert(view.tid, NORTH, "desk")
    assert (child.state, child.bytes, child.before) == ("OFFERED", sealed, view.tid)
    assert await world.answer(view) == "DIVERTED"
    await _arrived(world, north, child.tid, uids)
    assert (await s.engine.transfer(child.tid)).moved == sealed
    assert len(await _spools(s)) == 1
    old = await r.until(view.tid, "DIVERTED")
    assert "another hospital" in old.sentence
    await r.eventually(lambda: _empty(r))
    assert not uids & set(world.stored()), "the first hospital has images"

    # After the yes, which named the place, and before the first hospital has opened: it goes at once.
    uids = a_study(tmp_path / "2", 2)
    view = await world.offer(tmp_path / "2", alt=(NORTH,))
    await r.until(view.tid, "SEEN")
    await r.close()
    assert await world.answer(view) == "RELEASED"
    child = await s.engine.divert(view.tid, NORTH, "desk")
    assert (child.state, child.link) == ("RELEASED", "")
    await _arrived(world, north, child.tid, uids)
    assert (await s.engine.transfer(view.tid)).state == "DIVERTED"
    await r.open()
    await r.until(view.tid, "DIVERTED")

    # In mid-delivery, to a place that nobody named: the person is asked again, and until then the first one goes on.
    await world.pacs.stop()
    uids = a_study(tmp_path / "3", 3)
    view = await world.offer(tmp_path / "3")
    await world.answer(view)
    await r.until(view.tid, "OPENED")
    uids |= await one_more(s, tmp_path / "late", 3)
    addition = (await s.eventually(lambda: _added(s, view.tid)))[0]
    child = await s.engine.divert(view.tid, NORTH, "desk")
    assert child.link
    assert child.link != view.link
    assert (await s.engine.transfer(view.tid)).state == "RELEASED"
    await world.answer(child)
    await _arrived(world, north, child.tid, uids)
    assert (await r.until(view.tid, "DIVERTED")).stored == 0
    ended = await s.engine.transfer(addition)
    assert (ended.state, ended.why) in (("DIVERTED", ELSEWHERE), ("REVOKED", ELSEWHERE))
    assert (await s.engine.transfer(view.tid)).after == child.tid
    assert len(await _spools(s)) == 6, "who has opened the first could read the second"


async def test_where_it_cannot_go_nothing_is_changed(world: World, study: Path) -> None:
    view = await world.offer(study)
    with pytest.raises(GatewayError) as why:
        await world.sender.engine.divert(view.tid, "Nowhere Hospital", "desk")
    assert why.value.code == "absent"
    north = await world.another(NORTH)
    await north.close()
    await north.open()
    await world.sender.rooms.db.run(lambda con: con.execute("UPDATE peers SET prekey=NULL, prekey_exp=0"))
    await world.relay.stop()
    try:
        with pytest.raises(GatewayError) as why:
            await world.sender.engine.divert(view.tid, NORTH, "desk")
    finally:
        await world.start_relay()
    assert why.value.code == "no-prekey"
    assert "existing route" in why.value.sentence
    assert (await world.sender.engine.transfer(view.tid)).state == "OFFERED"
    assert len(await world.sender.engine.transfers()) == 1


async def _uploaded(s: Site, tid: str) -> object:
    view = await s.engine.transfer(tid)
    return view if view.total and 0 < view.bytes == view.moved else None


async def _fetched(r: Site, tid: str, size: int) -> object:
    try:
        return True if (await r.engine.transfer(tid)).moved == size else None
    except GatewayError:
        return None


async def _added(s: Site, tid: str) -> list[str] | None:
    return (await s.engine.transfer(tid)).additions or None


async def _empty(r: Site) -> object:
    return True if not list((r.folder / "sealed").iterdir()) else None


async def _spools(s: Site) -> list[object]:
    return await s.rooms.db.run(lambda con: con.execute("SELECT cid FROM spools").fetchall())
