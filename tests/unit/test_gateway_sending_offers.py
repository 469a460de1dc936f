"""`clients.gateway.sending.offers`: each event of protocol s. 10 in each state of S, and what it must leave behind."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.sending.offering import SiteWords
from tests.gateway_kit import HOUR, NOW, Handset, carry
from tests.offers_kit import STATES, Parties, is_kind, parties
from transfer import jws
from transfer.errors import StateError
from transfer.ids import ContentKey, Tid
from transfer.links import mailbox_of
from transfer.messages import Close, Offer, Release, open_message, peek
from transfer.release import open_release
from transfer.states import SENDER, TERMINAL
from transfer.summary import Declined, read_summary

__all__ = ["parties"]


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
        assert [t for t in await s.letters() if is_kind(Release, t)] == [release]
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
