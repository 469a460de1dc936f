"""`clients.gateway.receiving.inbox`: what opens a transfer, every rule that keeps it shut, and letters out of order."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from clients.gateway.errors import RelayDownError
from tests.gateway_kit import DAY, HOUR, NOW, carry
from tests.inbox_kit import Parties, p
from transfer import jws
from transfer.ids import BlobKey, PublicKey, Tid
from transfer.messages import Grant, Offer, Release, peek, sign_message
from transfer.prekeys import DELETE_AFTER, read_prekey, seal_to
from transfer.release import KEEP, release_info

__all__ = ["p"]


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
