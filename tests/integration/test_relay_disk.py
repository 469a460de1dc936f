"""A disk that is full: 507, nothing half, and everything goes on once there is room. On a real small file system
where this user may mount one, and everywhere by the reserve that packs leave free."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.relay_client import Bench, relay_at

SIZE = 2**16 + 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MiB of tmpfs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def fill(bench: Bench) -> tuple[int, dict[int, bytes]]:
    """Puts packs until one is refused; that one's number, and those that were kept."""
    s = bench.site()
    kept: dict[int, bytes] = {}
    for n in range(200):
        body = os.urandom(SIZE)
        answer = await s.call("PUT", f"/v1/packs/{'ab' * 16}/{n}?kind=D", body)
        if answer.status != 201:
            assert (answer.status, answer.error) == (507, "disk")
            break
        kept[n] = body
    for m, body in kept.items():
        assert (await s.call("GET", f"/v1/packs/{'ab' * 16}/{m}")).body == body
    listed = (await s.call("GET", f"/v1/packs/{'ab' * 16}?after=0&wait=0")).json["packs"]
    assert [line[0] for line in listed] == list(kept)
    files = [p for p in (bench.data / "packs").rglob("*") if p.is_file()]
    assert sorted(p.read_bytes() for p in files) == sorted(kept.values())
    assert (await s.call("DELETE", f"/v1/packs/{'ab' * 16}")).status == 200
    await bench.sweep()
    assert (await s.call("PUT", f"/v1/packs/{'cd' * 16}/0?kind=D", os.urandom(SIZE))).status == 201
    return n, kept


async def test_packs_leave_room_for_the_database(small_disk: Path) -> None:
    async with relay_at(small_disk / "data", quota={"reserve": 2**20}) as bench:
        _, kept = await fill(bench)
        assert 10 < len(kept) < 50


async def test_a_disk_that_others_filled_to_the_last_byte(small_disk: Path) -> None:
    """No reserve, and the file system itself says no: to packs, to letters, to requests."""
    async with relay_at(small_disk / "data", quota={"reserve": 0}) as bench:
        s = bench.site()
        cid = "ab" * 16
        body = os.urandom(SIZE)
        assert (await s.call("PUT", f"/v1/packs/{cid}/0?kind=D", body)).status == 201
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        seen = set()
        for n in range(1, 40):
            answer = await s.call("PUT", f"/v1/packs/{cid}/{n}?kind=D", os.urandom(SIZE))
            seen.add((answer.status, answer.error))
        assert seen == {(507, "disk")}
        ballast.unlink()
        assert (await s.call("GET", f"/v1/packs/{cid}/0")).body == body
        assert (await s.call("GET", f"/v1/packs/{cid}?after=0&wait=0")).json["packs"] == [[0, "D", SIZE]]
        assert [p.read_bytes() for p in (bench.data / "packs").rglob("*") if p.is_file()] == [body]
        assert (await s.call("PUT", f"/v1/packs/{cid}/1?kind=D", body)).status == 201


async def test_a_reserve_larger_than_the_disk(tmp_path: Path) -> None:
    async with relay_at(tmp_path, quota={"reserve": 2**50}) as bench:
        s = bench.site()
        answer = await s.call("PUT", f"/v1/packs/{'ab' * 16}/0?kind=D", os.urandom(SIZE))
        assert (answer.status, answer.error) == (507, "disk")
        assert [p for p in (tmp_path / "packs").rglob("*") if p.is_file()] == []
