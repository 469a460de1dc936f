"""The rules of `MetaStore`, over every store there is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from relay import metastore
from relay.config import Quota
from relay.errors import (
    AbsentError,
    DifferentError,
    GoneError,
    NotYoursError,
    QuotaError,
    RateError,
)  # fmt: skip
from relay.memory import MemoryMeta
from relay.metastore import Hello, MetaStore, Pack, Site, first_number
from relay.sqlite import SqliteMeta
from transfer.encoding import sha256
from transfer.ids import Cid, Digest, Kid, Nonce, SiteId

NOW = 1_795_000_000
QUOTA = Quota(
    site_bytes=1000,
    site_cids=3,
    site_mailboxes=2,
    cid_packs=4,
    cid_readers=3,
    pair_letters=3,
    pair_bytes=100,
    reserve=0,
)
S, R, X = (SiteId(bytes([i]) * 32) for i in (1, 2, 3))
C = Cid(bytes(16))
MB, RUN = "ab" * 16, "cd" * 16


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetaStore]:
    made: MetaStore
    if request.param == "sqlite":
        made = SqliteMeta(tmp_path / "relay.db", QUOTA, lambda: NOW)
    else:
        made = MemoryMeta(QUOTA, lambda: NOW)
    await made.open()
    for site in (S, R, X):
        await made.enroll(Site(site, "Name", "card", NOW))
    yield made
    await made.close()


def digest(body: bytes) -> Digest:
    return Digest(sha256(body))


async def post(store: MetaStore, body: bytes, owner: SiteId = R, sender: SiteId = S) -> int:
    return await store.post(owner, sender, digest(body), body, NOW)


def pack(n: int, body: bytes = b"c", kind: metastore.Kind = "D", size: int = 100) -> Pack:
    return Pack(n, kind, size, digest(body), 0)


def hello(body: bytes = b'{"v":1}', ended: bool = False, dies: int = NOW + 100) -> Hello:
    return Hello(body, ended, dies)


async def put(store: MetaStore, slot: int, body: bytes, run: str = RUN, site: SiteId | None = None) -> int:
    return (await store.put_message(MB, run, slot, body, digest(body), site, NOW)).i


class TestSites:
    async def test_a_site_is_known_by_its_newest_card(self, store: MetaStore) -> None:
        await store.enroll(Site(S, "New name", "new card", NOW + 5))
        found = await store.site(S)
        assert found is not None
        assert (found.name, found.card) == ("New name", "new card")
        assert await store.site(SiteId(bytes(32))) is None

    async def test_a_jti_is_new_once_for_each_site(self, store: MetaStore) -> None:
        jti = Nonce(bytes(16))
        assert await store.remember(S, jti, NOW)
        assert not await store.remember(S, jti, NOW)
        assert not await store.remember(S, jti, NOW + 1)
        assert await store.remember(R, jti, NOW)

    async def test_a_jti_is_kept_for_as_long_as_its_request_could_come_again(self, store: MetaStore) -> None:
        jti = Nonce(bytes(16))
        await store.remember(S, jti, NOW)
        await store.expire(NOW + 1800, 100)
        assert not await store.remember(S, jti, NOW + 1800)
        await store.expire(NOW + 3700, 100)
        assert await store.remember(S, jti, NOW + 3700)


class TestQueues:
    async def test_letters_wait_in_order_until_they_are_acknowledged(self, store: MetaStore) -> None:
        seqs = [await post(store, b"%d" % i) for i in range(3)]
        assert seqs == sorted(set(seqs))
        letters = await store.letters(R, 0, 2)
        assert [(x.seq, x.body, x.sender, x.at) for x in letters] == [
            (s, b"%d" % i, S, NOW) for i, s in enumerate(seqs[:2])
        ]
        assert [x.seq for x in await store.letters(R, seqs[1], 9)] == seqs[2:]
        await store.ack(R, [seqs[0], 7])
        assert [x.seq for x in await store.letters(R, 0, 9)] == seqs[1:]
        assert await store.letters(S, 0, 9) == []

    async def test_nobody_acknowledges_for_another(self, store: MetaStore) -> None:
        seq = await post(store, b"a")
        await store.ack(X, [seq])
        assert [x.seq for x in await store.letters(R, 0, 9)] == [seq]

    async def test_the_same_letter_keeps_its_number_while_it_waits(self, store: MetaStore) -> None:
        seq = await post(store, b"a")
        assert await post(store, b"a") == seq
        assert await post(store, b"a", sender=X) != seq
        await store.ack(R, [seq])
        assert await post(store, b"a") > seq

    async def test_numbers_start_above_any_older_store(self, store: MetaStore) -> None:
        seq = await post(store, b"a")
        assert first_number(NOW) < seq < first_number(NOW + 60) < 2**53

    async def test_an_unknown_owner_has_no_queue(self, store: MetaStore) -> None:
        with pytest.raises(AbsentError):
            await post(store, b"a", owner=SiteId(bytes(32)))

    async def test_a_pair_has_a_quota_of_its_own(self, store: MetaStore) -> None:
        for i in range(3):
            await post(store, b"%d" % i)
        with pytest.raises(QuotaError):
            await post(store, b"more")
        await post(store, b"more", sender=X)
        with pytest.raises(QuotaError):
            await post(store, bytes(97), sender=X)

    async def test_letters_are_forgotten_after_a_month(self, store: MetaStore) -> None:
        await post(store, b"a")
        await store.expire(NOW + metastore.LETTER_LIFE - 1, 100)
        assert len(await store.letters(R, 0, 9)) == 1
        await store.expire(NOW + metastore.LETTER_LIFE, 100)
        assert await store.letters(R, 0, 9) == []


class TestPrekeys:
    async def test_newest_first_none_expired_and_at_most_eight(self, store: MetaStore) -> None:
        for i in range(10):
            await store.put_prekey(R, Kid(bytes([i]) * 8), f"k{i}", NOW + i, NOW + 100 + i, NOW)
        assert await store.prekeys(R, NOW) == [f"k{i}" for i in range(9, 1, -1)]
        assert await store.prekeys(R, NOW + 108) == ["k9"]
        await store.expire(NOW + 200, 100)
        assert await store.prekeys(R, NOW) == []

    async def test_a_prekey_may_be_published_again(self, store: MetaStore) -> None:
        kid = Kid(bytes(8))
        await store.put_prekey(R, kid, "one", NOW, NOW + 100, NOW)
        await store.put_prekey(R, kid, "two", NOW, NOW + 100, NOW)
        assert await store.prekeys(R, NOW) == ["two"]

    async def test_an_unknown_site_has_none(self, store: MetaStore) -> None:
        with pytest.raises(AbsentError):
            await store.prekeys(SiteId(bytes(32)), NOW)


class TestPacks:
    async def test_a_pack_is_created_once(self, store: MetaStore) -> None:
        assert await store.find_pack(C, 0, S) == (False, None)
        await store.own(C, S, NOW)
        assert await store.find_pack(C, 0, S) == (True, None)
        assert await store.add_pack(C, S, pack(0))
        assert not await store.add_pack(C, S, pack(0))
        owned, found = await store.find_pack(C, 0, S)
        assert owned
        assert found is not None
        assert msgspec.structs.replace(found, arrival=0) == pack(0)
        for other in (pack(0, b"x"), pack(0, kind="M")):
            with pytest.raises(DifferentError):
                await store.add_pack(C, S, other)

    async def test_the_first_site_owns_a_content_id(self, store: MetaStore) -> None:
        await store.own(C, S, NOW)
        await store.own(C, S, NOW)
        for attempt in (
            store.own(C, X, NOW), store.find_pack(C, 0, X), store.add_pack(C, X, pack(0)), store.delete_cid(C, X, NOW),
            store.add_readers(C, X, [X], NOW), store.packs(C, X, 0, 9), store.pack(C, 0, X),
        ):  # fmt: skip
            with pytest.raises(NotYoursError):
                await attempt

    async def test_nothing_is_read_where_nothing_is(self, store: MetaStore) -> None:
        for attempt in (
            store.packs(C, S, 0, 9),
            store.pack(C, 0, S),
            store.delete_cid(C, S, NOW),
            store.add_pack(C, S, pack(0)),
        ):
            with pytest.raises(AbsentError):
                await attempt
        await store.own(C, S, NOW)
        with pytest.raises(AbsentError):
            await store.pack(C, 0, S)

    async def test_readers_read_and_do_nothing_else(self, store: MetaStore) -> None:
        await store.add_readers(C, S, [R], NOW)
        await store.add_pack(C, S, pack(0))
        assert (await store.pack(C, 0, R)).n == 0
        assert len(await store.packs(C, R, 0, 9)) == 1
        for attempt in (
            store.add_pack(C, R, pack(1)),
            store.delete_cid(C, R, NOW),
            store.add_readers(C, R, [X], NOW),
        ):
            with pytest.raises(NotYoursError):
                await attempt
        with pytest.raises(NotYoursError):
            await store.packs(C, X, 0, 9)

    async def test_the_listing_counts_arrivals(self, store: MetaStore) -> None:
        await store.own(C, S, NOW)
        other = Cid(b"\1" * 16)
        await store.own(other, S, NOW)
        for n in (3, 0, 7):
            await store.add_pack(C, S, pack(n, b"%d" % n))
        await store.add_pack(other, S, pack(1))
        first = await store.packs(C, S, 0, 2)
        assert [p.n for p in first] == [3, 0]
        assert [p.n for p in await store.packs(C, S, first[-1].arrival, 9)] == [7]
        assert first[0].arrival > first_number(NOW)

    async def test_quotas(self, store: MetaStore) -> None:
        await store.own(C, S, NOW)
        for n in range(4):
            await store.add_pack(C, S, pack(n, b"%d" % n))
        with pytest.raises(QuotaError):
            await store.add_pack(C, S, pack(4, b"4"))
        cids = [Cid(bytes([i]) * 16) for i in (1, 2, 3)]
        await store.own(cids[0], S, NOW)
        await store.own(cids[1], S, NOW)
        with pytest.raises(QuotaError):
            await store.own(cids[2], S, NOW)
        with pytest.raises(QuotaError):
            await store.add_pack(cids[0], S, pack(0, size=601))
        assert await store.add_pack(cids[0], S, pack(0, size=600))
        with pytest.raises(QuotaError):
            await store.add_readers(C, S, [SiteId(bytes([i]) * 32) for i in range(4)], NOW)
        with pytest.raises(NotYoursError):
            await store.packs(C, SiteId(bytes(32)), 0, 9)

    async def test_a_deleted_content_id_is_gone_for_good_and_gives_its_room_back(
        self, store: MetaStore
    ) -> None:
        await store.add_readers(C, S, [R], NOW)
        await store.add_pack(C, S, pack(0, size=1000))
        await store.delete_cid(C, S, NOW)
        await store.delete_cid(C, S, NOW)
        for attempt in (
            store.own(C, S, NOW), store.find_pack(C, 0, S), store.add_pack(C, S, pack(0)), store.pack(C, 0, S),
            store.packs(C, S, 0, 9), store.add_readers(C, S, [R], NOW),
        ):  # fmt: skip
            with pytest.raises(GoneError):
                await attempt
        for reader in (R, X):
            with pytest.raises(GoneError):
                await store.packs(C, reader, 0, 9)
        with pytest.raises(NotYoursError):
            await store.add_pack(C, X, pack(0))
        other = Cid(b"\1" * 16)
        await store.own(other, S, NOW)
        assert await store.add_pack(other, S, pack(0, size=1000))

    async def test_what_is_gone_is_doomed_until_its_bytes_are_erased(self, store: MetaStore) -> None:
        await store.own(C, S, NOW)
        assert await store.doomed(9) == []
        assert await store.alive([C, Cid(b"\1" * 16)]) == {C}
        await store.delete_cid(C, S, NOW)
        assert await store.doomed(9) == [C]
        assert await store.alive([C]) == {C}
        await store.erased(C)
        assert await store.doomed(9) == []
        assert await store.alive([C]) == set()
        with pytest.raises(GoneError):
            await store.own(C, S, NOW)

    async def test_a_content_id_lives_nine_days(self, store: MetaStore) -> None:
        await store.own(C, S, NOW)
        await store.add_pack(C, S, pack(0))
        await store.expire(NOW + 9 * 86_400 - 1, 100)
        assert await store.packs(C, S, 0, 9)
        await store.expire(NOW + 9 * 86_400, 100)
        assert await store.doomed(9) == [C]
        with pytest.raises(GoneError):
            await store.packs(C, S, 0, 9)


class TestMailboxes:
    async def test_a_number_that_another_site_drew_is_another_number_s_matter(self, store: MetaStore) -> None:
        """And once its mailbox has died it is free again: there are only ten million."""
        await store.put_hello("0000042", S, hello(b"one", dies=NOW + 10), NOW)
        with pytest.raises(DifferentError):
            await store.put_hello("0000042", X, hello(), NOW)
        await store.put_hello("0000042", S, hello(b"ended", ended=True, dies=NOW + 50), NOW)
        with pytest.raises(GoneError):
            await store.put_hello("0000042", S, hello(), NOW)
        await store.expire(NOW + 50, 100)
        with pytest.raises(AbsentError):
            await store.hello("0000042")
        await store.put_hello("0000042", X, hello(b"two"), NOW + 50)
        assert await store.hello("0000042") == b"two"

    async def test_the_first_site_owns_a_mailbox(self, store: MetaStore) -> None:
        with pytest.raises(AbsentError):
            await store.hello(MB)
        await store.put_hello(MB, S, hello(b"one"), NOW)
        await store.put_hello(MB, S, hello(b"two"), NOW)
        assert await store.hello(MB) == b"two"
        for attempt in (
            store.put_hello(MB, X, hello(), NOW),
            put(store, 2, b"x", site=X),
            store.delete_mailbox(MB, X),
        ):
            with pytest.raises(NotYoursError):
                await attempt

    async def test_a_phones_message_is_a_letter_to_the_owner(self, store: MetaStore) -> None:
        await store.put_hello(MB, S, hello(), NOW)
        posted = await store.put_message(MB, RUN, 1, b"m1", digest(b"m1"), None, NOW)
        assert (posted.i, posted.owner, posted.new) == (0, S, True)
        again = await store.put_message(MB, RUN, 1, b"m1", digest(b"m1"), None, NOW)
        assert (again.i, again.new) == (0, False)
        (letter,) = await store.letters(S, 0, 9)
        assert (letter.sender, letter.body) == (b"", b"m1")
        assert (letter.mb, letter.run, letter.slot, letter.i) == (MB, RUN, 1, 0)

    async def test_a_sites_message_waits_for_the_phone(self, store: MetaStore) -> None:
        await store.put_hello(MB, S, hello(), NOW)
        assert await store.message(MB, RUN, 2, 0) is None
        await put(store, 2, b"m2", site=S)
        assert await store.message(MB, RUN, 2, 0) == b"m2"
        assert await store.message(MB, RUN, 2, 1) is None
        assert await store.message(MB, "ee" * 16, 2, 0) is None
        assert await store.letters(S, 0, 9) == []

    @pytest.mark.parametrize(("slot", "cap"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 8), (6, 32)])
    async def test_slots_have_their_caps(self, store: MetaStore, slot: int, cap: int) -> None:
        await store.put_hello(MB, S, hello(), NOW)
        site = None if slot % 2 else S
        if site is None:
            cap = min(cap, QUOTA.pair_letters)
        for i in range(cap):
            assert await put(store, slot, b"%d" % i, site=site) == i
        assert await put(store, slot, b"0", site=site) == 0
        with pytest.raises(QuotaError if slot == 5 else DifferentError):
            await put(store, slot, b"more", site=site)

    async def test_phones_may_not_fill_a_mailbox(
        self, store: MetaStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metastore, "BOX_MESSAGES", 4)
        monkeypatch.setattr(metastore, "BOX_PHONE_MESSAGES", 2)
        await store.put_hello(MB, S, hello(), NOW)
        await put(store, 5, b"1")
        await put(store, 5, b"2")
        with pytest.raises(QuotaError):
            await put(store, 5, b"3")
        await put(store, 6, b"1", site=S)
        await put(store, 6, b"2", site=S)
        with pytest.raises(QuotaError):
            await put(store, 6, b"3", site=S)

    async def test_runs_that_wait_are_bounded_and_given_up(
        self, store: MetaStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metastore, "BOX_OPEN_RUNS", 1)
        await store.put_hello(MB, S, hello(), NOW)
        await put(store, 1, b"m1", run="aa" * 16)
        with pytest.raises(RateError):
            await put(store, 1, b"m1", run="bb" * 16)
        await put(store, 2, b"m2", run="aa" * 16, site=S)
        await put(store, 1, b"m1", run="bb" * 16)
        later = NOW + metastore.RUN_PATIENCE
        await store.put_message(MB, "ee" * 16, 1, b"m1", digest(b"m1"), None, later)

    async def test_after_the_tombstone_phones_are_sent_home(self, store: MetaStore) -> None:
        await store.put_hello(MB, S, hello(), NOW)
        await put(store, 1, b"m1")
        await store.put_hello(MB, S, hello(b"ended", ended=True, dies=NOW + 50), NOW)
        assert await store.hello(MB) == b"ended"
        with pytest.raises(GoneError):
            await put(store, 3, b"m3")
        again = await store.put_message(MB, RUN, 1, b"m1", digest(b"m1"), None, NOW)
        assert (again.i, again.new) == (0, False), "a phone that did not hear that it was taken is told so"
        await put(store, 2, b"m2", site=S)
        assert await store.message(MB, RUN, 2, 0) == b"m2"
        with pytest.raises(GoneError):
            await store.put_hello(MB, S, hello(), NOW)
        await store.put_hello(MB, S, hello(b"ended again", ended=True, dies=NOW + 90), NOW)
        await store.expire(NOW + 50, 100)
        with pytest.raises(GoneError):
            await store.hello(MB)

    @pytest.mark.parametrize("how", ["deleted", "expired"])
    async def test_a_dead_mailbox_is_gone_for_good(self, store: MetaStore, how: str) -> None:
        await store.put_hello(MB, S, hello(), NOW)
        await put(store, 1, b"m1")
        await post(store, b"letter", owner=S, sender=R)
        if how == "deleted":
            await store.delete_mailbox(MB, S)
            await store.delete_mailbox(MB, S)
        else:
            await store.expire(NOW + 99, 100)
            assert await store.hello(MB)
            await store.expire(NOW + 100, 100)
        for attempt in (
            store.hello(MB), store.put_hello(MB, S, hello(), NOW), put(store, 1, b"m1"), put(store, 2, b"m2", site=S),
            store.message(MB, RUN, 2, 0),
        ):  # fmt: skip
            with pytest.raises(GoneError):
                await attempt
        assert [x.body for x in await store.letters(S, 0, 9)] == [b"letter"]

    async def test_a_site_has_so_many_mailboxes(self, store: MetaStore) -> None:
        for i in range(2):
            await store.put_hello(f"{i:032x}", S, hello(), NOW)
        with pytest.raises(QuotaError):
            await store.put_hello(f"{2:032x}", S, hello(), NOW)
        await store.delete_mailbox(f"{0:032x}", S)
        await store.put_hello(f"{2:032x}", S, hello(), NOW)

    async def test_nothing_is_posted_where_no_mailbox_is(self, store: MetaStore) -> None:
        for attempt in (
            put(store, 1, b"x"),
            put(store, 2, b"x", site=S),
            store.delete_mailbox(MB, S),
            store.message(MB, RUN, 2, 0),
        ):
            with pytest.raises(AbsentError):
                await attempt


async def test_expiry_goes_in_steps(store: MetaStore) -> None:
    for _ in range(5):
        await store.remember(S, Nonce(os.urandom(16)), NOW)
    rounds = 1
    while await store.expire(NOW + metastore.DAY, 2):
        rounds += 1
    assert rounds <= 4
