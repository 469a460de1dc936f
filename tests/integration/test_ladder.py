"""Clinicians decide where nobody can be asked: over real gateways, allowed at the receiver and not."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.auditing.lines import EMERGENCY_STARTED, every_line, meaning
from clients.gateway.views import TransferView
from tests.world import Site, World, hashes

LADDER = """
rungs = [
  {name = "patient", seconds = 0}, {name = "attest", seconds = 0}, {name = "override"}
]
"""
WHY = "unconscious, nobody with them"


async def decide(site: Site, tid: str, kind: str) -> TransferView:
    """What the pages ask the engine for, after the passwords."""
    if kind == "override":
        return await site.engine.override(tid, WHY, "quill")
    view = await site.engine.attest(tid, WHY, "", "quill")
    assert view.state == "OFFERED"
    return await site.engine.attest(tid, "", view.word, "marsh")


async def emergencies(site: Site, tid: str) -> list[str]:
    """Lines of the audit log that are emergency access to everybody."""
    found = await site.rooms.db.run(lambda con: list(every_line(con, subject=tid)))
    hits = [line for line in found if meaning(line).kind == EMERGENCY_STARTED]
    assert all((meaning(line).event.value, meaning(line).purpose) == ("110113", "ETREAT") for line in hits)
    return [line.action for line in hits]


@pytest.mark.parametrize("kind", ["attest", "override"])
async def test_it_opens_where_the_receiver_allows_it_and_is_declined_where_not(
    world: World, study: Path, kind: str
) -> None:
    s, r = world.sender, world.receiver
    await s.close()
    (s.folder / "ladder.toml").write_text(LADDER)
    await s.open()
    for name in ("quill", "marsh"):
        await s.engine.user_add(name, "clinician", "no hash", "admin")

    refused = await world.offer(study)
    await r.until(refused.tid, "SEEN")
    await decide(s, refused.tid, kind)
    assert (await r.until(refused.tid, "DECLINED")).why == "grant-type-off"
    assert (await s.until(refused.tid, "PARTIAL")).why == "grant-type-off"
    assert world.stored() == {}
    assert await emergencies(r, refused.tid) == []

    peer = await r.engine.allow_peer(s.rooms.identity.site.hex(), [kind], "admin")
    assert peer.allow == [kind]
    again = await s.engine.send(refused.study, "Lakeside Trauma Center", "transfer", "test")
    await s.until(again.tid, "OFFERED")
    await decide(s, again.tid, kind)
    end, there = await s.until(again.tid, "COMPLETE"), await r.until(again.tid, "COMPLETE")
    assert world.stored() == hashes(study)
    for view in (end, there):
        assert (view.rung, view.decided_why) == (kind, WHY)
        assert "quill" in view.decided_by
        assert ("marsh" in view.decided_by) == (kind == "attest")
    assert await emergencies(s, again.tid) == [f"transfer.{kind}"]
    assert await emergencies(r, again.tid) == [f"incoming.{kind}"]
    notice = await s.engine.notice(again.tid)
    assert (notice.rung, notice.why, notice.to) == (kind, WHY, "Lakeside Trauma Center")
    assert notice.link.startswith("http")
    assert len(notice.pin) == 6
