"""`clients.gateway.observe`: health and metrics say how a gateway is, and not whom it serves."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clients.gateway import folder as folders
from clients.gateway.config import MetricsSection, parse_config
from clients.gateway.errors import ConfigError
from clients.gateway.observe import metrics
from clients.gateway.observe.health import FRESH, Health
from clients.gateway.observe.metrics import read_levels
from clients.gateway.observe.server import serve
from clients.gateway.rooms import Rooms
from tests.faults.disks import full_database, small_disk
from tests.gateway_kit import NOWHERE, PATIENCE, StillClock, a_relay, eventually
from tests.rooms_kit import Desk, a_desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as desk:
        yield desk


async def wrong(desk: Desk, *codes: str) -> bool:
    """Once readiness says exactly this."""

    async def look() -> bool:
        return await Health(desk.rooms).wrong() == list(codes)

    return bool(await eventually(look))


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def with_metrics(rooms: Rooms, listen: str) -> None:
    rooms.config = msgspec.structs.replace(rooms.config, metrics=MetricsSection(listen=listen))


# The address


async def test_it_is_off_unless_it_is_asked_for(desk: Desk) -> None:
    assert desk.rooms.config.metrics.listen == ""
    server = await serve(desk.rooms)
    assert server.url == ""
    await server.stop()


async def test_three_paths_and_no_more(desk: Desk) -> None:
    with_metrics(desk.rooms, "127.0.0.1:0")
    server = await serve(desk.rooms)
    await wrong(desk)
    assert await get(server.url + "/healthz") == (200, '{"ok": true}')
    assert await get(server.url + "/readyz") == (200, '{"ok": true, "wrong": []}')
    assert (await get(server.url + "/metrics"))[0] == 200
    for path in ("/", "/login", "/studies", "/../etc/passwd"):
        assert (await get(server.url + path))[0] == 404
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(server.url + "/healthz")


async def test_an_address_that_is_taken_is_said(desk: Desk) -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    with_metrics(desk.rooms, f"127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(ConfigError, match=r"metrics\.listen"):
        await serve(desk.rooms)
    taken.close()


@pytest.mark.parametrize("listen", ["9480", "127.0.0.1", "127.0.0.1:99999", "a b:1"])
def test_an_address_that_is_none_stops_the_start(listen: str) -> None:
    text = f'[site]\nname = "A"\n[relay]\nurl = "https://relay.example"\n[metrics]\nlisten = "{listen}"\n'
    with pytest.raises(ConfigError):
        parse_config(text)


# Readiness


async def test_ready_where_nothing_is_wrong(desk: Desk) -> None:
    await wrong(desk)


async def test_a_database_that_takes_no_write(desk: Desk) -> None:
    await wrong(desk)
    await desk.rooms.db.run(lambda con: con.execute("PRAGMA query_only=ON"))
    await wrong(desk, "database")
    con = desk.rooms.db._con
    assert con is not None
    await asyncio.get_running_loop().run_in_executor(
        desk.rooms.db._thread, lambda: con.execute("PRAGMA query_only=OFF").fetchall()
    )
    await wrong(desk)


async def test_a_database_that_cannot_grow_still_answers_its_probe_or_says_so(desk: Desk) -> None:
    """The probe rewrites one row: what it says is true either way, and it never hangs."""
    await wrong(desk)
    async with full_database(desk.rooms.db):
        assert set(await Health(desk.rooms).wrong()) <= {"database"}
    await wrong(desk)


async def test_a_disk_below_the_floor(desk: Desk, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "1m") as disk:
        folder, desk.rooms.folder = desk.rooms.folder, disk.folder
        await wrong(desk, "disk")
        desk.rooms.folder = folder
    await wrong(desk)


async def test_a_relay_that_does_not_answer(desk: Desk) -> None:
    await wrong(desk)
    origin, desk.rooms.relay.origin = desk.rooms.relay.origin, NOWHERE
    await eventually(lambda: _fails(desk))
    await wrong(desk, "relay")
    desk.rooms.relay.origin = origin
    await wrong(desk)


async def _fails(desk: Desk) -> bool:
    try:
        await desk.rooms.relay.health()
    except Exception:
        return True
    return False


async def test_a_relay_that_does_not_know_this_site(tmp_path: Path) -> None:
    clock = StillClock(int(time.time()))
    async with a_relay(tmp_path / "relay", clock) as relay:
        await folders.init(tmp_path / "g", name="X", relay=relay.url, dicom="127.0.0.1:0", http="127.0.0.1:0")
        rooms = Rooms(tmp_path / "g", clock=clock, dicom=False)
        await rooms.open()
        try:
            health = Health(rooms)

            async def unknown() -> bool:
                return await health.wrong() == ["relay-unknown"]

            await eventually(unknown)
        finally:
            await rooms.close()


async def test_a_listener_that_is_gone_and_a_sender_that_starts_again(tmp_path: Path) -> None:
    """Real children: the SCP is missed while it is away; the SCU's end costs nothing before it is needed."""
    async with a_relay(tmp_path / "relay", StillClock(int(time.time()))) as relay:
        await folders.init(
            tmp_path / "g", name="X", relay=relay.url, dicom="127.0.0.1:0", http="127.0.0.1:0",
            pacs="PACS@127.0.0.1:9",
        )  # fmt: skip
        rooms = Rooms(tmp_path / "g")
        await rooms.open()
        try:
            health = Health(rooms)
            assert rooms.scp is not None
            assert rooms.scu is not None
            assert not {"dicom", "dicom-sender"} & set(await health.wrong())
            rooms.scp._door.kill()

            async def gone() -> bool:
                return "dicom" in await health._dicom()

            async def back() -> bool:
                return await health._dicom() == []

            await eventually(gone)
            await eventually(back)
            assert rooms.scu._door is not None
            rooms.scu._door.kill()
            await eventually(back)
        finally:
            await rooms.close()


async def test_who_asks_often_costs_one_look(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    health = Health(desk.rooms)
    wrong_now = health.wrong

    async def counted() -> list[str]:
        nonlocal looks
        looks += 1
        return await wrong_now()

    monkeypatch.setattr(health, "wrong", counted)
    monkeypatch.setattr("clients.gateway.observe.health.FRESH", 3600.0)
    assert FRESH < 60
    request = aiohttp.web.Request.__new__(aiohttp.web.Request)
    for answer in await asyncio.gather(*(health.ready(request) for _ in range(20))):
        assert answer.status in (200, 503)
    assert looks == 1


# Metrics


async def series(desk: Desk) -> dict[str, float]:
    """All series of now."""
    answer = await metrics.Metrics(desk.rooms).read(aiohttp.web.Request.__new__(aiohttp.web.Request))
    assert isinstance(answer.body, bytes)
    found = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_what_it_counts(desk: Desk) -> None:
    before = await series(desk)
    assert before["gateway_studies"] == before["gateway_instances"] == 0
    tid = await desk.offered()

    async def uploaded() -> bool:
        view = await desk.engine.transfer(tid)
        return 0 < view.bytes == view.moved

    await eventually(uploaded)
    now = await series(desk)
    assert now["gateway_transfers{role=send,state=OFFERED}"] == 1
    assert now["gateway_transfers{role=send,state=COMPLETE}"] == 0
    assert now["gateway_transfers{role=receive,state=OPENED}"] == 0
    assert (now["gateway_studies"], now["gateway_instances"]) == (1, 2)
    assert now["gateway_instances_received_total{result=taken}"] == 2
    assert now["gateway_instances_received_total{result=refused}"] == 0
    assert now["gateway_pack_bytes_total{direction=up}"] == (await desk.engine.transfer(tid)).moved
    assert now["gateway_relay_calls_total{result=ok}"] > before["gateway_relay_calls_total{result=ok}"]
    assert now["gateway_outbox_entries{kind=queue}"] == 1
    assert (now["gateway_peers"], now["gateway_relay_reachable"]) == (1, 1)
    assert now["gateway_disk_free_bytes"] > now["gateway_disk_floor_bytes"] > 0
    assert [name for name in now if name.startswith("gateway_build_info{version=")]
    assert now["gateway_loop_restarts_total{loop=queue}"] == 0
    assert now["process_open_fds"] > 0
    desk.clock.at += 600
    levels = await desk.rooms.db.run(lambda con: read_levels(con, desk.clock.at))
    assert levels.oldest == 600


async def test_all_series_are_there_from_the_start(desk: Desk) -> None:
    """So that the first error of its kind is a change that a monitor sees."""
    before = set(await series(desk))
    await desk.offered()
    assert set(await series(desk)) == before


async def test_a_database_that_does_not_answer_hides_only_its_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "PATIENCE", 0.0)
    found = await series(desk)
    assert "gateway_relay_calls_total{result=ok}" in found
    assert "gateway_studies" not in found


async def test_paired_sites_without_a_key(desk: Desk) -> None:
    assert (await series(desk))["gateway_peers_without_key"] == 1
    await desk.house.pins.renew()
    desk.rooms.pins.paired.set()

    async def known() -> bool:
        return (await series(desk))["gateway_peers_without_key"] == 0

    async with asyncio.timeout(PATIENCE):
        await eventually(known)
