"""Pre-keys over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.relay_client import Bench, relay_at


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with relay_at(tmp_path) as made:
        yield made


async def test_published_and_read_newest_first(bench: Bench) -> None:
    r, s = bench.site(), bench.site()
    now = r.clock()
    keys = [r.prekey(bytes([i]) * 8, now + i, now + 1000) for i in range(3)]
    for i, key in enumerate(keys):
        assert (await r.call("PUT", f"/v1/prekeys/{(bytes([i]) * 8).hex()}", key)).status == 200
    found = await s.call("GET", f"/v1/sites/{r.id.hex()}/prekeys")
    assert found.json == {"prekeys": [key.decode() for key in reversed(keys)]}
    assert (await r.call("GET", f"/v1/sites/{s.id.hex()}/prekeys")).json == {"prekeys": []}


async def test_only_ones_own_in_the_agreed_form(bench: Bench) -> None:
    r, s = bench.site(), bench.site()
    now = r.clock()
    kid = bytes(8)
    path = f"/v1/prekeys/{kid.hex()}"
    for body, code in (
        (s.prekey(kid, now, now + 100), "signature"),
        (r.prekey(b"\1" * 8, now, now + 100), "not-for-me"),
        (r.prekey(kid, now - 100, now), "clock"),
        (r.ack(), "header"),
        (b"", "header"),
        (bytes(5000), "size"),
    ):
        assert (await r.call("PUT", path, body)).error == code
    assert (await r.call("PUT", "/v1/prekeys/00", r.prekey(kid, now, now + 100))).error == "header"
    unknown = await r.call("GET", f"/v1/sites/{bytes(32).hex()}/prekeys")
    assert (unknown.status, unknown.error) == (404, "absent")
