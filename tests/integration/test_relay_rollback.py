"""A relay whose database was put back to an older state: it costs time, and no property.

The steps are those of docs/operate/relay.md: stop, put the copy in the database's place without its old WAL,
start. Sites repeat what was not confirmed end to end, so what the relay forgot must be taken again, and what it
wrongly remembers must neither be listed nor stand in the way.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.backup import backup
from tests.relay_client import TOMBSTONE, Bench, Site, hello, pack_bytes, relay_at
from transfer.ids import Cid, SiteId

MB, RUN = "ab" * 16, "cd" * 16
OLD, NEW, LOST = (Cid(bytes([i]) * 16) for i in (1, 2, 3))


class Story:
    """One data folder through several lives of its relay. `now` is every party's clock."""

    def __init__(self, folder: Path) -> None:
        self.data, self.copy = folder / "data", folder / "copy.db"
        self.now = int(time.time())
        self.seeds = [os.urandom(32), os.urandom(32)]

    @asynccontextmanager
    async def life(self, **options: Any) -> AsyncIterator[tuple[Bench, Site, Site]]:
        async with relay_at(self.data, clock=lambda: self.now, **options) as bench:
            s, r = (Site(bench.http, bench.running.origins[0], seed) for seed in self.seeds)
            s.clock = r.clock = lambda: self.now
            yield bench, s, r

    def roll_back(self, seconds: int = 600) -> None:
        """What the operator's guide says, some minutes later."""
        self.now += seconds
        for name in ("relay.db", "relay.db-wal", "relay.db-shm"):
            (self.data / name).unlink(missing_ok=True)
        shutil.copy(self.copy, self.data / "relay.db")


async def enrolled(tmp_path: Path) -> Story:
    """A relay that knows both sites, and whose copy knows them too."""
    from relay.enroll import enroll

    story = Story(tmp_path)
    async with story.life() as (bench, s, r):
        for site in (s, r):
            enroll(
                bench.data, site.card(), clock=lambda: story.now
            )  # it counts on from its clock, as a start does
    return story


def url(cid: Cid, n: int) -> str:
    return f"/v1/packs/{cid.hex()}/{n}"


async def numbers(site: Site, cid: Cid) -> list[int]:
    answer = await site.call("GET", f"/v1/packs/{cid.hex()}?after=0&wait=0")
    return [line[0] for line in answer.json["packs"]]


async def test_packs_that_it_forgot_are_put_again(tmp_path: Path) -> None:
    """Those whose content id it still knows, and those of one that it never heard of; their files are no error."""
    story = await enrolled(tmp_path)
    bodies = {(cid, n): pack_bytes() for cid in (OLD, NEW) for n in range(3)}
    async with story.life() as (_, s, r):
        assert (await s.call("PUT", url(OLD, 0) + "?kind=D", bodies[OLD, 0])).status == 201
        backup(story.data, story.copy)
        for (cid, n), body in bodies.items():
            assert (await s.call("PUT", url(cid, n) + "?kind=D", body)).status in (200, 201)
        assert (await s.call("POST", f"/v1/packs/{NEW.hex()}/readers", s.offer(NEW, r.id))).status == 200
    story.roll_back()
    async with story.life() as (_, s, r):
        assert await numbers(s, OLD) == [0]
        assert (await s.call("GET", url(OLD, 1))).error == "absent"
        assert (await r.call("GET", f"/v1/packs/{NEW.hex()}")).error == "absent"
        assert (await s.call("POST", f"/v1/packs/{NEW.hex()}/readers", s.offer(NEW, r.id))).status == 200
        for (cid, n), body in bodies.items():
            assert (await s.call("PUT", url(cid, n) + "?kind=D", body)).status == (
                200 if (cid, n) == (OLD, 0) else 201
            )
        for (cid, n), body in bodies.items():
            assert (await (r if cid == NEW else s).call("GET", url(cid, n))).body == body
        files = [p for p in (story.data / "packs").rglob("*") if p.is_file()]
        assert len(files) == len(bodies)


async def test_a_row_without_its_file_is_not_listed_and_can_be_put_again(tmp_path: Path) -> None:
    """The copy lists packs that were deleted since. A repeated PUT must store them, not find them "there"."""
    story = await enrolled(tmp_path)
    bodies = [pack_bytes(16 + n) for n in range(3)]
    async with story.life() as (bench, s, _):
        for n, body in enumerate(bodies):
            await s.call("PUT", url(LOST, n) + "?kind=D", body)
        backup(story.data, story.copy)
        assert (await s.call("DELETE", f"/v1/packs/{LOST.hex()}")).status == 200
        await bench.sweep()
    story.roll_back()
    most = sum(map(len, bodies))
    async with story.life(quota={"reserve": 0, "site_bytes": most}) as (_, s, _r):
        assert await numbers(s, LOST) == []
        assert (await s.call("GET", url(LOST, 0))).error == "absent"
        for n, body in enumerate(bodies):
            assert (await s.call("PUT", url(LOST, n) + "?kind=D", body)).status == 201
            assert (await s.call("GET", url(LOST, n))).body == body
        assert (await s.call("PUT", url(LOST, 9) + "?kind=D", pack_bytes())).error == "quota"


async def test_a_file_that_is_cut_short_is_not_listed(tmp_path: Path) -> None:
    """Packs that were themselves copied badly: the size is looked at, the content is the receiver's to check."""
    story = await enrolled(tmp_path)
    body = pack_bytes()
    async with story.life() as (_, s, _r):
        for n in (0, 1):
            await s.call("PUT", url(OLD, n) + "?kind=D", body)
    (cut,) = (story.data / "packs" / OLD.hex()).glob("1-*")
    os.truncate(cut, 100)
    async with story.life() as (_, s, _r):
        assert await numbers(s, OLD) == [0]
        assert (await s.call("PUT", url(OLD, 1) + "?kind=D", body)).status == 201
        assert (await s.call("GET", url(OLD, 1))).body == body


async def test_who_remembers_a_number_hears_of_all_that_is_new(tmp_path: Path) -> None:
    """A letter and a pack that come after the rollback have greater numbers than any from before it."""
    story = await enrolled(tmp_path)
    async with story.life() as (_, s, r):
        await s.call("PUT", url(OLD, 0) + "?kind=D", pack_bytes())
        backup(story.data, story.copy)
        for n in range(1, 20):
            seen = (await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", s.ack())).json["seq"]
            await s.call("PUT", url(OLD, n) + "?kind=D", pack_bytes())
        arrived = (await s.call("GET", f"/v1/packs/{OLD.hex()}?after=0&wait=0")).json["next"]
    story.roll_back(seconds=1)
    async with story.life() as (_, s, r):
        letter = s.ack()
        await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", letter)
        await s.call("PUT", url(OLD, 5) + "?kind=D", pack_bytes())
        new = (await r.call("GET", f"/v1/queue?after={seen}&wait=0")).json["messages"]
        assert [entry["body"] for entry in new] == [letter.decode()]
        page = (await s.call("GET", f"/v1/packs/{OLD.hex()}?after={arrived}&wait=0")).json
        assert [line[0] for line in page["packs"]] == [5]


async def test_letters_come_again_and_ends_are_said_again(tmp_path: Path) -> None:
    """Acknowledged letters may come twice; a tombstone that was forgotten is taken again, and stays."""
    story = await enrolled(tmp_path)
    async with story.life() as (_, s, r):
        letter = s.ack()
        seq = (await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", letter)).json["seq"]
        m0 = hello(s.id, story.now + 3600)
        await s.call("PUT", f"/m/{MB}/0", m0)
        backup(story.data, story.copy)
        await r.call("POST", "/v1/queue/ack", b'{"seqs":[%d]}' % seq)
        await s.call("PUT", f"/m/{MB}/0", TOMBSTONE)
    story.roll_back()
    async with story.life() as (bench, s, r):
        (entry,) = (await r.call("GET", "/v1/queue?after=0&wait=0")).json["messages"]
        assert (entry["seq"], entry["body"]) == (seq, letter.decode())
        assert (await bench.http.call("GET", f"/m/{MB}/0")).body == m0
        assert (await s.call("PUT", f"/m/{MB}/0", TOMBSTONE)).status == 200
        assert (await s.call("PUT", f"/m/{MB}/0", m0)).error == "gone"
        assert (await bench.http.call("POST", f"/m/{MB}/{RUN}/1", b'{"v":1}')).error == "gone"


async def test_rights_do_not_grow(tmp_path: Path) -> None:
    """Who was no reader before is none afterwards; who was enrolled since must be enrolled again."""
    story = await enrolled(tmp_path)
    async with story.life() as (bench, s, r):
        await s.call("PUT", url(OLD, 0) + "?kind=D", pack_bytes())
        backup(story.data, story.copy)
        await s.call("POST", f"/v1/packs/{OLD.hex()}/readers", s.offer(OLD, SiteId(r.id)))
        assert await numbers(r, OLD) == [0]
        late = bench.site()
        late.clock = s.clock
        assert (await late.call("GET", "/v1/queue")).status == 200
    story.roll_back()
    async with story.life() as (bench, s, r):
        assert (await r.call("GET", f"/v1/packs/{OLD.hex()}")).error == "not-yours"
        late.http, late.origin = bench.http, bench.running.origins[0]
        assert (await late.call("GET", "/v1/queue")).error == "unknown-site"
        await s.call("POST", f"/v1/packs/{OLD.hex()}/readers", s.offer(OLD, r.id))
        assert await numbers(r, OLD) == [0]
