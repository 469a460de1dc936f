"""kill -9 of the relay in the middle of everything: what was answered is there and whole, nothing half is listed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp

from relay.enroll import enroll
from tests.relay_client import Http, Site, hello, pack_bytes
from tests.relay_process import RelayProcess
from transfer.ids import Cid
from transfer.requests import HEADER

CIDS = [Cid(bytes([i]) * 16) for i in range(3)]
MB = "ab" * 16


class Uploads:
    """Several streams that put packs until the relay dies. `answered` is what it said is kept."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sent: dict[tuple[Cid, int], bytes] = {}
        self.answered: dict[tuple[Cid, int], bytes] = {}
        self.enough = asyncio.Event()

    async def stream(self, cid: Cid, first: int, step: int) -> None:
        n = first
        while True:
            body = pack_bytes(16 + n % 3)
            self.sent[cid, n] = body
            try:
                answer = await self.site.call("PUT", f"/v1/packs/{cid.hex()}/{n}?kind=D", body)
            except (aiohttp.ClientError, OSError):
                return
            assert answer.status == 201
            self.answered[cid, n] = body
            if len(self.answered) >= 40:
                self.enough.set()
            n += step


async def listed(site: Site, cid: Cid) -> dict[int, int]:
    """Number and size of every pack, page by page."""
    found: dict[int, int] = {}
    after = 0
    while True:
        page = (await site.call("GET", f"/v1/packs/{cid.hex()}?after={after}&wait=0")).json
        if not page["packs"]:
            return found
        found.update({n: size for n, _, size in page["packs"]})
        after = page["next"]


async def check_all(site: Site, uploads: Uploads) -> None:
    """Every answered pack is listed and whole; every listed one is what was sent, whole."""
    seen: set[tuple[Cid, int]] = set()
    for cid in CIDS:
        for n, size in (await listed(site, cid)).items():
            got = await site.call("GET", f"/v1/packs/{cid.hex()}/{n}")
            assert got.status == 200
            assert got.body == uploads.sent[cid, n]
            assert len(got.body) == size
            seen.add((cid, n))
    assert set(uploads.answered) <= seen


async def test_packs_survive_kill_9(tmp_path: Path) -> None:
    data = tmp_path / "data"
    seed = os.urandom(32)
    relay = await RelayProcess.start(data)
    try:
        async with aiohttp.ClientSession() as session:
            site = Site(Http(session, relay.url), relay.url, seed)
            enroll(data, site.card())
            uploads = Uploads(site)
            streams = [asyncio.create_task(uploads.stream(cid, first, 2)) for cid in CIDS for first in (0, 1)]
            await uploads.enough.wait()
            await relay.kill()
            await asyncio.gather(*streams)
        (data / "packs" / "new" / "half").write_bytes(b"what a crash may leave")
        relay = await RelayProcess.start(data)
        async with aiohttp.ClientSession() as session:
            site = Site(Http(session, relay.url), relay.url, seed)
            await check_all(site, uploads)
            assert not (data / "packs" / "new" / "half").exists()
            for (cid, n), body in uploads.sent.items():  # the sender repeats what it had no answer for
                again = await site.call("PUT", f"/v1/packs/{cid.hex()}/{n}?kind=D", body)
                assert again.status in (200, 201)
            uploads.answered = dict(uploads.sent)
            await check_all(site, uploads)
            kept = sum(len(body) for body in uploads.sent.values())
            assert sum(p.stat().st_size for p in (data / "packs").rglob("*") if p.is_file()) == kept
        assert await relay.stop() == 0
    finally:
        await relay.stop()


async def test_letters_mailboxes_and_requests_survive_kill_9(tmp_path: Path) -> None:
    data = tmp_path / "data"
    seeds = [os.urandom(32) for _ in range(2)]
    relay = await RelayProcess.start(data)
    try:
        async with aiohttp.ClientSession() as session:
            http = Http(session, relay.url)
            s, r = (Site(http, relay.url, seed) for seed in seeds)
            for site in (s, r):
                enroll(data, site.card())
            used = s.sign("GET", "/v1/queue")
            assert (await http.call("GET", "/v1/queue", headers={HEADER: used})).status == 200
            letter = s.ack()
            seq = (await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", letter)).json["seq"]
            m0 = hello(s.id, s.clock() + 3600)
            await s.call("PUT", f"/m/{MB}/0", m0)
            await http.call("POST", f"/m/{MB}/{MB}/1", b'{"v":1}')
            await s.call("PUT", f"/m/{MB}/{MB}/2", b'{"v":2}')
            await s.call("PUT", f"/v1/packs/{MB}/0?kind=D", pack_bytes())
            assert (await s.call("DELETE", f"/v1/packs/{MB}")).status == 200
            await relay.kill()
        port = relay.url.rsplit(":", 1)[1]
        relay = await RelayProcess.start(data, listen=f"127.0.0.1:{port}")
        async with aiohttp.ClientSession() as session:
            http = Http(session, relay.url)
            s, r = (Site(http, relay.url, seed) for seed in seeds)
            replayed = await http.call("GET", "/v1/queue", headers={HEADER: used})
            assert (replayed.status, replayed.error) == (409, "replayed")
            (entry,) = (await r.call("GET", "/v1/queue?after=0&wait=0")).json["messages"]
            assert (entry["seq"], entry["body"]) == (seq, letter.decode())
            assert (await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", letter)).json["seq"] == seq
            assert (await http.call("GET", f"/m/{MB}/0")).body == m0
            assert (await http.call("GET", f"/m/{MB}/{MB}/2")).body == b'{"v":2}'
            (phone,) = (await s.call("GET", "/v1/queue?after=0&wait=0")).json["messages"]
            assert (phone["slot"], phone["body"]) == (1, {"v": 1})
            assert (await s.call("PUT", f"/v1/packs/{MB}/0?kind=D", pack_bytes())).error == "gone"
    finally:
        await relay.stop()
