"""`clients.gateway.peers.pins`: whom a person paired, whose keys are good now, and keys that are gone for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.errors import AbsentError, RelayDownError
from tests.gateway_kit import DAY, HOUR, NOW, House, a_relay, houses, houses_at_a_relay
from transfer.errors import PeerError
from transfer.ids import Kid
from transfer.messages import Prekey, sign_message
from transfer.prekeys import DELETE_AFTER, LIFE, PrekeyPair, read_prekey


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    async with houses_at_a_relay(tmp_path) as (s, r, _):
        yield s, r


def a_prekey(house: House, now: int = NOW, **changes: object) -> tuple[PrekeyPair, str]:
    """A pre-key that `house` signs, as it might."""
    pair = PrekeyPair.generate(lambda n: bytes([len(changes) + 1]) * n)
    fields = {
        "v": 1,
        "kid": pair.kid,
        "site": house.site,
        "pk": pair.public,
        "nbf": now,
        "exp": now + LIFE,
        **changes,
    }
    return pair, sign_message(Prekey(**fields), house.identity.key)  # type: ignore[arg-type]


# Pairing


async def test_pinned_is_whom_a_person_compared(both: tuple[House, House]) -> None:
    s, r = both
    peer = await s.pins.get(r.site)
    assert peer is not None
    assert (peer.name, peer.roles, peer.pinned_by, peer.pinned_at) == (
        "Lakeside Trauma Center", ("send", "receive"), "test", NOW,
    )  # fmt: skip
    assert peer.pin.site == r.site
    assert not peer.pin.attest
    assert not peer.pin.override
    assert [p.site for p in await s.pins.all()] == [r.site]
    assert await s.pins.get(s.site) is None


async def test_what_a_peer_s_staff_may_decide_is_allowed_one_by_one_and_ends_with_the_pairing(
    both: tuple[House, House],
) -> None:
    s, r = both
    for kinds in (("attest",), ("override", "attest"), ("override",), ()):
        await s.pins.allow(r.site, kinds, "admin")  # type: ignore[arg-type]
        pin = (await s.pins.find("Lakeside Trauma Center")).pin
        assert (pin.attest, pin.override) == ("attest" in kinds, "override" in kinds)
    await s.pins.allow(r.site, ("attest",), "admin")
    await s.pins.pin(r.card, "test")
    assert (await s.pins.find("Lakeside Trauma Center")).pin.attest, "a new card of the same site"
    await s.pins.unpin(r.site, "admin")
    await s.pins.pin(r.card, "test")
    assert not (await s.pins.find("Lakeside Trauma Center")).pin.attest
    assert (await s.actions(r.site.hex())).count("peer.allow") == 5


async def test_a_new_card_of_a_pinned_site_keeps_when_and_by_whom_it_was_pinned(
    both: tuple[House, House],
) -> None:
    s, r = both
    s.clock.at += DAY
    card = r.identity.card(
        name="Lakeside Level I",
        place="Lakeside",
        relay="https://r.example",
        page="",
        roles=["receive"],
        now=s.clock.at,
    )
    await s.pins.pin(f"  {card}\n", "another")
    peer = await s.pins.find("Lakeside Level I")
    assert (peer.place, peer.roles) == ("Lakeside", ("receive",))
    assert (peer.pinned_at, peer.pinned_by) == (NOW, "test")
    assert (await s.actions(r.site.hex())) == ["peer.pin", "peer.pin"]


async def test_a_changed_card_is_refused(both: tuple[House, House]) -> None:
    s, r = both
    head, body, signature = r.card.split(".")
    forged = s.identity.card(
        name="Lakeside", place="", relay="https://r.example", page="", roles=["receive"], now=0
    )
    for card in (
        "",
        "no card",
        f"{head}.{body}.{forged.split('.')[2]}",
        f"{head}.{forged.split('.')[1]}.{signature}",
    ):
        with pytest.raises(PeerError):
            await s.pins.pin(card, "test")
    assert len(await s.pins.all()) == 1


async def test_sites_are_found_by_id_and_by_a_name_that_only_one_has(
    both: tuple[House, House], tmp_path: Path
) -> None:
    s, r = both
    for name in (r.site.text, r.site.hex(), "Lakeside Trauma Center"):
        assert (await s.pins.find(name)).site == r.site
    with pytest.raises(AbsentError):
        await s.pins.find("Lakeside")
    namesake = await House(tmp_path / "n", s.clock).make("Lakeside Trauma Center")
    await s.pin(namesake)
    with pytest.raises(AbsentError):
        await s.pins.find("Lakeside Trauma Center")
    assert (await s.pins.find(r.site.text)).site == r.site
    await namesake.close()


# Our own pre-keys


async def test_a_new_one_each_day(both: tuple[House, House]) -> None:
    _, r = both
    counts = []
    for _ in range(14):
        await r.pins.renew()
        counts.append(await r.value("SELECT count(*) FROM prekeys"))
        r.clock.at += 12 * HOUR
    assert counts == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 5, 6, 5], "made each day, gone 120 hours later"
    rows = await r.rows("SELECT message FROM prekeys ORDER BY exp")
    messages = [read_prekey(r_["message"], site=r.site, now=r.clock.at) for r_ in rows[-2:]]
    assert {m.exp - m.nbf for m in messages} == {LIFE}
    assert messages[1].nbf - messages[0].nbf == DAY


async def test_a_private_half_is_erased_48_hours_after_its_end_and_is_nowhere(
    both: tuple[House, House],
) -> None:
    """That erasure is the forward secrecy: neither the database file nor its WAL may hold it."""
    _, r = both
    await r.pins.renew()
    row = await r.one("SELECT kid, pair_sealed, exp FROM prekeys")
    kid, sealed = Kid(row["kid"]), bytes(row["pair_sealed"])
    pair = await r.db.run(lambda con: r.pins.own_pair(con, kid))
    assert pair is not None
    assert pair.kid == kid
    assert r.on_disk(sealed)
    assert not r.on_disk(pair.seed, pair.scalar), "a secret is in clear"
    r.clock.at = row["exp"] + DELETE_AFTER
    await r.pins.renew()
    assert await r.db.run(lambda con: r.pins.own_pair(con, kid)) == pair
    r.clock.at += 1
    await r.pins.renew()
    assert await r.db.run(lambda con: r.pins.own_pair(con, kid)) is None
    assert r.on_disk(sealed, sealed[24:56], sealed[-32:]) == []


async def test_it_is_erased_though_the_relay_is_down(tmp_path: Path) -> None:
    async with houses(tmp_path) as (_, r):
        with pytest.raises(RelayDownError):
            await r.pins.renew()
        row = await r.one("SELECT pair_sealed, exp FROM prekeys")
        r.clock.at = row["exp"] + DELETE_AFTER + 1
        with pytest.raises(RelayDownError):
            await r.pins.renew()
        assert r.on_disk(bytes(row["pair_sealed"])) == []


async def test_a_clock_that_was_wrong_once_does_not_end_the_keys(both: tuple[House, House]) -> None:
    """A machine that woke up in 2038: when its clock is set, today needs a key of its own."""
    s, r = both
    r.clock.at += 3650 * DAY
    await r.pins.renew()
    r.clock.at = NOW
    await r.pins.renew()
    found = await s.pins.prekey_of(r.site, NOW + HOUR)
    assert found is not None
    assert found[1].nbf == NOW


async def test_what_the_relay_lost_is_offered_again(both: tuple[House, House], tmp_path: Path) -> None:
    _, r = both
    await r.pins.renew()
    async with a_relay(tmp_path / "new relay", r.clock, r.card) as empty:
        r.relay.origin = empty.url
        assert await r.relay.prekeys(r.site) == []
        await r.pins.renew()
        assert len(await r.relay.prekeys(r.site)) == 1


# A peer's


async def test_the_relay_hands_out_what_r_offers(both: tuple[House, House]) -> None:
    s, r = both
    assert await s.pins.prekey_of(r.site, NOW + HOUR) is None
    await r.pins.renew()
    found = await s.pins.prekey_of(r.site, NOW + HOUR)
    assert found is not None
    text, message = found
    assert text == await r.value("SELECT message FROM prekeys")
    assert (await s.pins.find(r.site.text)).prekey_exp == message.exp == NOW + LIFE


async def test_a_known_one_is_used_without_asking_while_it_lasts(both: tuple[House, House]) -> None:
    s, r = both
    await r.pins.renew()
    first = await s.pins.prekey_of(r.site, NOW + HOUR)
    s.relay.origin = "http://127.0.0.1:9"
    assert await s.pins.prekey_of(r.site, NOW + LIFE) == first
    with pytest.raises(RelayDownError):
        await s.pins.prekey_of(r.site, NOW + LIFE + 1)


async def test_the_longest_is_taken(both: tuple[House, House]) -> None:
    s, r = both
    await r.pins.renew()
    r.clock.at += DAY
    await r.pins.renew()
    found = await s.pins.prekey_of(r.site, r.clock.at + HOUR)
    assert found is not None
    assert found[1].exp == r.clock.at + LIFE


async def test_what_a_lying_relay_may_serve_is_refused(both: tuple[House, House]) -> None:
    """A foreign key, one of another site, one that has run out, one from the future, one that lives too long."""
    s, r = both
    _, foreign = a_prekey(s, site=r.site)
    _, other_site = a_prekey(s)
    _, stale = a_prekey(r, NOW - LIFE)
    _, future = a_prekey(r, NOW + 601)
    _, immortal = a_prekey(r, exp=NOW + LIFE + 1)
    _, misnamed = a_prekey(r, kid=Kid(b"12345678"))
    bad = [foreign, other_site, stale, future, immortal, misnamed, "", "no.pre.key", "x" * 10_000]
    for text in bad:
        assert s.pins._verified([text], r.site) is None
    _, good = a_prekey(r)
    found = s.pins._verified([*bad, good], r.site)
    assert found is not None
    assert found[0] == good


async def test_a_stored_one_that_ran_out_is_not_used(both: tuple[House, House]) -> None:
    s, r = both
    await r.pins.renew()
    assert await s.pins.prekey_of(r.site, NOW + HOUR) is not None
    s.clock.at += LIFE
    assert await s.pins.prekey_of(r.site, s.clock.at + HOUR) is None


async def test_refresh_learns_who_can_be_offered_something(both: tuple[House, House], tmp_path: Path) -> None:
    """A paired site that the relay does not know is no reason to leave the others out."""
    s, r = both
    stranger = await House(tmp_path / "x", s.clock).make("A stranger to the relay")
    await s.pin(stranger)
    await r.pins.renew()
    await s.pins.refresh()
    assert {p.name: p.prekey_exp > NOW for p in await s.pins.all()} == {
        "A stranger to the relay": False, "Lakeside Trauma Center": True,
    }  # fmt: skip
    await stranger.close()
