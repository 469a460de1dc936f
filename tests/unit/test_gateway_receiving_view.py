"""`clients.gateway.receiving.view`: what the inbox shows, and that it knows nobody before the yes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.meter import Meter
from clients.gateway.receiving.view import SENTENCES, receive_view
from clients.gateway.views import TransferView
from tests.gateway_kit import HOUR, NOW, Handset, House, carry, houses
from transfer.ids import Cid, Tid
from transfer.states import RECEIVER


class Parties:
    def __init__(self, s: House, r: House, tid: Tid) -> None:
        self.s, self.r, self.tid = s, r, tid
        self.meters: dict[Cid, Meter] = {}

    async def view(self) -> TransferView:
        row = await self.r.receive(self.tid)
        return await self.r.db.run(lambda con: receive_view(con, row, self.r.vault, self.meters))

    async def open(self) -> None:
        phone = await Handset.scan(self.s, self.tid)
        await phone.ask()
        await phone.decide(by="proxy", name="Chris Proxy", rel="parent")
        await carry(self.s, self.r)

    async def ledger(self, *states: str) -> None:
        cid = (await self.r.receive(self.tid))["cid"]
        await self.r.execute(
            "INSERT INTO in_series VALUES (?,0,'2.25.1',?,1,'CT 2 · head','CT')", cid, len(states)
        )
        for no, state in enumerate(states):
            await self.r.execute(
                "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at)"
                " VALUES ('P',?,?,?,0,x'00',?,0)",
                f"2.25.{no}", self.tid, no, state,
            )  # fmt: skip
        await self.r.execute("UPDATE receives SET total=?", len(states))


@pytest.fixture
async def p(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses(tmp_path) as (s, r):
        tid = await s.offer_to(r)
        await carry(s, r)
        yield Parties(s, r, tid)


async def test_before_the_yes_nobody_is_known(p: Parties) -> None:
    view = await p.view()
    assert (view.state, view.role, view.peer, view.reason) == ("SEEN", "receive", "Valley ED", "transfer")
    assert (view.patient_name, view.birth_date, view.what, view.decided_by, view.link, view.pin) == ("",) * 6
    assert (view.created_at, view.expires_at, view.instances, view.total) == (NOW, NOW + 2 * HOUR, 0, 0)


async def test_what_is_announced_and_here(p: Parties) -> None:
    cid = Cid((await p.r.receive(p.tid))["cid"])
    for n, have in enumerate((1, 1, 0)):
        await p.r.execute(
            "INSERT INTO in_packs (cid, n, kind, size, have) VALUES (?,?,'D',100,?)", cid, n, have
        )
    meter = p.meters[cid] = Meter()
    meter.add(200)
    view = await p.view()
    assert (view.bytes, view.moved, view.stalled) == (300, 200, False)
    assert view.speed > 0
    meter.last -= 6
    assert (await p.view()).stalled
    await p.r.inbox.expire()
    await p.s.offers.stop(p.tid, "clerk")
    await carry(p.s, p.r)
    await p.r.execute("DELETE FROM in_packs")
    view = await p.view()
    assert (view.state, view.bytes, view.moved, view.stalled) == ("REVOKED", 200, 200, False), "remembered"


async def test_an_opened_one_counts_what_the_pacs_has(p: Parties) -> None:
    await p.open()
    await p.ledger("stored", "stored", "sending", "failed")
    view = await p.view()
    assert (view.state, view.decided_by, view.decided_at) == ("OPENED", "proxy: Chris Proxy (parent)", NOW)
    assert (view.instances, view.stored, view.gaps, view.total) == (4, 2, 0, 4)
    (series,) = view.series
    assert (series.label, series.have, series.want, series.closed) == ("CT 2 · head", 2, 4, True)


async def test_gaps_are_counted_at_the_end(p: Parties) -> None:
    await p.open()
    await p.ledger("stored", "stored", "failed")
    await p.r.inbox.finish(p.tid, "gave-up", "pacs")
    view = await p.view()
    assert (view.state, view.stored, view.gaps, view.sentence) == ("PARTIAL", 2, 1, SENTENCES["pacs"])


async def test_images_that_the_sender_lost_are_gaps_too(p: Parties) -> None:
    await p.open()
    await p.ledger("stored", "stored")
    await p.r.execute("UPDATE in_series SET want=3")
    await p.r.inbox.finish(p.tid, "delivered")
    view = await p.view()
    assert (view.state, view.stored, view.gaps, view.sentence) == ("PARTIAL", 2, 1, SENTENCES["unsent"])


@pytest.mark.parametrize("state", sorted({step.to for step in RECEIVER.values()}))
def test_every_state_has_a_sentence(state: str) -> None:
    assert SENTENCES[state].endswith(".")
