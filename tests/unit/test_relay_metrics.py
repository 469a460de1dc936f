"""The metrics count what happens and hold nothing about anybody."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import metrics as module
from relay.config import load
from relay.errors import ConfigError
from tests.relay_client import Bench, hello, pack_bytes, relay_at

MB, RUN, CID = "ab" * 16, "cd" * 16, "ef" * 16
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(bench: Bench) -> tuple[str, Samples]:
    """The text, and every sample in it."""
    async with bench.http.session.get(bench.running.metrics) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        text = await answer.text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return text, found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH", -1)


async def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with relay_at(tmp_path) as bench:
        assert bench.running.metrics == ""
        assert (await bench.http.call("GET", "/metrics")).error == "absent"


async def test_what_it_counts(tmp_path: Path) -> None:
    async with relay_at(tmp_path, metrics="127.0.0.1:0") as bench:
        s = bench.site()
        body = pack_bytes()
        assert (await s.call("PUT", f"/v1/packs/{CID}/0?kind=D", body)).status == 201
        assert (await s.call("PUT", f"/v1/packs/{CID}/0?kind=D", pack_bytes())).error == "different"
        assert (await s.call("GET", f"/v1/packs/{CID}/0")).body == body
        await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
        await s.call("POST", f"/v1/sites/{s.id.hex()}/queue", s.ack())
        waits = asyncio.create_task(s.call("GET", f"/v1/packs/{RUN}?after=0&wait=0"))
        assert (await waits).error == "absent"
        _, got = await scrape(bench)
        route = "/v1/packs/{cid}/{n}"
        assert value(got, "relay_requests_total", method="PUT", route=route, status="201") == 1
        assert value(got, "relay_requests_total", method="PUT", route=route, status="409") == 1
        assert value(got, "relay_request_seconds_count", method="PUT", route=route) == 2
        assert value(got, "relay_refusals_total", code="different") == 1
        assert value(got, "relay_refusals_total", code="absent") == 1
        assert value(got, "relay_refusals_total", code="replayed") == 0
        assert value(got, "relay_body_bytes_total", direction="in") > 2 * len(body)
        assert value(got, "relay_body_bytes_total", direction="out") > len(body)
        assert value(got, "relay_packs") == 1
        assert value(got, "relay_pack_bytes") == len(body)
        assert value(got, "relay_content_ids") == 1
        assert value(got, "relay_queue_entries") == 1
        assert value(got, "relay_mailboxes") == 1
        assert value(got, "relay_connections") >= 1
        assert value(got, "relay_long_polls") == 0
        assert value(got, "relay_disk_free_bytes") == value(got, "relay_disk_room_bytes") > 0
        await s.call("DELETE", f"/v1/packs/{CID}")
        assert value((await scrape(bench))[1], "relay_packs") == 0


async def test_who_waits_is_counted(tmp_path: Path) -> None:
    async with relay_at(tmp_path, metrics="127.0.0.1:0") as bench:
        s = bench.site()
        waits = asyncio.create_task(s.call("GET", "/v1/queue?after=0&wait=25"))
        while not value((await scrape(bench))[1], "relay_long_polls"):
            assert not waits.done()
        await s.call("POST", f"/v1/sites/{s.id.hex()}/queue", s.ack())
        assert len((await waits).json["messages"]) == 1
        assert value((await scrape(bench))[1], "relay_long_polls") == 0


async def test_no_label_says_who_or_what(tmp_path: Path) -> None:
    """Also not what a stranger wrote as method, path, header or query."""
    async with relay_at(tmp_path, metrics="127.0.0.1:0") as bench:
        s = bench.site()
        await s.call("PUT", f"/m/{MB}/0", hello(s.id, s.clock() + 100))
        await bench.http.call("POST", f"/m/{MB}/{RUN}/1", b'{"v":1,"secret":"needle"}')
        await s.call("PUT", f"/v1/packs/{CID}/77777?kind=D", pack_bytes())
        await s.call("POST", f"/v1/sites/{s.id.hex()}/queue", s.ack())
        await bench.http.call("GET", "/needle/path?needle=query")
        await bench.http.call("GET", "/a/needle.js")
        await bench.http.call("NEEDLE", "/healthz")
        await bench.http.call("PROPFIND", "/needle", headers={"X-Needle": "needle"})
        await bench.raw(b"NEEDLE needle\x00\r\n\r\n")
        text, samples = await scrape(bench)
    assert not re.search(r"\b77777\b", text), "among other digits it is a time"
    needles = (MB, RUN, CID, s.id.hex(), s.id.text, "needle", "127.0.0.1", "localhost", "Town")
    for needle in needles:
        assert needle.lower() not in text.lower()
    labels = {name for _, pairs in samples for name, _ in pairs}
    assert labels == {"method", "route", "status", "direction", "code", "le"}
    assert value(samples, "relay_requests_total", method="other", route="none", status="404") == 1


async def test_the_second_address_serves_nothing_else(tmp_path: Path) -> None:
    async with relay_at(tmp_path, metrics="127.0.0.1:0") as bench:
        base = bench.running.metrics.removesuffix("/metrics")
        for path in ("/", "/healthz", "/v1/queue", "/s"):
            async with bench.http.session.get(base + path) as answer:
                assert answer.status == 404
        async with bench.http.session.post(base + "/metrics", data=b"x") as answer:
            assert answer.status == 405
        address = bench.running.metrics
        await bench.running.stop()
        with pytest.raises(aiohttp.ClientError):
            await bench.http.session.get(address)


async def test_levels_are_read_once_for_many_who_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH", 3600)
    async with relay_at(tmp_path, metrics="127.0.0.1:0") as bench:
        s = bench.site()
        await scrape(bench)
        await s.call("POST", f"/v1/sites/{s.id.hex()}/queue", s.ack())
        assert value((await scrape(bench))[1], "relay_queue_entries") == 0


async def test_an_address_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="metrics"):
        load(metrics="9440")
    async with relay_at(tmp_path / "a", metrics="127.0.0.1:0") as bench:
        taken = bench.running.metrics.split("/")[2]
        with pytest.raises(ConfigError, match="metrics"):
            async with relay_at(tmp_path / "b", metrics=taken):
                pass
    async with relay_at(tmp_path / "b"):
        pass
