"""A real disk that is full to its last byte, under each thing that must not forget: the relay's database, the folder
where scanners' images land, the gateway's database with its audit log. What was promised before is kept, what is
asked meanwhile is refused by name, and all goes on once there is room, also after a start.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clients.gateway.dicom.scp import Received
from clients.gateway.errors import DiskFullError
from clients.gateway.store import audit
from tests.dicom_kit import instance
from tests.faults.disks import SmallDisk, small_disk
from tests.gateway_kit import NOW, House, StillClock, eventually, running
from tests.relay_client import Bench, Site, relay_at
from tests.scp_kit import running as scp_running
from tests.scp_kit import store

_MANY = 4000
"""Attempts in which any of these disks is full."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "4m") as made:
        yield made


def sound(database: Path) -> None:
    with closing(sqlite3.connect(database)) as con:
        assert con.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


async def queue_of(r: Site) -> list[str]:
    """Every letter that waits for it, in order."""
    found: list[str] = []
    after = 0
    while page := (await r.call("GET", f"/v1/queue?after={after}&wait=0")).json["messages"]:
        found += [entry["body"] for entry in page]
        after = page[-1]["seq"]
    return found


async def post(bench: Bench, s: Site, r: Site) -> tuple[list[str], str]:
    """Letters until one is refused: those that were taken, and the one that was not."""
    taken: list[str] = []
    for _ in range(_MANY):
        letter = s.ack()
        answer = await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", letter)
        if answer.status != 200:
            assert (answer.status, answer.error) == (507, "disk")
            return taken, letter.decode()
        taken.append(letter.decode())
    pytest.fail("the disk is never full")


async def test_the_relay_s_database(disk: SmallDisk) -> None:
    """A letter that was taken is there, also after a restart; one that was not is not. No request at all is taken
    meanwhile, not even one that reads: its name could not be kept, and it might be taken twice.
    """
    data = disk.folder / "relay"
    async with relay_at(data) as bench:
        s, r = bench.site(), bench.site()
        disk.fill()
        taken, refused = await post(bench, s, r)
        assert (await r.call("GET", "/v1/queue?after=0&wait=0")).error == "disk"
        disk.free()
        assert await queue_of(r) == taken
        disk.fill()
    disk.free()
    sound(data / "relay.db")
    async with relay_at(data) as bench:
        s.http = r.http = bench.http
        s.origin = r.origin = bench.running.origins[0]
        assert await queue_of(r) == taken
        again = await s.call("POST", f"/v1/sites/{r.id.hex()}/queue", refused.encode())
        assert again.status == 200
        assert await queue_of(r) == [*taken, refused]


async def test_where_images_land(disk: SmallDisk) -> None:
    """0xA700 (out of resources, PS3.4 B.2.3): also where there is no room for a name, and nothing half is left."""
    async with scp_running(disk.folder) as scp:
        assert await store(scp.port, instance(PixelData=os.urandom(200_000))) == 0
        kept = scp.files
        disk.fill()
        for _ in range(20):  # more than there are names ahead
            assert await store(scp.port, instance(PixelData=os.urandom(50_000))) == 0xA700
        assert scp.files == kept
        disk.free()
        for _ in range(20):
            assert await store(scp.port, instance(PixelData=os.urandom(50_000))) == 0
        await scp.until(21, Received)
        assert len(scp.files) == 21


async def records(house: House) -> int:
    """How many were taken until one was refused."""
    for taken in range(_MANY):
        try:
            await house.db.run(lambda con: audit.record(con, "test", "test", "", "x" * 500, NOW))
        except DiskFullError:
            return taken
    pytest.fail("the disk is never full")


async def test_the_gateway_s_database_and_its_audit_log(disk: SmallDisk) -> None:
    """Every record that was taken is in the chain, which is whole; an image that its scanner was told is stored gets
    its row once there is room.
    """
    house = await House(disk.folder / "s", StillClock()).make("Valley ED")
    try:
        landed = [house.land(house.file(InstanceNumber=n)) for n in range(1, 4)]
        disk.fill()
        taken = await records(house)
        for _ in range(5):
            with pytest.raises(DiskFullError):
                await house.db.run(lambda con: audit.record(con, "test", "test", "", "x" * 60_000, NOW))
        assert await house.db.run(audit.verify) == 0
        assert await house.value("SELECT count(*) FROM audit WHERE action='test'") == taken
        async with running(house.studies.run()):
            await asyncio.wait_for(house.studies.settled(), 60)
            assert await house.value("SELECT count(*) FROM instances") == 0
            disk.free()

            async def rows() -> bool:
                return bool(await house.value("SELECT count(*) FROM instances") == len(landed))

            await eventually(rows)
        await house.restart()
        await house.db.run(lambda con: audit.record(con, "test", "test", "", "after", NOW))
        assert await house.db.run(audit.verify) == 0
        assert await house.value("SELECT count(*) FROM audit WHERE action='test'") == taken + 1
    finally:
        await house.close()
    sound(disk.folder / "s" / "gateway.db")
