"""`clients.gateway.receiving.inbox`: offers, closes, and what another paired site may not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clients.gateway.receiving import inbox
from clients.gateway.receiving.inbox import Inbox
from tests.gateway_kit import HOUR, NOW, House, carry
from tests.inbox_kit import Parties, list_items, p
from transfer import jws
from transfer.errors import NotForMeError, PeerError, SignatureError
from transfer.ids import Digest
from transfer.messages import Close, Offer, Release, peek, sign_message
from transfer.release import KEEP, SKEW

__all__ = ["p"]


# Offers


async def test_a_site_may_have_so_many_open(p: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond waits at its sender; an end makes room."""
    monkeypatch.setattr(inbox, "OPEN", 2)
    offers = [await p.offer() for _ in range(3)]
    await p.hear(*(text for _, text in offers))
    assert [await p.state(tid) for tid, _ in offers] == ["SEEN", "SEEN", ""]
    assert await p.acked() == 2
    alarms = await p.r.rows("SELECT tid, code FROM alarms")
    assert [tuple(a) for a in alarms] == [(None, "too-many-offers")]
    await p.hear(p.close(*offers[0]), offers[2][1])
    assert [await p.state(tid) for tid, _ in offers] == ["REVOKED", "SEEN", "SEEN"]


async def test_a_site_that_is_unpaired(p: Parties) -> None:
    """What it offered is declined, what was opened goes on."""
    opened = await p.opened()
    tid, offer = await p.offer()
    await p.hear(offer)
    await p.r.inbox.unpaired(p.s.site)
    assert [await p.state(t) for t in (opened, tid)] == ["OPENED", "DECLINED"]
    assert await p.declined() == ["unknown-site"]
    await p.r.inbox.unpaired(p.s.site)
    assert await p.declined() == ["unknown-site"]


async def test_an_offer_is_seen_and_acknowledged(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    row = await p.r.receive(tid)
    assert (row["state"], row["offer"], row["exp"], row["k_sealed"]) == ("SEEN", offer, NOW + 2 * HOUR, None)
    assert await p.acked() == 1
    for _ in range(3):
        await p.hear(offer)
    assert await p.acked() == 1
    assert await p.r.actions(tid.hex()) == ["incoming.offer"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"iat": NOW + SKEW + 1, "exp": NOW + SKEW + HOUR}, "clock"),
        ({"kid": b"unknown!"}, "kid-unknown"),
        ({"r": b"?" * 32}, "not-for-me"),
        ({"iat": NOW - KEEP - HOUR, "exp": NOW - KEEP - 1}, "expired"),
    ],
    ids=["clock", "kid", "not for me", "expired"],
)
async def test_an_offer_that_cannot_be_is_declined_by_name(
    p: Parties, change: dict[str, Any], code: str
) -> None:
    kinds = {"kid": type(peek(Offer, (await p.offer())[1]).kid), "r": type(p.r.site)}
    tid, offer = await p.offer(**{k: kinds.get(k, lambda x: x)(v) for k, v in change.items()})
    await p.hear(offer)
    assert await p.state(tid) == ""
    assert await p.declined() == [code]
    assert await p.r.alarms(tid) == [code]
    assert await p.acked() == 1, "it need not be sent again"


async def test_what_is_declined_is_declined_once(p: Parties) -> None:
    """S sends until it has an answer; the relay may bring it again. The log does not grow."""
    tid, offer = await p.offer(iat=NOW + 700, exp=NOW + 800)
    for _ in range(5):
        await p.hear(offer)
        p.clock.at += 1
    assert await p.declined() == ["clock"]
    assert await p.r.actions(tid.hex()) == ["incoming.declined"]
    await carry(p.r, p.s)
    assert await p.s.alarms(tid) == ["clock"]
    assert await p.r.letters() == []
    assert offer not in await p.s.letters()


async def test_ten_minutes_are_forgiven(p: Parties) -> None:
    tid, offer = await p.offer(iat=NOW + SKEW, exp=NOW + SKEW + HOUR)
    await p.hear(offer)
    assert await p.state(tid) == "SEEN"


async def test_an_offer_with_another_s_name_or_signature_gets_no_answer(p: Parties) -> None:
    _, offer = await p.offer()
    head, body, _ = offer.split(".")
    forged = f"{head}.{body}.{sign_message(peek(Offer, offer), p.r.identity.key).split('.')[2]}"
    await p.hear(forged, offer[:-1], offer + "x", f"{head}.{body}")
    assert await p.r.rows("SELECT * FROM receives") == []
    assert await p.r.rows("SELECT * FROM outbox") == []
    assert await p.r.rows("SELECT * FROM alarms") == []


async def test_another_offer_under_a_known_tid_changes_nothing(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    other = p.signed(msgspec.structs.replace(peek(Offer, offer), exp=NOW + 3 * HOUR))
    await p.hear(other)
    assert (await p.r.receive(tid))["offer"] == offer


# Another paired site


async def test_another_paired_site_has_no_say_in_a_transfer(p: Parties, tmp_path: Path) -> None:
    """It may sign what it likes about a tid that a relay told it: nothing happens to the transfer."""
    other = await House(tmp_path / "o", p.clock).make("Other")
    peer = await p.r.pin(other)
    tid, offer = await p.offer()
    await p.hear(offer)
    release = peek(Release, await p.release(tid))
    key = other.identity.key
    for text in (
        sign_message(release, key),
        sign_message(Close(v=1, tid=tid, offer=jws.digest(offer), state="REVOKED", why="", iat=NOW), key),
        sign_message(Close(v=1, tid=tid, offer=jws.digest(offer), state="DENIED", why="", iat=NOW), key),
    ):
        await p.r.hear(text, other)
        with pytest.raises(NotForMeError):
            await p.r.inbox.later(text, peer, tid)
    assert await p.state(tid) == "SEEN"
    assert await p.declined() == []
    await other.close()


async def test_nor_before_the_offer_came(p: Parties, tmp_path: Path) -> None:
    other = await House(tmp_path / "o", p.clock).make("Other")
    await p.r.pin(other)
    tid, offer = await p.offer()
    text = sign_message(
        Close(v=1, tid=tid, offer=jws.digest(offer), state="REVOKED", why="", iat=NOW), other.identity.key
    )
    await p.r.hear(text, other)
    await p.hear(offer)
    assert await p.state(tid) == "SEEN"
    await other.close()


# Closes


@pytest.mark.parametrize("state", ["DENIED", "EXPIRED", "REVOKED"])
async def test_a_close_before_the_yes_ends_it(p: Parties, state: str) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    close = p.close(tid, offer, state)
    await p.hear(close, close)
    row = await p.r.receive(tid)
    assert (row["state"], row["ended_at"], row["receipt"]) == (state, NOW, None)
    assert await p.acked() == 2
    await p.hear(await p.release(tid))
    assert await p.state(tid) == state, "an end is never taken back"


@pytest.mark.parametrize(
    ("state", "after"),
    [("REVOKED", "REVOKED"), ("DENIED", "OPENED"), ("EXPIRED", "OPENED"), ("DIVERTED", "DIVERTED")],
)
async def test_a_close_after_the_yes(p: Parties, state: str, after: str) -> None:
    tid = await p.opened()
    offer = (await p.r.receive(tid))["offer"]
    await p.hear(p.close(tid, offer, state))
    assert await p.state(tid) == after


@pytest.mark.parametrize("end", ["delivered", "gave-up"])
async def test_a_close_after_the_end_is_a_wish_that_staff_see(p: Parties, end: str) -> None:
    """The end stays, the receipt stays, nothing is answered but the `ack`; staff and the log hear of it once."""
    tid = await p.opened()
    row = await p.r.receive(tid)
    await list_items(p, tid, "stored")
    await p.r.inbox.finish(tid, end)
    before = await p.r.receive(tid)
    assert before["state"] in ("COMPLETE", "PARTIAL")
    close = p.close(tid, row["offer"], "REVOKED")
    await p.hear(close, close, p.close(tid, row["offer"], "EXPIRED"))
    assert tuple(await p.r.receive(tid)) == tuple(before)
    assert len(await p.r.alarms(tid)) == 1
    assert (await p.r.actions(tid.hex())).count("incoming.stop-asked") == 1


async def test_a_close_for_another_offer_is_dropped(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    await p.hear(p.close(tid, offer, "REVOKED", offer=Digest(b"?" * 32)), p.close(tid, offer, "DECLINED"))
    assert await p.state(tid) == "SEEN"


async def test_what_cannot_be_verified_raises_and_stores_nothing(p: Parties) -> None:
    tid, offer = await p.offer()
    peer = await p.r.pins.get(p.s.site)
    assert peer is not None
    forged = sign_message(peek(Offer, offer), p.r.identity.key)
    inbox: Inbox = p.r.inbox
    with pytest.raises(SignatureError):
        await inbox.offer(forged, peer)
    for text in ("", "a.b.c", forged):
        with pytest.raises(PeerError):
            await inbox.later(text, peer, tid)
    assert await p.r.rows("SELECT * FROM receives") == []
    assert await p.r.rows("SELECT * FROM waiting") == []
