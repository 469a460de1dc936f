"""`clients.gateway.receiving.inbox`: a lying relay, a dishonest sender, and every rule that keeps a study shut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from clients.gateway.errors import RelayDownError
from clients.gateway.receiving import inbox
from clients.gateway.receiving.inbox import Inbox, peek_end
from tests.gateway_kit import DAY, HOUR, NOW, Handset, House, carry, houses
from tests.transfer_kit import CID, S
from transfer import jws
from transfer.errors import NotForMeError, PeerError, SignatureError
from transfer.ids import BlobKey, Digest, PublicKey, Tid
from transfer.manifest import ChainWriter
from transfer.messages import (
    Close,
    Grant,
    Message,
    Offer,
    Receipt,
    Release,
    SeriesEntry,
    open_message,
    peek,
    sign_message,
)
from transfer.prekeys import DELETE_AFTER, read_prekey, seal_to
from transfer.release import KEEP, SKEW, release_info
from transfer.states import TERMINAL


class Parties:
    """A sender that can be made to lie, and the receiver under test. Nothing is delivered but by hand."""

    def __init__(self, s: House, r: House) -> None:
        self.s, self.r, self.clock = s, r, s.clock

    async def offer(self, **changes: Any) -> tuple[Tid, str]:
        """An offer of S, and its text; not delivered."""
        tid = await self.s.offer_to(self.r)
        text = (await self.s.send(tid))["offer"]
        if changes:
            text = self.signed(msgspec.structs.replace(peek(Offer, text), **changes))
            await self.s.execute("UPDATE sends SET offer=? WHERE tid=?", text, tid)
        return tid, text

    async def release(self, tid: Tid, **changes: Any) -> str:
        """L after a yes on the phone; with `changes`, what a dishonest S might sign instead."""
        if (await self.s.send(tid))["release"] is None:
            phone = await Handset.scan(self.s, tid)
            await phone.ask()
            assert (await phone.decide()).refused == ""
        text = str((await self.s.send(tid))["release"])
        return self.signed(msgspec.structs.replace(peek(Release, text), **changes)) if changes else text

    def signed(self, message: Message) -> str:
        return sign_message(message, self.s.identity.key)

    def close(self, tid: Tid, text: str, state: str = "REVOKED", **changes: Any) -> str:
        """C for the offer `text`."""
        fields = {
            "v": 1,
            "tid": tid,
            "offer": jws.digest(text),
            "state": state,
            "why": "",
            "iat": self.clock.at,
        }
        return self.signed(Close(**{**fields, **changes}))

    async def hear(self, *texts: str) -> None:
        for text in texts:
            await self.r.hear(text, self.s)

    async def opened(self) -> Tid:
        """A transfer that R has opened."""
        tid, offer = await self.offer()
        await self.hear(offer, await self.release(tid))
        assert await self.state(tid) == "OPENED"
        return tid

    async def state(self, tid: Tid) -> str:
        found = await self.r.rows("SELECT state FROM receives WHERE tid=?", tid)
        return str(found[0]["state"]) if found else ""

    async def declined(self) -> list[str]:
        """The codes of what R declined, as S will read them."""
        closes = [
            open_message(Close, t, self.r.site) for t in await self.r.letters() if jws.header("close") in t
        ]
        assert all(c.state == "DECLINED" for c in closes)
        return [c.why for c in closes]

    async def acked(self) -> int:
        return len(await self.r.letters("ack"))


@pytest.fixture
async def p(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses(tmp_path) as (s, r):
        yield Parties(s, r)


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


# Releases


async def test_the_yes_opens(p: Parties) -> None:
    tid, offer = await p.offer()
    release = await p.release(tid)
    await p.hear(offer, release)
    row = await p.r.receive(tid)
    k = await p.s.value("SELECT k_sealed FROM spools")
    assert row["state"] == "OPENED"
    assert p.r.vault.open("content-key", row["k_sealed"]) == p.s.vault.open("content-key", k)
    assert p.r.on_disk(p.r.vault.open("content-key", row["k_sealed"])) == []
    assert bytes(await p.r.value("SELECT release FROM used WHERE tid=?", tid)) == jws.digest(release)
    assert await p.acked() == 2
    assert (await p.r.actions(tid.hex()))[-1] == "incoming.opened"


async def test_a_release_before_its_offer_waits(p: Parties) -> None:
    tid, offer = await p.offer()
    release = await p.release(tid)
    await p.hear(release, release)
    assert await p.state(tid) == ""
    assert await p.acked() == 0
    await p.hear(offer)
    assert await p.state(tid) == "OPENED"
    assert await p.r.rows("SELECT * FROM waiting") == []


async def test_a_close_before_its_offer_waits(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(p.close(tid, offer, "REVOKED"))
    await p.hear(offer)
    assert await p.state(tid) == "REVOKED"


async def test_a_site_may_not_fill_the_disk_with_messages_that_wait(
    p: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.gateway.receiving.inbox._WAITING", 5)
    _, offer = await p.offer()
    for i in range(12):
        await p.hear(p.close(Tid(bytes([i]) * 16), offer))
    assert await p.r.value("SELECT count(*) FROM waiting") == 5


async def test_close_and_release_before_their_offer(p: Parties) -> None:
    """The relay brought all three the wrong way round: what was said last at S holds, or R has opened it before."""
    tid, offer = await p.offer()
    release = await p.release(tid)
    await p.hear(p.close(tid, offer, "REVOKED"), release, offer)
    assert await p.state(tid) == "REVOKED"
    assert (await p.r.receive(tid))["k_sealed"] is None


async def test_a_waiting_message_that_is_wrong_does_not_keep_its_offer_out(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(p.close(tid, "another offer", "REVOKED"))
    await p.hear(offer)
    assert await p.state(tid) == "SEEN"


async def test_the_same_release_again_is_only_acknowledged(p: Parties) -> None:
    tid = await p.opened()
    release = (await p.r.receive(tid))["release"]
    before = await p.r.receive(tid)
    for _ in range(3):
        await p.hear(release)
    await p.r.restart()
    await p.hear(release)
    assert tuple(await p.r.receive(tid)) == tuple(before)
    assert (await p.r.actions(tid.hex())).count("incoming.opened") == 1
    assert await p.r.alarms(tid) == []


async def test_the_same_release_is_known_after_its_pre_key_is_gone(p: Parties) -> None:
    tid = await p.opened()
    release = (await p.r.receive(tid))["release"]
    await p.r.execute("DELETE FROM prekeys")
    await p.r.execute("DELETE FROM outbox")
    await p.hear(release)
    assert await p.acked() == 1
    assert await p.declined() == []


@pytest.mark.parametrize("prekey", [True, False], ids=["key here", "key gone"])
async def test_another_release_for_a_used_tid_is_refused_with_an_alarm(p: Parties, prekey: bool) -> None:
    tid = await p.opened()
    other = await p.release(tid, iat=NOW + 5)
    if not prekey:
        await p.r.execute("DELETE FROM prekeys")
    before = await p.r.receive(tid)
    for _ in range(3):
        await p.hear(other)
    assert tuple(await p.r.receive(tid)) == tuple(before)
    assert await p.r.alarms(tid) == ["used"]
    assert await p.declined() == ["used"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"r": b"?" * 32}, "not-for-me"),
        ({"kid": b"unknown!"}, "not-for-me"),
        ({"offer": b"?" * 32}, "hash"),
        ({"grant": b"?" * 32}, "hash"),
        ({"sealed": b"x" * 2000}, "hash"),
        ({"iat": NOW + 2 * HOUR + 1}, "expired"),
        ({"type": "attest", "pk": bytes(32)}, "grant-type-off"),
        ({"type": "override", "pk": bytes(32)}, "grant-type-off"),
        ({"pk": b"\x01" * 32}, "signature"),
    ],
    ids=["site", "kid", "offer", "grant", "sealed", "late", "attest", "override", "pk"],
)
async def test_a_release_that_breaks_a_rule_opens_nothing(
    p: Parties, change: dict[str, Any], code: str
) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    good = peek(Release, await p.release(tid))
    kinds = {k: type(getattr(good, k)) for k in ("r", "kid", "offer", "grant", "pk")} | {"sealed": BlobKey}
    bad = await p.release(tid, **{k: kinds.get(k, lambda x: x)(v) for k, v in change.items()})
    for _ in range(3):
        await p.hear(bad)
    row = await p.r.receive(tid)
    assert (row["state"], row["why"], row["k_sealed"], row["release"]) == ("DECLINED", code, None, None)
    assert await p.r.rows("SELECT * FROM used") == [], "the tid is not marked used"
    assert await p.declined() == [code]
    assert await p.r.alarms(tid) == [code]
    assert len(await p.r.rows("SELECT * FROM waiting")) == 1, "kept for staff"
    p.clock.at += KEEP + 1
    await p.r.inbox.expire()
    assert await p.r.rows("SELECT * FROM waiting") == []


async def test_a_denied_grant_never_opens(p: Parties) -> None:
    """A dishonest S seals the person's no as if it were a yes."""

    tid, offer = await p.offer()
    await p.hear(offer)
    o = peek(Offer, offer)
    phone = SigningKey(b"p" * 32)
    grant = sign_message(
        Grant(
            v=1,
            tid=tid,
            offer=jws.digest(offer),
            d="deny",
            by="patient",
            name="",
            rel="self",
            lang="en",
            t=NOW,
        ),
        phone,
    )
    prekey = read_prekey(await p.r.value("SELECT message FROM prekeys"), site=p.r.site, now=NOW)
    info = release_info(tid, jws.digest(offer), jws.digest(grant))
    sealed = BlobKey(seal_to(prekey.pk, b"K" * 32 + grant.encode(), info))
    release = p.signed(
        Release(
            v=1, tid=tid, offer=jws.digest(offer), grant=jws.digest(grant), pk=PublicKey(phone.verify_key.encode()),
            type="patient", r=p.r.site, kid=o.kid, sealed=sealed, iat=NOW,
        )
    )  # fmt: skip
    await p.hear(release)
    assert await p.state(tid) == "DECLINED"
    assert await p.declined() == ["decided"]


async def test_a_pre_key_that_is_gone_opens_nothing(p: Parties) -> None:
    """The release was held back until the private half was erased: forward secrecy, said with its name."""
    tid, offer = await p.offer()
    await p.hear(offer)
    release = await p.release(tid)
    p.clock.at += 3 * DAY + DELETE_AFTER + 1
    with pytest.raises(RelayDownError):
        await p.r.pins.renew()
    await p.hear(release)
    assert await p.state(tid) == "DECLINED"
    assert await p.declined() == ["kid-unknown"]


async def test_48_hours_past_the_offer_s_end_and_not_longer(p: Parties) -> None:
    one, two = await p.offer(), await p.offer()
    await p.hear(one[1], two[1])
    releases = [await p.release(one[0]), await p.release(two[0])]
    p.clock.at = NOW + 2 * HOUR + KEEP
    await p.hear(releases[0])
    assert await p.state(one[0]) == "OPENED"
    p.clock.at += 1
    await p.hear(releases[1])
    assert await p.state(two[0]) == "DECLINED"
    assert await p.declined() == ["expired"]


async def test_a_release_after_we_gave_up_is_answered(p: Parties) -> None:
    """So that S does not wait for a receipt that will never come."""
    tid, offer = await p.offer()
    await p.hear(offer)
    release = await p.release(tid)
    p.clock.at = NOW + 2 * HOUR + KEEP
    await p.r.inbox.expire()
    assert await p.state(tid) == "EXPIRED"
    await p.hear(release, release)
    assert await p.state(tid) == "EXPIRED"
    await carry(p.r, p.s)
    row = await p.s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "expired")


async def test_a_yes_for_an_offer_that_was_declined_is_answered(p: Parties) -> None:
    """R declined O; the person did not know, and said yes all the same."""
    tid, offer = await p.offer()
    await p.r.execute("UPDATE prekeys SET kid=x'0000000000000000'")
    await p.hear(offer)
    await carry(p.r, p.s)
    assert (await p.s.send(tid))["why"] == "kid-unknown"
    await p.release(tid)
    await carry(p.s, p.r)
    row = await p.s.send(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "kid-unknown")
    assert await p.r.letters() == await p.s.letters() == []


async def test_a_forged_release_is_dropped_without_a_word(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    release = await p.release(tid)
    forged = sign_message(peek(Release, release), p.r.identity.key)
    await p.hear(forged, release[:-4] + "AAAA", release.replace(".", "..", 1))
    assert await p.state(tid) == "SEEN"
    assert await p.declined() == []
    await p.hear(release)
    assert await p.state(tid) == "OPENED"


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


# The end


def a_record(p: Parties, cid: Any, *, end: bool = True, want: int = 0) -> str:
    """A manifest record as S signs it, without items."""
    series = [SeriesEntry(0, "2.25.12", 0, want, end)]
    return ChainWriter(cid, p.s.identity.key).record([], series, [], total=0 if end else None)


async def list_items(p: Parties, tid: Tid, *states: str, want: int = 0, end: bool = True) -> str:
    """The ledger as the delivery leaves it."""
    row = await p.r.receive(tid)
    cid = peek(Offer, row["offer"]).cid
    text = a_record(p, cid, end=end, want=want)
    await p.r.execute("INSERT INTO in_records VALUES (?,0,0,?)", cid, text)
    await p.r.execute("UPDATE receives SET total=? WHERE tid=?", len(states) if end else 0, tid)
    await p.r.execute(
        "INSERT INTO in_series (cid, no, uid, want, closed) VALUES (?,0,'2.25.12',?,?)", cid, want, int(end)
    )
    for no, state in enumerate(states):
        await p.r.execute(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, proof)"
            " VALUES ('P',?,?,?,0,x'00',?,0,?)",
            f"2.25.{no}", tid, no, state, "store" if state == "stored" else "",
        )  # fmt: skip
    return text


async def a_receipt(p: Parties, tid: Tid) -> Receipt:
    row = await p.r.receive(tid)
    assert row["receipt"] in await p.r.letters()
    receipt = open_message(Receipt, row["receipt"], p.r.site)
    assert receipt.grant == jws.digest(p.r.vault.open("grant", row["grant_sealed"]).decode())
    assert receipt.offer == jws.digest(row["offer"])
    return receipt


async def test_everything_stored_is_complete(p: Parties) -> None:
    tid = await p.opened()
    record = await list_items(p, tid, "stored", "stored", want=2)
    k = bytes((await p.r.receive(tid))["k_sealed"])
    await p.r.inbox.finish(tid, "delivered")
    receipt = await a_receipt(p, tid)
    assert (receipt.state, receipt.gaps, receipt.proof, receipt.manifest) == (
        "COMPLETE",
        [],
        "store",
        jws.digest(record),
    )
    assert await p.state(tid) == "COMPLETE"
    assert p.r.on_disk(k, k[24:]) == [], "the key is nowhere"
    await p.r.inbox.finish(tid, "gave-up")
    assert await p.state(tid) == "COMPLETE"


async def test_what_is_missing_is_named_by_number(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", "failed", "stored", "sending", "listed")
    await p.r.inbox.finish(tid, "gave-up", "pacs")
    receipt = await a_receipt(p, tid)
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [1, 3, 4])
    assert b"2.25." not in jws.unverified_payload(Receipt.NAME, (await p.r.receive(tid))["receipt"], 65536)


async def test_images_that_the_sender_lost_are_no_complete_study(p: Parties) -> None:
    """All that was listed is stored; the sender's own count says that there were more."""
    tid = await p.opened()
    await list_items(p, tid, "stored", "stored", want=3)
    await p.r.inbox.finish(tid, "delivered")
    row = await p.r.receive(tid)
    assert (row["state"], row["why"]) == ("PARTIAL", "unsent")
    assert ((await a_receipt(p, tid)).state, (await a_receipt(p, tid)).gaps) == ("PARTIAL", [])


async def test_a_manifest_without_an_end_is_never_complete(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", end=False)
    await p.r.inbox.finish(tid, "gave-up", "no-end")
    assert (await a_receipt(p, tid)).state == "PARTIAL"


@pytest.mark.parametrize(
    ("why", "said"), [("chain", "chain"), ("pack", "pack"), ("hash", "hash"), ("no-end", "")]
)
async def test_without_any_record_s_is_told_by_a_close(p: Parties, why: str, said: str) -> None:
    """There is no record that a receipt could name; S must not wait a week for it."""
    tid = await p.opened()
    await p.r.inbox.finish(tid, "gave-up" if why == "no-end" else "chain", why)
    assert (await p.r.receive(tid))["receipt"] is None
    assert await p.declined() == [said]
    await carry(p.r, p.s)
    assert (await p.s.send(tid))["state"] == "PARTIAL"


async def test_a_broken_chain_is_an_alarm(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", "listed", end=False)
    await p.r.inbox.finish(tid, "chain", "chain")
    assert await p.r.alarms(tid) == ["chain"]
    assert (await a_receipt(p, tid)).gaps == [1]


async def test_revoked_after_the_yes_says_what_was_delivered(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored", "listed", end=False)
    offer = (await p.r.receive(tid))["offer"]
    k = bytes((await p.r.receive(tid))["k_sealed"])
    await p.hear(p.close(tid, offer, "REVOKED"))
    assert (await a_receipt(p, tid)).gaps == [1]
    assert p.r.on_disk(k) == []


async def test_a_receipt_waits_until_s_has_it(p: Parties) -> None:
    tid = await p.opened()
    await list_items(p, tid, "stored")
    await p.r.inbox.finish(tid, "delivered")
    receipt = (await p.r.receive(tid))["receipt"]
    await p.r.restart()
    assert receipt in await p.r.letters()
    await p.s.execute("INSERT INTO records SELECT cid, 0, 0, ? FROM spools", peek(Receipt, receipt).manifest)
    await carry(p.r, p.s)
    assert await p.r.letters() == []
    assert (await p.s.send(tid))["state"] == "COMPLETE"


async def test_expiry_is_48_hours_past_the_offer_s_end(p: Parties) -> None:
    tid, offer = await p.offer()
    await p.hear(offer)
    p.clock.at = NOW + 2 * HOUR + KEEP - 1
    await p.r.inbox.expire()
    assert await p.state(tid) == "SEEN"
    p.clock.at += 1
    await p.r.inbox.expire()
    assert await p.state(tid) == "EXPIRED"
    assert "EXPIRED" in TERMINAL


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


def test_the_last_record_says_so() -> None:
    writer = ChainWriter(CID, S.key)
    assert not peek_end(writer.record([], [], []))
    assert peek_end(writer.record([], [], [], total=0))
