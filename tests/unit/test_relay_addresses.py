"""Whose rate a request counts for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.relay_client import relay_at


@pytest.mark.parametrize(
    ("trusted", "headers", "statuses"),
    [
        (
            False,
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
            [404, 404, 429],
        ),  # a header of a stranger is no address
        (True, ["192.0.2.1", "192.0.2.2", "192.0.2.3"], [404, 404, 404]),
        (
            True,
            ["203.0.113.9, 192.0.2.1", "203.0.113.8, 192.0.2.1", "203.0.113.7,192.0.2.1"],
            [404, 404, 429],
        ),
        (True, ["nonsense", "", ", ,"], [404, 404, 429]),
    ],
)
async def test_only_what_a_trusted_proxy_wrote_counts(
    tmp_path: Path, trusted: bool, headers: list[str], statuses: list[int]
) -> None:
    rates = {"address": {"per_second": 0.001, "burst": 2}}
    async with relay_at(tmp_path, trusted_proxy=trusted, rates=rates) as bench:
        seen = [
            (await bench.http.call("GET", f"/m/{'ab' * 16}/0", headers={"X-Forwarded-For": h})).status
            for h in headers
        ]
    assert seen == statuses
