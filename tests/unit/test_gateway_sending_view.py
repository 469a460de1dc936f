"""`clients.gateway.sending.view`: what the desk shows, and what it shows no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.meter import Meter
from clients.gateway.sending.codes import LockedDoorError
from clients.gateway.sending.view import SENTENCES, send_view, sentence_of, study_view
from clients.gateway.views import TransferView
from tests.gateway_kit import HOUR, NOW, Handset, House, houses
from transfer import jws
from transfer.encoding import sha256
from transfer.ids import Cid, Digest, Tid
from transfer.links import read_link
from transfer.messages import Receipt, sign_message
from transfer.states import SENDER
from transfer.tries import RUNS_EVER

PAGE = "https://relay.example"


class Parties:
    def __init__(self, s: House, r: House, tid: Tid) -> None:
        self.s, self.r, self.tid = s, r, tid
        self.meters: dict[Cid, Meter] = {}

    async def view(self) -> TransferView:
        row = await self.s.send(self.tid)
        return await self.s.db.run(lambda con: send_view(con, row, self.s.vault, PAGE, self.meters))

    async def packs(self, *uploaded: int) -> Cid:
        cid = Cid((await self.s.send(self.tid))["cid"])
        for n, state in enumerate(uploaded):
            await self.s.execute(
                "INSERT INTO packs (cid, n, kind, size, hash, uploaded) VALUES (?,?,'D',100,x'00',?)",
                cid,
                n,
                state,
            )
        return cid

    async def receipt(self, gaps: list[int]) -> None:
        row = await self.s.send(self.tid)
        record = Digest(sha256(b"r"))
        await self.s.execute("INSERT INTO records VALUES (?,0,0,?)", row["cid"], record)
        receipt = Receipt(
            v=1, tid=self.tid, offer=jws.digest(row["offer"]),
            grant=jws.digest(self.s.vault.open("grant", row["grant_sealed"]).decode()), manifest=record,
            state="PARTIAL" if gaps else "COMPLETE", proof="store", gaps=gaps, iat=NOW,
        )  # fmt: skip
        await self.s.offers.receipt(sign_message(receipt, self.r.identity.key), self.r.site, self.tid)


@pytest.fixture
async def p(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses(tmp_path) as (s, r):
        yield Parties(s, r, await s.offer_to(r))


async def yes(p: Parties, **changes: str) -> None:
    phone = await Handset.scan(p.s, p.tid)
    await phone.ask()
    await phone.decide(**changes)


async def test_an_open_offer_shows_its_code(p: Parties) -> None:
    view = await p.view()
    page, q = read_link(view.link)
    row = await p.s.send(p.tid)
    assert (page, q) == (PAGE, p.s.vault.open("q", row["q_sealed"]))
    assert view.pin == p.s.vault.open("pin", row["pin_sealed"]).decode()
    assert (view.state, view.sentence, view.locked) == ("OFFERED", SENTENCES["OFFERED"], False)
    assert (view.patient_name, view.what, view.peer) == ("NOBODY, ATALL", "CT", "Lakeside Trauma Center")
    assert (view.created_at, view.expires_at, view.ended_at) == (NOW, NOW + 2 * HOUR, 0)


async def test_a_decided_one_shows_none(p: Parties) -> None:
    await yes(p, by="proxy", name="Chris Proxy", rel="spouse")
    view = await p.view()
    assert (view.link, view.pin) == ("", "")
    assert (view.state, view.decided_by, view.decided_at, view.released_at) == (
        "RELEASED", "proxy: Chris Proxy (spouse)", NOW, NOW,
    )  # fmt: skip


async def test_tries_and_lock(p: Parties) -> None:
    for left in (4, 3, 2, 1, 0):
        phone = await Handset.scan(p.s, p.tid, wrong=True)
        await phone.start()
        await phone.prove()
        view = await p.view()
        assert (view.tries_left, view.locked) == (left, left == 0)
    assert (view.why, view.sentence) == ("locked", SENTENCES["locked"])


async def test_a_code_that_answers_no_more_phones_says_so(p: Parties) -> None:
    """Each begins a run and goes; tries are left, and yet nobody comes in."""
    await p.s.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?) INSERT INTO tries (run, tid, mailbox,"
        " state, at, vp) SELECT randomblob(16), ?, x'00', 'open', 0, x'00' FROM n",
        RUNS_EVER, p.tid,
    )  # fmt: skip
    view = await p.view()
    assert (view.locked, view.why, view.sentence) == (True, "crowded", SENTENCES["crowded"])
    with pytest.raises(LockedDoorError):
        await p.s.offers.switch(p.tid, "voice", "", "clerk")
    await p.s.offers.reopen(p.tid, "clerk")
    assert not (await p.view()).locked
    await (await Handset.scan(p.s, p.tid)).ask()


async def test_the_check_code_is_the_phone_s(p: Parties) -> None:
    phone = await Handset.scan(p.s, p.tid)
    asked = await phone.ask()
    assert (await p.view()).check == asked.check
    assert (await p.view()).joined_at == NOW


async def test_bytes_speed_and_stall(p: Parties) -> None:
    cid = await p.packs(1, 1, 0, 2)
    view = await p.view()
    assert (view.bytes, view.moved, view.speed, view.stalled) == (400, 200, 0.0, False)
    meter = p.meters[cid] = Meter()
    meter.add(200)
    assert (await p.view()).speed > 0
    meter.last -= 6
    assert (await p.view()).stalled
    await p.s.execute("UPDATE packs SET uploaded=1")
    assert not (await p.view()).stalled, "nothing is left to move"


async def test_a_receipt_s_gaps_and_code(p: Parties) -> None:
    await yes(p)
    await p.s.execute("INSERT INTO items SELECT cid, 0, 1, 0, 'stored', 0, 1, NULL FROM spools")
    await p.s.execute("INSERT INTO items SELECT cid, 1, 2, 0, 'stored', 1, 1, NULL FROM spools")
    await p.receipt([1])
    view = await p.view()
    assert (view.state, view.why, view.stored, view.gaps, view.proof) == ("PARTIAL", "gaps", 1, 1, "store")
    assert len(view.receipt_code) == 9


async def test_what_was_never_sent_is_a_gap_too(p: Parties) -> None:
    await yes(p)
    await p.s.execute("UPDATE spools SET ended=1, unsent=2")
    await p.receipt([])
    view = await p.view()
    assert (view.state, view.gaps, view.sentence) == ("PARTIAL", 2, SENTENCES["unsent"])


async def test_series_count_what_is_sealed(p: Parties) -> None:
    await p.s.execute("INSERT INTO items SELECT cid, 0, 1, 0, 'stored', 0, 1, NULL FROM spools")
    (series,) = (await p.view()).series
    assert (series.label, series.have, series.want, series.closed) == ("CT 1", 1, 3, True)


async def test_a_transfer_whose_study_was_forgotten(p: Parties) -> None:
    await p.s.offers.stop(p.tid, "clerk")
    await p.s.execute("DELETE FROM studies")
    view = await p.view()
    assert (view.patient_name, view.what, view.series, view.state) == ("", "", [], "REVOKED")


async def test_a_study(p: Parties) -> None:
    row = await p.s.one("SELECT * FROM studies")
    view = await p.s.db.run(lambda con: study_view(con, row))
    assert (view.instances, view.modalities, view.open, view.source) == (3, "CT", False, "CT1")
    assert view.transfers == [p.tid.hex()]
    assert view.bytes == await p.s.value("SELECT sum(size) FROM instances")


@pytest.mark.parametrize("state", sorted({step.to for step in SENDER.values()}))
def test_every_state_has_a_sentence_with_a_next_step(state: str) -> None:
    assert sentence_of(state, "").endswith(".")
    assert sentence_of(state, "no such code") == SENTENCES[state]
