"""`clients.gateway.sending.rungs`: what staff may decide in a patient's place, when, and what it leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.auditing.record import record_of
from clients.gateway.errors import AbsentError
from clients.gateway.ladder import Ladder, parse_ladder
from clients.gateway.sending.rungs import (
    LAPSE,
    NotClinicianError,
    OtherWordError,
    ReasonError,
    RefusedError,
    RungEarlyError,
    RungOffError,
    Rungs,
    SameClinicianError,
)
from clients.gateway.sending.view import notice_view, send_view
from clients.gateway.views import TransferView
from tests.gateway_kit import HOUR, NOW, Handset, House, carry, houses
from transfer import jws
from transfer.errors import ExpiredError, StateError
from transfer.ids import Tid
from transfer.links import make_scan, read_link
from transfer.mailbox import Tombstone
from transfer.messages import Attest, Override, Release, decode, encode, open_message
from transfer.tries import VOICE_SECONDS

UPPER = """
[[rungs]]
name = "patient"
seconds = 60
[[rungs]]
name = "attest"
seconds = 60
[[rungs]]
name = "override"
[refusal]
next = "{}"
"""
WHY = "unconscious, nobody with them"


class Staff:
    """A sender whose ladder has both upper rungs, a receiver, and three clinicians of the sender."""

    def __init__(self, s: House, r: House) -> None:
        self.s, self.r = s, r
        self.s.offers.ladder = parse_ladder(UPPER.format("override"))
        self.rungs = Rungs(s.db, s.offers, s.clock, s.outgoing, s.changed)

    async def employ(self, **roles: str) -> None:
        for name, role in roles.items():
            await self.s.execute("INSERT INTO users VALUES (?,?,'',?,0)", name, role, NOW)

    async def offered(self, later: int = 60) -> Tid:
        """An offer, so many seconds ago."""
        tid = await self.s.offer_to(self.r)
        self.s.clock.at += later
        return tid

    async def view(self, tid: Tid) -> TransferView:
        row = await self.s.send(tid)
        return await self.s.db.run(
            lambda con: self.rungs.shown(con, row, send_view(con, row, self.s.vault, "https://page", {}))
        )

    async def attested(self, tid: Tid) -> None:
        await self.rungs.attest(tid, WHY, "quill")
        await self.rungs.attest(tid, "", "marsh", (await self.view(tid)).word)


@pytest.fixture
async def staff(tmp_path: Path) -> AsyncIterator[Staff]:
    async with houses(tmp_path) as (s, r):
        made = Staff(s, r)
        await made.employ(quill="clinician", marsh="clinician", stone="clinician", desk="clerk")
        yield made


async def test_two_clinicians_attest_and_the_key_goes(staff: Staff) -> None:
    tid, s = await staff.offered(), staff.s
    await staff.rungs.attest(tid, "  unconscious,\n nobody with them ", "quill")
    view = await staff.view(tid)
    assert (view.state, view.vouched_by, view.vouched_why, view.rung) == ("OFFERED", "quill", WHY, "")
    assert await s.letters() == [(await s.send(tid))["offer"]], "one word alone sends nothing"
    await staff.rungs.attest(tid, "", "marsh", view.word)
    row = await s.send(tid)
    release = open_message(Release, row["release"], s.site)
    text = s.vault.open("grant", row["grant_sealed"]).decode()
    said = open_message(Attest, text, s.site)
    assert (row["state"], row["decision"], row["vp"], release.type) == ("RELEASED", "staff", None, "attest")
    assert (said.by, said.reason, said.offer) == (["quill", "marsh"], WHY, jws.digest(row["offer"]))
    view = await staff.view(tid)
    assert (view.decided_by, view.rung, view.decided_why) == (
        "attested by two clinicians: quill and marsh", "attest", WHY,
    )  # fmt: skip
    assert "Staff decided" in view.sentence
    assert (await s.actions(tid.hex()))[-2:] == ["transfer.vouched", "transfer.attest"]
    assert await s.rows("SELECT * FROM attestations") == []


async def test_one_clinician_overrides_with_a_reason(staff: Staff) -> None:
    tid, s = await staff.offered(120), staff.s
    await staff.rungs.override(tid, "helicopter leaves", "quill")
    text = s.vault.open("grant", (await s.send(tid))["grant_sealed"]).decode()
    assert open_message(Override, text, s.site).by == ["quill"]
    with pytest.raises(StateError):
        await staff.rungs.override(tid, "once more", "stone")


async def test_no_rung_before_its_time(staff: Staff) -> None:
    tid = await staff.offered(59)
    with pytest.raises(RungEarlyError):
        await staff.rungs.attest(tid, WHY, "quill")
    staff.s.clock.at += 1
    assert [(r.name, r.open) for r in (await staff.view(tid)).rungs] == [
        ("patient", True), ("attest", True), ("override", False),
    ]  # fmt: skip
    await staff.rungs.attest(tid, WHY, "quill")
    with pytest.raises(RungEarlyError):
        await staff.rungs.override(tid, WHY, "quill")


async def test_the_upper_rungs_are_off_by_default(staff: Staff) -> None:
    staff.s.offers.ladder = Ladder()
    tid = await staff.offered(HOUR)
    for work in (staff.rungs.attest, staff.rungs.override):
        with pytest.raises(RungOffError):
            await work(tid, WHY, "quill")
    assert (await staff.s.send(tid))["state"] == "OFFERED"


async def test_two_means_two_and_each_to_the_words_they_read(staff: Staff) -> None:
    tid = await staff.offered()
    with pytest.raises(OtherWordError):
        await staff.rungs.attest(tid, WHY, "marsh", "1 quill")
    await staff.rungs.attest(tid, WHY, "quill")
    word = (await staff.view(tid)).word
    with pytest.raises(SameClinicianError):
        await staff.rungs.attest(tid, "", "quill", word)
    with pytest.raises(OtherWordError):
        await staff.rungs.attest(tid, "mine", "marsh")
    staff.s.clock.at += LAPSE
    assert (await staff.view(tid)).vouched_by == ""
    with pytest.raises(OtherWordError):
        await staff.rungs.attest(tid, "", "marsh", word)
    await staff.rungs.attest(tid, "still nobody", "stone")
    with pytest.raises(OtherWordError):
        await staff.rungs.attest(tid, "", "marsh", word)
    await staff.rungs.attest(tid, "", "marsh", (await staff.view(tid)).word)
    assert (await staff.view(tid)).decided_by.endswith("stone and marsh")


async def test_only_clinicians_decide_and_both_are_still_here(staff: Staff) -> None:
    tid = await staff.offered(120)
    for name in ("desk", "nobody", ""):
        with pytest.raises(NotClinicianError):
            await staff.rungs.attest(tid, WHY, name)
        with pytest.raises(NotClinicianError):
            await staff.rungs.override(tid, WHY, name)
    await staff.rungs.attest(tid, WHY, "quill")
    await staff.s.execute("UPDATE users SET disabled=1 WHERE name='quill'")
    with pytest.raises(NotClinicianError):
        await staff.rungs.attest(tid, "", "marsh", (await staff.view(tid)).word)


@pytest.mark.parametrize("reason", ["", " \n", "x" * 301, "\u202e\u0007"])
async def test_a_reason_is_needed(staff: Staff, reason: str) -> None:
    tid = await staff.offered(120)
    for work in (staff.rungs.attest, staff.rungs.override):
        with pytest.raises(ReasonError):
            await work(tid, reason, "quill")


async def test_the_longest_reason_that_fits_no_message_is_refused_with_a_sentence(staff: Staff) -> None:
    await staff.employ(**{"🙂" * 60: "clinician"})
    tid = await staff.offered(120)
    with pytest.raises(Exception, match="Shorten the reason"):
        await staff.rungs.override(tid, "🙂" * 300, "🙂" * 60)
    assert (await staff.s.send(tid))["state"] == "OFFERED"


async def test_nothing_after_the_end_of_the_offer(staff: Staff) -> None:
    tid = await staff.offered(2 * HOUR)
    with pytest.raises(ExpiredError):
        await staff.rungs.override(tid, WHY, "quill")


async def test_the_first_decision_counts_also_against_a_phone(staff: Staff) -> None:
    tid = await staff.offered(120)
    phone = await Handset.scan(staff.s, tid)
    await phone.ask()
    await staff.rungs.override(tid, WHY, "quill")
    status = await phone.decide("deny")
    assert (status.state, status.refused) == ("RELEASED", "decided")
    assert status.decided is not None
    assert status.decided.d == "staff"
    late = await Handset.scan(staff.s, tid)
    asked = await late.ask()
    assert (asked.state, asked.decided) == ("RELEASED", status.decided)
    assert (await late.stop()).state == "REVOKED", "who wakes may stop it"


@pytest.mark.parametrize("at", ["link", "m2", "question"])
async def test_a_phone_at_the_qr_that_was_shown_hears_that_staff_decided(staff: Staff, at: str) -> None:
    """The QR stays as it is and goes on the paper: no code is replaced under anybody's hands, no try is spent."""
    tid = await staff.offered(120)
    phone, before = await Handset.scan(staff.s, tid), await staff.s.send(tid)
    if at != "link":
        await phone.start()
    if at == "question":
        await phone.prove()
    await staff.rungs.override(tid, WHY, "quill")
    row = await staff.s.send(tid)
    assert (row["mailbox"], row["q_sealed"], row["pin_sealed"]) == (
        before["mailbox"], before["q_sealed"], before["pin_sealed"],
    )  # fmt: skip
    if at == "link":
        await phone.start()
    if at != "question":
        await phone.prove()
    (m4,) = await phone.answers(4)
    asked = phone.door.answer(m4)
    status = await phone.decide("deny")
    assert (status.state, status.refused) == ("RELEASED", "decided")
    decided = status.decided if at == "question" else asked.decided
    assert decided is not None
    assert decided.d == "staff"
    assert (await staff.view(tid)).tries_left == 5
    assert (await phone.stop()).state == "REVOKED"


@pytest.mark.parametrize("kind", ["attest", "override"])
@pytest.mark.parametrize("door", ["voice", "scan", "over"])
async def test_where_no_qr_is_open_the_decision_makes_one_for_the_paper(
    staff: Staff, door: str, kind: str
) -> None:
    """Whoever is at the question of the old code decides nothing any more and hears that it is over; the code on the
    paper asks nobody, says that staff decided, and can stop it.
    """
    tid, s = await staff.offered(120), staff.s
    await s.offers.switch(tid, "scan" if door == "scan" else "voice", make_scan(b"a phone's own q."), "clerk")
    old = await Handset.scan(s, tid)
    if door == "over":
        s.clock.at += VOICE_SECONDS
        await s.offers.expire()
        assert (await s.send(tid))["pin_sealed"] is None
    else:
        await old.ask()
    await (staff.attested(tid) if kind == "attest" else staff.rungs.override(tid, WHY, "quill"))
    row = await s.send(tid)
    assert (row["door"], row["state"], row["decision"]) == ("qr", "RELEASED", "staff")
    ended = await s.value(
        "SELECT body FROM outbox WHERE target=? ORDER BY id DESC LIMIT 1", f"/m/{old.mailbox.name}/0"
    )
    assert decode(ended, Tombstone).ended == "RELEASED", "there is a newer code, and it asks nobody"
    if door != "over":
        await old.post(
            5, encode(old.door.decide("deny", by="patient", name="", rel="self", lang="en", t=NOW))
        )
        assert await old.answers(6) == []
        assert tuple(await s.send(tid)) == tuple(row)
    notice = await s.db.run(lambda con: notice_view(con, tid, s.vault, "https://page", ""))
    q, pin = read_link(notice.link)[1], notice.pin
    asked = await (paper := Handset(s, tid, q, pin)).ask()
    assert asked.decided is not None
    assert (asked.state, asked.decided.d) == ("RELEASED", "staff")
    assert (await paper.stop()).state == "REVOKED"


async def test_a_no_is_final_and_what_follows_is_what_the_ladder_names(staff: Staff) -> None:
    tid = await staff.offered(120)
    phone = await Handset.scan(staff.s, tid)
    await phone.ask()
    await phone.decide("deny")
    for work in (staff.rungs.attest, staff.rungs.override):
        with pytest.raises(StateError):
            await work(tid, WHY, "quill")
    assert (await staff.view(tid)).follows == "override"
    study = (await staff.s.send(tid))["study"]
    with pytest.raises(RefusedError):
        await staff.rungs.not_refused(study)
    with pytest.raises(ReasonError):
        await staff.rungs.again(tid, " ", "desk")
    new = await staff.rungs.again(tid, "bleeding, cannot decide any more", "desk")
    await staff.s.make_offer(new, staff.r)
    view = await staff.view(new)
    assert [r.name for r in view.rungs] == ["override"]
    assert (view.refused_at, view.again) == (
        (await staff.s.send(tid))["decided_at"],
        "bleeding, cannot decide any more",
    )
    with pytest.raises(RefusedError):
        await staff.rungs.attest(new, WHY, "quill")
    await staff.rungs.override(new, WHY, "quill")
    assert (await staff.s.send(new))["state"] == "RELEASED"
    notice = await staff.s.db.run(lambda con: notice_view(con, new, staff.s.vault, "https://page", "Ward 3"))
    assert (notice.rung, notice.refused_at, notice.call) == ("override", view.refused_at, "Ward 3")
    with pytest.raises(AbsentError):
        await staff.s.db.run(lambda con: notice_view(con, tid, staff.s.vault, "https://page", ""))
    assert "transfer.again" in await staff.s.actions(new.hex())


async def test_the_ladder_may_have_nothing_follow(staff: Staff) -> None:
    staff.s.offers.ladder = parse_ladder(UPPER.format(""))
    tid = await staff.offered(120)
    phone = await Handset.scan(staff.s, tid)
    await phone.ask()
    await phone.decide("deny")
    with pytest.raises(RungOffError):
        await staff.rungs.again(tid, WHY, "desk")
    open_one = await staff.offered(120)
    assert (await staff.view(open_one)).rungs == [], "a transfer that was open beside it"
    with pytest.raises(RefusedError):
        await staff.rungs.override(open_one, WHY, "quill")


@pytest.mark.parametrize(("follows", "refused"), [("patient", "grant-type-off"), ("proxy", "")])
async def test_after_a_no_a_proxy_s_yes_counts_where_the_ladder_says_so(
    staff: Staff, follows: str, refused: str
) -> None:
    text = UPPER.format(follows).replace("attest", "proxy")
    staff.s.offers.ladder = parse_ladder(text)
    tid = await staff.offered()
    phone = await Handset.scan(staff.s, tid)
    await phone.ask()
    await phone.decide("deny")
    new = await staff.rungs.again(tid, "their daughter came", "desk")
    await staff.s.make_offer(new, staff.r)
    proxy = await Handset.scan(staff.s, new)
    await proxy.ask()
    status = await proxy.decide("approve", by="proxy", rel="child", name="Alpha Test")
    assert status.refused == refused
    assert status.state == ("OFFERED" if refused else "RELEASED")


@pytest.mark.parametrize("kind", ["attest", "override"])
async def test_r_opens_it_where_its_pin_allows_that_type_and_says_so(staff: Staff, kind: str) -> None:
    s, r = staff.s, staff.r
    await r.pins.allow(s.site, (kind,), "admin")  # type: ignore[arg-type]
    tid = await staff.offered(120)
    await (staff.attested(tid) if kind == "attest" else staff.rungs.override(tid, WHY, "quill"))
    await carry(s, r)
    assert (await r.receive(tid))["state"] == "OPENED"
    assert (await r.actions(tid.hex()))[-2:] == ["incoming.opened", f"incoming.{kind}"]
    for house in (s, r):
        record = await house.db.run(lambda con, h=house: record_of(con, h.vault, tid))  # type: ignore[misc]
        assert record.decision is not None
        assert (record.decision.rung, record.decision.reason) == (kind, WHY)
        jws.verify(kind, record.decision.signed, record.decision.key, 2048)


@pytest.mark.parametrize("allowed", [(), ("attest",)], ids=str)
async def test_r_declines_what_it_does_not_allow(staff: Staff, allowed: tuple[str, ...]) -> None:
    s, r = staff.s, staff.r
    await r.pins.allow(s.site, allowed, "admin")  # type: ignore[arg-type]
    tid = await staff.offered(120)
    await staff.rungs.override(tid, WHY, "quill")
    await carry(s, r)
    assert ((await r.receive(tid))["state"], await r.alarms(tid)) == ("DECLINED", ["grant-type-off"])
    row = await s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "grant-type-off")
    assert await s.alarms(tid) == ["grant-type-off"]
    assert "takes no decision of staff" in (await staff.view(tid)).sentence
