"""What only the store on a disk has to do: be the same after a restart. Its rules: test_relay_metastore.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import Quota
from relay.errors import GoneError
from relay.metastore import Hello, Pack, Site, first_number
from relay.sqlite import SqliteMeta
from transfer.encoding import sha256
from transfer.ids import Cid, Digest, Kid, Nonce, SiteId

NOW = 1_795_000_000
S, R = SiteId(b"\1" * 32), SiteId(b"\2" * 32)
C, DEAD = Cid(bytes(16)), Cid(b"\1" * 16)
D = Digest(sha256(b"x"))


async def opened(path: Path, now: int = NOW) -> SqliteMeta:
    store = SqliteMeta(path / "relay.db", Quota(), lambda: now)
    await store.open()
    return store


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    for site in (S, R):
        await store.enroll(Site(site, "N", "card", NOW))
    seq = await store.post(R, S, D, b"letter", NOW)
    await store.put_prekey(R, Kid(bytes(8)), "prekey", NOW, NOW + 100, NOW)
    await store.add_readers(C, S, [R], NOW)
    await store.add_pack(C, S, Pack(4, "M", 7, D, 0))
    await store.own(DEAD, S, NOW)
    await store.delete_cid(DEAD, S, NOW)
    await store.put_hello("a" * 32, S, Hello(b"m0", False, NOW + 100), NOW)
    await store.put_message("a" * 32, "b" * 32, 2, b"m2", D, S, NOW)
    assert await store.remember(S, Nonce(bytes(16)), NOW)
    (before,) = await store.packs(C, R, 0, 9)
    await store.close()

    store = await opened(tmp_path, NOW + 50)
    assert not await store.remember(S, Nonce(bytes(16)), NOW + 50)
    assert [x.seq for x in await store.letters(R, 0, 9)] == [seq]
    assert await store.prekeys(R, NOW + 50) == ["prekey"]
    assert await store.packs(C, R, 0, 9) == [before]
    assert await store.hello("a" * 32) == b"m0"
    assert await store.message("a" * 32, "b" * 32, 2, 0) == b"m2"
    assert await store.doomed(9) == [DEAD]
    with pytest.raises(GoneError):
        await store.own(DEAD, S, NOW)
    await store.ack(R, [seq])
    assert await store.post(R, S, D, b"letter", NOW) == first_number(NOW + 50) + 1 > seq
    await store.close()
