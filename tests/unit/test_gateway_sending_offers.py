"""`clients.gateway.sending.offers`: each event of protocol s. 10 in each state of S, and what it must leave behind."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.sending.offering import SiteWords
from clients.gateway.sending.offers import NO_RECEIPT_ALARM, NO_RECEIPT_END
from tests.gateway_kit import DAY, HOUR, NOW, Handset, House, carry, houses
from transfer import jws, tries
from transfer.door import receipt_code
from transfer.encoding import sha256
from transfer.errors import HashError, SignatureError, StateError
from transfer.ids import ContentKey, Digest, Tid
from transfer.links import mailbox_of
from transfer.mailbox import Hello, Tombstone
from transfer.messages import Close, Offer, Receipt, Release, decode, encode, open_message, peek, sign_message
from transfer.release import open_release
from transfer.states import SENDER, TERMINAL
from transfer.summary import Declined, read_summary

RECORD = Digest(sha256(b"a manifest record"))
STATES = ("PREPARING", "OFFERED", "RELEASED", "COMPLETE", "PARTIAL", "DENIED", "EXPIRED", "REVOKED")


class Parties:
    """A sender, a receiver and what the receiver may answer."""

    def __init__(self, s: House, r: House) -> None:
        self.s, self.r = s, r
        self.clock = s.clock

    async def bring(self, state: str) -> Tid:
        """A transfer in this state, by the events that lead there."""
        s = self.s
        if state == "PREPARING":
            return await s.offers.create(await s.a_study(), self.r.site, "transfer", "clerk")
        tid = await s.offer_to(self.r)
        await s.execute("INSERT OR IGNORE INTO records SELECT cid, 0, 0, ? FROM spools", RECORD)
        if state in ("RELEASED", "COMPLETE", "PARTIAL"):
            await self.decide(tid)
        if state in ("COMPLETE", "PARTIAL"):
            await self.receipt(tid, state)
        if state == "DENIED":
            await self.decide(tid, "deny")
        if state == "EXPIRED":
            await self.expire(tid)
        if state == "REVOKED":
            await s.offers.stop(tid, "clerk")
        assert await self.state(tid) == state
        return tid

    async def state(self, tid: Tid) -> str:
        return str((await self.s.send(tid))["state"])

    async def decide(self, tid: Tid, d: str = "approve") -> str:
        """A person answers; why it was refused, or that nobody answered the phone."""
        if (await self.s.send(tid))["q_sealed"] is None:
            return "no code"
        phone = await Handset.scan(self.s, tid)
        await phone.start()
        if not await phone.answers(2):
            return "no answer"
        await phone.prove()
        (m4,) = await phone.answers(4)
        phone.door.answer(m4)
        return (await phone.decide(d)).refused

    async def staff(self, tid: Tid, kind: Literal["attest", "override"], by: list[str]) -> None:
        """Staff decide in the person's place."""
        await self.s.db.run(
            lambda con: self.s.offers.staff_decide(
                con, self.s.offers._row(con, tid), kind, by, "nobody with them", self.clock.at
            )
        )

    async def receipt(self, of: Tid, state: str = "COMPLETE", **changes: Any) -> str:
        """A receipt by R arrives; its text."""
        row = await self.s.send(of)
        grant = self.s.vault.open("grant", row["grant_sealed"]).decode() if row["grant_sealed"] else ""
        fields = {
            "v": 1, "tid": of, "offer": jws.digest(row["offer"] or ""), "grant": jws.digest(grant),
            "manifest": RECORD, "state": state, "proof": "store", "gaps": [] if state == "COMPLETE" else [1],
            "iat": self.clock.at,
        }  # fmt: skip
        key = changes.pop("key", self.r.identity.key)
        text = sign_message(Receipt(**{**fields, **changes}), key)
        await self.s.offers.receipt(text, self.r.site, of)
        return text

    async def declined(self, of: Tid, why: str = "kid-unknown", **changes: Any) -> None:
        """R declines."""
        row = await self.s.send(of)
        fields = {
            "v": 1, "tid": of, "offer": jws.digest(row["offer"] or ""), "state": "DECLINED", "why": why,
            "iat": self.clock.at,
        }  # fmt: skip
        text = sign_message(Close(**{**fields, **changes}), self.r.identity.key)
        await self.s.offers.declined(text, self.r.site, of)

    async def expire(self, tid: Tid) -> None:
        at = self.clock.at
        self.clock.at = max(at, (await self.s.send(tid))["exp"])
        await self.s.offers.expire()
        self.clock.at = at

    async def no_receipt(self, tid: Tid) -> None:
        at = self.clock.at
        self.clock.at += NO_RECEIPT_END
        await self.s.offers.expire()
        self.clock.at = at

    async def letters(self, kind: type[Any]) -> list[Any]:
        """The messages of one kind that wait for R."""
        return [open_message(kind, t, self.s.site) for t in await self.s.letters() if _is(kind, t)]

    async def run_out(self, tid: Tid) -> None:
        """The time of a voice door's code is over; no other door has one."""
        await self.s.offers.switch(tid, "voice", "", "clerk")
        self.clock.at += tries.VOICE_SECONDS
        await self.s.offers.expire()

    async def mailbox(self, tid: Tid) -> Any:
        """What the relay is to show in the transfer's mailbox."""
        row = await self.s.send(tid)
        path = f"/m/{bytes(row['mailbox']).hex()}/0"
        found = await self.s.rows(
            "SELECT body FROM outbox WHERE kind='mailbox' AND target=? ORDER BY id", path
        )
        body = bytes(found[-1]["body"])
        return decode(body, Tombstone if b"ended" in body else Hello)


def _is(kind: type[Any], text: str) -> bool:
    return text.startswith(jws.header(kind.NAME) + ".")


@pytest.fixture
async def parties(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses(tmp_path) as (s, r):
        yield Parties(s, r)


EVENTS: dict[str, Callable[[Parties, Tid], Awaitable[object]]] = {
    "offer": lambda p, tid: p.s.make_offer(tid, p.r),
    "stop": lambda p, tid: p.s.offers.stop(tid, "clerk"),
    "approve": lambda p, tid: p.decide(tid),
    "deny": lambda p, tid: p.decide(tid, "deny"),
    "attest": lambda p, tid: p.staff(tid, "attest", ["dr.quill", "rn.marsh"]),
    "override": lambda p, tid: p.staff(tid, "override", ["dr.quill"]),
    "expire": lambda p, tid: p.expire(tid),
    "declined": lambda p, tid: p.declined(tid),
    "reopen": lambda p, tid: p.s.offers.reopen(tid, "clerk"),
    "switch": lambda p, tid: p.s.offers.switch(tid, "voice", "", "clerk"),
    "run-out": lambda p, tid: p.run_out(tid),
    "receipt-complete": lambda p, tid: p.receipt(tid),
    "receipt-partial": lambda p, tid: p.receipt(tid, "PARTIAL"),
    "no-receipt": lambda p, tid: p.no_receipt(tid),
}


def test_every_event_of_the_table_is_here() -> None:
    later = {"covered", "divert"}
    assert set(EVENTS) | {"create"} | later == {event for _, event in SENDER}
    assert {*STATES, "DIVERTED"} == {after.to for after in SENDER.values()}


PAIRS = [p for p in itertools.product(STATES, EVENTS) if p != ("OFFERED", "no-receipt")]
"""In a week without an answer an offer runs out: that is `expire`."""


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
async def test_every_event_in_every_state(parties: Parties, state: str, event: str) -> None:
    """What the table allows moves there; anything else changes no state and leaves no word to anybody."""
    tid = await parties.bring(state)
    before = await parties.s.send(tid)
    words = await parties.s.letters()
    possible = SENDER.get((state, event))
    with contextlib.nullcontext() if possible else contextlib.suppress(StateError):
        await EVENTS[event](parties, tid)
    after = await parties.s.send(tid)
    if possible is not None:
        assert after["state"] == possible.to
        return
    assert after["state"] == state
    assert after["ended_at"] == before["ended_at"]
    assert after["release"] == before["release"]
    assert await parties.s.letters() == words


# create and offer


async def test_create_keeps_secrets_sealed(parties: Parties) -> None:
    s = parties.s
    tid = await s.offers.create(await s.a_study(), parties.r.site, "transfer", "clerk")
    row = await s.send(tid)
    q, pin = s.vault.open("q", row["q_sealed"]), s.vault.open("pin", row["pin_sealed"])
    k = s.vault.open("content-key", await s.value("SELECT k_sealed FROM spools"))
    assert (len(q), len(pin), len(k)) == (16, 6, 32)
    assert pin.isdigit()
    assert row["mailbox"] == mailbox_of(q)
    assert s.on_disk(q, k) == []
    assert await s.rows("SELECT * FROM outbox") == []


async def test_create_needs_images(parties: Parties) -> None:
    with pytest.raises(AbsentError):
        await parties.s.offers.create("0" * 32, parties.r.site, "transfer", "clerk")
    assert await parties.s.rows("SELECT * FROM sends") == []


async def test_two_transfers_share_nothing(parties: Parties) -> None:
    s = parties.s
    study = await s.a_study()
    tids = [await s.offers.create(study, parties.r.site, "transfer", "clerk") for _ in range(2)]
    one, two = [await s.send(t) for t in tids]
    for column in ("tid", "cid", "mailbox"):
        assert one[column] != two[column]
    keys = [s.vault.open("content-key", r[0]) for r in await s.rows("SELECT k_sealed FROM spools")]
    assert len(set(keys)) == 2


async def test_an_offer_tells_everybody_in_one_transaction(parties: Parties) -> None:
    s, r = parties.s, parties.r
    tid = await parties.bring("OFFERED")
    row = await s.send(tid)
    offer = open_message(Offer, row["offer"], s.site)
    assert (offer.tid, offer.cid, offer.r, offer.iat, offer.exp) == (
        tid,
        row["cid"],
        r.site,
        NOW,
        NOW + 2 * HOUR,
    )
    hello = await parties.mailbox(tid)
    assert (hello.tid, hello.s, hello.exp) == (tid, s.site, offer.exp)
    kinds = [
        (x["kind"], bytes(x["body"]).decode())
        for x in await s.rows("SELECT kind, body FROM outbox ORDER BY id")
    ]
    assert ("queue", row["offer"]) in kinds
    assert ("relay", row["offer"]) in kinds


async def test_an_offer_shows_the_relay_nothing(parties: Parties) -> None:
    """No name, no birth year, no UID, no description; nothing by which the summary could be guessed."""
    s = parties.s
    study = await s.a_study(PatientName="Zerubbabel^Anne", StudyDescription="Polytrauma")
    tid = await s.offer_to(parties.r, study)
    row = await s.send(tid)
    for body in (x["body"] for x in await s.rows("SELECT body FROM outbox")):
        data = bytes(body)
        payload = jws.unverified_payload(Offer.NAME, data.decode(), 4096) if data.count(b".") == 2 else data
        for word in (
            b"Zerubbabel",
            b"Anne",
            b"A. Z.",
            b"1970",
            b"Polytrauma",
            b"2.25.",
            b"Lakeside",
            row["salt"],
        ):
            assert word not in payload


async def test_an_offer_never_outlives_its_pre_key(parties: Parties) -> None:
    s, r = parties.s, parties.r
    tid = await s.offers.create(await s.a_study(), r.site, "transfer", "clerk")
    with pytest.raises(GatewayError):
        await r.pins.renew()
    exp = await r.value("SELECT exp FROM prekeys")
    parties.clock.at = exp - HOUR
    text = await r.value("SELECT message FROM prekeys")
    prekey = s.pins._verified([text], r.site)
    assert prekey is not None
    await s.offers.offer(tid, *prekey, SiteWords("Valley ED", ""), 2 * HOUR)
    assert (await s.send(tid))["exp"] == exp


async def test_no_key_at_the_destination_is_said_once(parties: Parties) -> None:
    """And does not wake everybody who waits for changes each time it is looked for."""
    tid = await parties.bring("PREPARING")
    await parties.s.offers.no_prekey(tid)
    assert (await parties.s.send(tid))["why"] == "no-prekey"
    seen = parties.s.changed.seen
    await parties.s.offers.no_prekey(tid)
    assert parties.s.changed.seen == seen
    assert await parties.s.offers.waiting_for_prekey() == [(tid, parties.r.site)]
    await parties.s.make_offer(tid, parties.r)
    assert (await parties.s.send(tid))["why"] == ""
    await parties.s.offers.no_prekey(tid)
    assert (await parties.s.send(tid))["why"] == ""


# approve and deny


async def test_yes_puts_the_release_into_the_outbox_and_r_can_open_it(parties: Parties) -> None:
    s, r = parties.s, parties.r
    tid = await parties.bring("RELEASED")
    row = await s.send(tid)
    (release,) = await parties.letters(Release)
    assert (release.tid, release.type, release.r) == (tid, "patient", r.site)
    assert row["release"] in await s.letters()
    pair = await r.db.run(lambda con: r.pins.own_pair(con, release.kid))
    peer = await r.pins.get(s.site)
    assert peer is not None
    opened = open_release(
        row["release"], row["offer"], pin=peer.pin, me=r.site, now=NOW, prekey=lambda kid: pair, used=None
    )
    k = await s.value("SELECT k_sealed FROM spools")
    assert opened.key == ContentKey(s.vault.open("content-key", k))
    assert s.on_disk(bytes(opened.key)) == []


async def test_a_crash_inside_the_decision_leaves_the_question_open(parties: Parties) -> None:
    """State, grant and release are there together, or none of them is."""

    class Crash(Exception):
        pass

    s = parties.s
    tid = await parties.bring("OFFERED")
    phone = await Handset.scan(s, tid)
    await phone.ask()
    letters = await s.letters()
    run = s.db.run

    async def dies(work: Any) -> Any:
        def half(con: Any) -> Any:
            result = work(con)
            if con.execute("SELECT state FROM sends").fetchone()[0] == "RELEASED":
                raise Crash
            return result

        return await run(half)

    s.doors._db.run = dies  # type: ignore[method-assign]
    with pytest.raises(Crash):
        await phone.decide()
    s.doors._db.run = run  # type: ignore[method-assign]
    await s.restart()
    row = await s.send(tid)
    assert (row["state"], row["release"], row["grant_sealed"], row["decision"]) == ("OFFERED", None, None, "")
    assert await s.letters() == letters
    await phone.post(5, phone.m5)
    assert await parties.state(tid) == "RELEASED"


async def test_the_release_is_sent_unchanged_any_number_of_times(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("RELEASED")
    release = (await s.send(tid))["release"]
    for _ in range(2):
        assert [t for t in await s.letters() if _is(Release, t)] == [release]
        await s.restart()


async def test_no_erases_everything_that_could_open_the_study(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    k = bytes(await s.value("SELECT k_sealed FROM spools"))
    assert s.on_disk(k)
    await parties.decide(tid, "deny")
    assert s.on_disk(k, k[24:]) == []
    spool = await s.one("SELECT * FROM spools")
    assert (spool["k_sealed"], spool["dropped"]) == (None, 1)
    (close,) = await parties.letters(Close)
    assert (close.tid, close.state, close.why) == (tid, "DENIED", "")
    assert [
        r[0] for r in await s.rows("SELECT target FROM outbox WHERE kind='relay' AND target LIKE 'delete:%'")
    ] == [f"delete:{bytes(spool['cid']).hex()}"]
    assert (await s.actions(tid.hex()))[-2:] == ["transfer.joined", "transfer.deny"]


async def test_who_is_asked_after_a_no_reads_of_it(parties: Parties) -> None:
    """A no is final for its tid; the summary of the next transfer of that study says whose it was, and when."""
    s, r = parties.s, parties.r
    first = await parties.bring("OFFERED")
    before, study = await s.send(first), (await s.send(first))["study"]
    assert read_summary(before["summary"]).declined is None
    phone = await Handset.scan(s, first)
    await phone.ask()
    await phone.decide("deny", by="proxy", rel="other")
    s.clock.at += HOUR
    for by, at in (("proxy", NOW), ("patient", NOW + HOUR)):
        again = await Handset.scan(s, await s.offer_to(r, study))
        asked = await again.ask()
        assert asked.summary.declined == Declined(at=at, by=by)  # type: ignore[arg-type]
        assert (await again.decide("deny")).state == "DENIED"
    assert (await s.send(first))["summary"] == before["summary"]
    other = await s.offer_to(r, await s.a_study(StudyInstanceUID="1.2.3.9", SOPInstanceUID="1.2.3.9.1"))
    assert read_summary((await s.send(other))["summary"]).declined is None


async def test_a_key_that_another_open_transfer_needs_stays(parties: Parties) -> None:
    """Several offers may name one content: the last one that ends erases its key."""
    s = parties.s
    one, two = await parties.bring("OFFERED"), await parties.bring("OFFERED")
    await s.execute("UPDATE sends SET cid=(SELECT cid FROM sends WHERE tid=?)", one)
    await s.offers.stop(one, "clerk")
    cid = (await s.send(two))["cid"]
    assert await s.value("SELECT k_sealed FROM spools WHERE cid=?", cid) is not None
    await s.offers.stop(two, "clerk")
    assert await s.value("SELECT k_sealed FROM spools WHERE cid=?", cid) is None


# stop, reopen, expire


async def test_stop_before_an_offer_says_nothing_to_anybody(parties: Parties) -> None:
    tid = await parties.bring("PREPARING")
    await parties.s.offers.stop(tid, "clerk")
    kinds = await parties.s.rows("SELECT kind, target FROM outbox")
    assert [(r["kind"], r["target"].split(":")[0]) for r in kinds] == [("relay", "delete")]
    assert (await parties.s.send(tid))["q_sealed"] is None


async def test_stop_leaves_a_tombstone_and_erases_the_code(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    row = await s.send(tid)
    q, pin = bytes(row["q_sealed"]), bytes(row["pin_sealed"])
    await s.offers.stop(tid, "jdoe")
    assert await parties.mailbox(tid) == Tombstone(v=1, ended="REVOKED")
    assert s.on_disk(q, pin) == []
    assert (await s.actions(tid.hex()))[-1] == "transfer.stop"


async def test_stop_after_the_yes_is_said_to_r(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    await parties.s.offers.stop(tid, "clerk")
    (close,) = await parties.letters(Close)
    assert close.state == "REVOKED"


async def test_a_release_that_nobody_took_yet_is_not_sent_after_a_stop(parties: Parties) -> None:
    """The relay was away: what waits for it is the close, and not the key."""
    tid = await parties.bring("RELEASED")
    await parties.s.offers.stop(tid, "clerk")
    assert await parties.letters(Release) == []
    assert [c.state for c in await parties.letters(Close)] == ["REVOKED"]


async def test_reopen_gives_a_new_code_for_the_same_offer(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    before = await s.send(tid)
    old = bytes(before["q_sealed"]), bytes(before["pin_sealed"])
    await s.offers.reopen(tid, "jdoe")
    after = await s.send(tid)
    assert after["offer"] == before["offer"]
    assert after["mailbox"] != before["mailbox"]
    assert s.on_disk(*old) == [], "the old code is nowhere"
    bodies = {
        r["target"]: bytes(r["body"])
        for r in await s.rows("SELECT target, body FROM outbox WHERE kind='mailbox'")
    }
    assert bodies[f"/m/{bytes(before['mailbox']).hex()}/0"] == encode(Tombstone(v=1, ended="REOPENED"))
    assert b'"tid"' in bodies[f"/m/{bytes(after['mailbox']).hex()}/0"]
    assert (await s.actions(tid.hex()))[-1] == "transfer.reopen"


async def test_reopen_three_times_and_no_more(parties: Parties) -> None:
    tid = await parties.bring("OFFERED")
    for _ in range(tries.REOPENS):
        await parties.s.offers.reopen(tid, "jdoe")
    before = await parties.s.send(tid)
    with pytest.raises(GatewayError) as caught:
        await parties.s.offers.reopen(tid, "jdoe")
    assert caught.value.code == "reopen-limit"
    assert (await parties.s.send(tid))["mailbox"] == before["mailbox"]


async def test_expiry_is_by_our_own_clock(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    k = bytes(await s.value("SELECT k_sealed FROM spools"))
    parties.clock.at = NOW + 2 * HOUR - 1
    await s.offers.expire()
    assert await parties.state(tid) == "OFFERED"
    parties.clock.at += 1
    await s.offers.expire()
    assert await parties.state(tid) == "EXPIRED"
    assert s.on_disk(k) == []
    assert await parties.mailbox(tid) == Tombstone(v=1, ended="EXPIRED")
    (close,) = await parties.letters(Close)
    assert close.state == "EXPIRED"


async def test_a_clock_that_jumps_back_takes_no_end_back(parties: Parties) -> None:
    tid = await parties.bring("EXPIRED")
    parties.clock.at = NOW - DAY
    await parties.s.offers.expire()
    assert await parties.state(tid) == "EXPIRED"


# What is erased a day after the end


@pytest.mark.parametrize("end", ["COMPLETE", "PARTIAL", "DENIED", "REVOKED"])
async def test_a_day_past_the_end_no_secret_is_left(parties: Parties, end: str) -> None:
    """q, PIN and the channels' keys: neither in the database file nor in its WAL."""
    s = parties.s
    tid = await parties.bring("OFFERED")
    phone, second = await Handset.scan(s, tid), await Handset.scan(s, tid)
    await phone.ask()
    await second.ask()
    await phone.decide("deny" if end == "DENIED" else "approve")
    row = await s.send(tid)
    secrets = [bytes(row["q_sealed"]), bytes(row["pin_sealed"])]
    if end in ("COMPLETE", "PARTIAL"):
        await parties.receipt(tid, end)
    if end == "REVOKED":
        await s.offers.stop(tid, "clerk")
    assert await parties.state(tid) == end
    secrets += [bytes(r[0]) for r in await s.rows("SELECT channel_sealed FROM tries")]
    parties.clock.at += tries.AFTER_END - 1
    await s.offers.expire()
    assert (await s.send(tid))["q_sealed"] is not None
    assert len(s.on_disk(*secrets)) >= 1
    parties.clock.at += 1
    await s.offers.expire()
    after = await s.send(tid)
    assert (after["q_sealed"], after["pin_sealed"], after["swept"]) == (None, None, 1)
    assert await s.rows("SELECT 1 FROM tries WHERE channel_sealed IS NOT NULL OR m4 IS NOT NULL") == []
    assert s.on_disk(*secrets) == []
    assert await parties.mailbox(tid) == Tombstone(v=1, ended=end)
    for kept in ("offer", "grant_sealed"):
        assert after[kept] is not None
    assert after["receipt"] is not None or end in ("DENIED", "REVOKED")
    outbox = await s.value("SELECT count(*) FROM outbox")
    await s.offers.expire()
    assert await s.value("SELECT count(*) FROM outbox") == outbox, "once is enough"


# receipts


async def test_a_receipt_ends_it(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("RELEASED")
    k = bytes(await s.value("SELECT k_sealed FROM spools"))
    text = await parties.receipt(tid)
    row = await s.send(tid)
    assert (row["state"], row["why"], row["receipt"], row["ended_at"]) == ("COMPLETE", "", text, NOW)
    assert s.on_disk(k) == []
    assert len(await s.letters("ack")) == 1
    assert (await s.actions(tid.hex()))[-1] == "receipt.complete"


async def test_a_receipt_with_gaps_is_a_partial_end(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    await parties.receipt(tid, "PARTIAL")
    row = await parties.s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "gaps")


async def test_what_was_never_sent_is_never_complete(parties: Parties) -> None:
    """R has all that we announced; we know of an image that could not be read here."""
    tid = await parties.bring("RELEASED")
    await parties.s.execute("UPDATE spools SET unsent=1")
    await parties.receipt(tid, "COMPLETE")
    row = await parties.s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "unsent")


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": Digest(b"?" * 32)},
        {"grant": Digest(b"?" * 32)},
        {"offer": Digest(b"?" * 32)},
        {"tid": Tid(b"?" * 16)},
    ],
    ids=["manifest", "grant", "offer", "tid"],
)
async def test_a_receipt_for_anything_else_is_refused(parties: Parties, change: dict[str, Any]) -> None:
    tid = await parties.bring("RELEASED")
    with pytest.raises(HashError):
        await parties.receipt(tid, **change)
    row = await parties.s.send(tid)
    assert (row["state"], row["receipt"]) == ("RELEASED", None)
    assert await parties.s.letters("ack") == []


async def test_a_receipt_by_anybody_else_is_refused(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    with pytest.raises(SignatureError):
        await parties.receipt(tid, key=parties.s.identity.key)
    text = await parties.receipt(tid)
    await parties.s.execute("UPDATE sends SET state='RELEASED', receipt=NULL")
    with pytest.raises(StateError):
        await parties.s.offers.receipt(text, parties.s.site, tid)
    assert await parties.state(tid) == "RELEASED"


@pytest.mark.parametrize(("first", "second"), [("PARTIAL", "COMPLETE"), ("COMPLETE", "PARTIAL")])
async def test_a_later_receipt_replaces_the_text_and_never_the_state(
    parties: Parties, first: str, second: str
) -> None:
    tid = await parties.bring(first)
    parties.clock.at += HOUR
    later = await parties.receipt(tid, second)
    row = await parties.s.send(tid)
    assert (row["state"], row["receipt"]) == (first, later)
    assert len(await parties.s.letters("ack")) == 2


async def test_an_earlier_receipt_again_replaces_nothing(parties: Parties) -> None:
    """The relay may bring old letters again: they are acknowledged and change nothing, not even the log."""
    tid = await parties.bring("RELEASED")
    first = await parties.receipt(tid, "PARTIAL")
    parties.clock.at += HOUR
    later = await parties.receipt(tid, "COMPLETE")
    log = await parties.s.actions()
    for text in (first, later, first, later):
        await parties.s.offers.receipt(text, parties.r.site, tid)
    assert (await parties.s.send(tid))["receipt"] == later
    assert await parties.s.actions() == log


async def test_a_receipt_after_a_stop_is_kept_and_changes_no_state(parties: Parties) -> None:
    tid = await parties.bring("RELEASED")
    await parties.s.offers.stop(tid, "clerk")
    text = await parties.receipt(tid, "PARTIAL")
    row = await parties.s.send(tid)
    assert (row["state"], row["receipt"]) == ("REVOKED", text)
    assert len(receipt_code(text)) == 9


async def test_no_receipt_for_a_day_is_an_alarm_and_for_a_week_the_end(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("RELEASED")
    parties.clock.at = NOW + NO_RECEIPT_ALARM - 1
    await s.offers.expire()
    assert await s.alarms(tid) == []
    parties.clock.at += 1
    seen = s.changed.seen
    await s.offers.expire()
    assert await s.alarms(tid) == ["no-receipt"]
    assert s.changed.seen > seen, "the desk is told"
    seen = s.changed.seen
    parties.clock.at += 1
    await s.offers.expire()
    assert s.changed.seen == seen, "once"
    parties.clock.at = NOW + NO_RECEIPT_END - 1
    await s.offers.expire()
    assert await parties.state(tid) == "RELEASED"
    parties.clock.at += 1
    await s.offers.expire()
    row = await s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "no-receipt")
    assert await s.value("SELECT k_sealed FROM spools") is None
    late = await parties.receipt(tid)
    assert ((await s.send(tid))["state"], (await s.send(tid))["receipt"]) == ("PARTIAL", late)


# R declines


@pytest.mark.parametrize("why", ["kid-unknown", "clock", "expired", ""])
async def test_declined_before_the_answer_is_an_alarm(parties: Parties, why: str) -> None:
    s = parties.s
    tid = await parties.bring("OFFERED")
    for _ in range(3):
        await parties.declined(tid, why)
        parties.clock.at += 1
    row = await s.send(tid)
    assert (row["state"], row["why"]) == ("OFFERED", why)
    assert await s.alarms(tid) == [why or "declined"]
    assert (await s.actions(tid.hex())).count("transfer.declined") == 1
    assert len(await s.letters("ack")) == 3


async def test_declined_after_the_yes_is_the_end(parties: Parties) -> None:
    s = parties.s
    tid = await parties.bring("RELEASED")
    await parties.declined(tid, "expired")
    row = await s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "expired")
    assert await s.alarms(tid) == ["expired"]
    assert await s.value("SELECT k_sealed FROM spools") is None


async def test_r_may_say_nothing_but_declined(parties: Parties) -> None:
    tid = await parties.bring("OFFERED")
    for change in (
        {"state": "REVOKED"},
        {"state": "DENIED"},
        {"offer": Digest(b"?" * 32)},
        {"tid": Tid(b"?" * 16)},
    ):
        with pytest.raises(HashError):
            await parties.declined(tid, **change)
    offer = jws.digest((await parties.s.send(tid))["offer"])
    own = Close(v=1, tid=tid, offer=offer, state="DECLINED", why="", iat=NOW)
    text = sign_message(own, parties.s.identity.key)
    with pytest.raises(StateError):
        await parties.s.offers.declined(text, parties.s.site, tid)
    assert await parties.s.alarms(tid) == []


async def test_the_whole_way_by_hand(parties: Parties) -> None:
    """Every letter of a good day, carried by hand: both outboxes end empty of letters."""
    s, r = parties.s, parties.r
    tid = await parties.bring("OFFERED")
    await carry(s, r)
    assert (await r.receive(tid))["state"] == "SEEN"
    await parties.decide(tid)
    await carry(s, r)
    assert (await r.receive(tid))["state"] == "OPENED"
    assert await s.letters() == await r.letters() == []
    assert peek(Release, (await s.send(tid))["release"]).tid == tid
    assert "RELEASED" not in TERMINAL
