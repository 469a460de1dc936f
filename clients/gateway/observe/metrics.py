"""What a gateway counts about itself, in the Prometheus text format (docs/adr/0014, for the relay; the same here).

Every label is a word that this code knows beforehand: a state, a loop, a kind of answer. No patient, study,
transfer, site or member of staff is one, so their number is bounded and a monitor that keeps them for years knows
how much was sent and not whose. Counters begin at zero with the process; levels are read from the database when
somebody asks, at most once in `FRESH` seconds.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from clients.gateway.errors import GatewayError
from clients.gateway.rooms import Rooms
from clients.gateway.store.database import Con, rows, value
from transfer.states import RECEIVER, SENDER

FRESH = 5.0
"""Seconds for which levels that were read serve everybody who asks."""
PATIENCE = 10.0
"""Seconds for the database to say its levels; then the last known ones are given."""
_OUTBOX = ("queue", "ack", "mailbox", "relay")
_STATES = {
    role: sorted({after.to for after in table.values()})
    for role, table in (("send", SENDER), ("receive", RECEIVER))
}


class Levels(msgspec.Struct, frozen=True):
    """What the database says of now."""

    transfers: dict[tuple[str, str], int]
    studies: int
    instances: int
    packs_up: int
    packs_down: int
    outbox: dict[str, int]
    oldest: int
    """Seconds that the oldest entry of the outbox has waited."""
    alarms: int
    peers: int
    peers_without_key: int


def read_levels(con: Con, now: int) -> Levels:
    """One look at the database."""
    transfers = {(role, state): 0 for role, states in _STATES.items() for state in states}
    for role, table in (("send", "sends"), ("receive", "receives")):
        for row in rows(con, f"SELECT state, count(*) AS n FROM {table} GROUP BY state"):
            if (role, row["state"]) in transfers:
                transfers[role, row["state"]] = row["n"]
    outbox = dict.fromkeys(_OUTBOX, 0)
    for row in rows(con, "SELECT kind, count(*) AS n FROM outbox GROUP BY kind"):
        if row["kind"] in outbox:
            outbox[row["kind"]] = row["n"]
    oldest = value(con, "SELECT min(created_at) FROM outbox")
    return Levels(
        transfers=transfers,
        studies=value(con, "SELECT count(*) FROM studies"),
        instances=value(con, "SELECT count(*) FROM instances"),
        packs_up=value(
            con, "SELECT count(*) FROM packs p JOIN spools s ON s.cid=p.cid WHERE p.uploaded=0 AND s.dropped=0"
        ),
        packs_down=value(con, "SELECT count(*) FROM in_packs WHERE have=0"),
        outbox=outbox,
        oldest=max(0, now - oldest) if oldest is not None else 0,
        alarms=value(con, "SELECT count(*) FROM alarms"),
        peers=value(con, "SELECT count(*) FROM peers WHERE unpinned_at=0"),
        peers_without_key=value(
            con, "SELECT count(*) FROM peers WHERE unpinned_at=0 AND instr(roles, 'receive') AND prekey_exp<=?", (now,)
        ),
    )  # fmt: skip


class Metrics(Collector):
    """One gateway's registry; `read` answers `GET /metrics`."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._levels: Levels | None = None
        self._turn, self._read_at = asyncio.Lock(), float("-inf")
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    async def read(self, _: web.Request) -> web.Response:
        """`GET /metrics`"""
        async with self._turn:
            if time.monotonic() - self._read_at > FRESH:
                try:
                    async with asyncio.timeout(PATIENCE):
                        now = self._rooms.clock.now()
                        self._levels = await self._rooms.db.run(lambda con: read_levels(con, now))
                        self._read_at = time.monotonic()
                except (TimeoutError, GatewayError):
                    pass  # the database does not answer: what memory counts still helps
        text = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def collect(self) -> Iterator[Metric]:
        """All series of now; for `prometheus_client`."""
        yield from self._counters()
        yield from self._gauges()
        if self._levels is not None:
            yield from _of_the_database(self._levels)

    def _counters(self) -> Iterator[Metric]:
        rooms = self._rooms
        yield _counter(
            "gateway_instances_received", "Instances that came from scanners, PACS and imports.", "result",
            dict(rooms.studies.results),
        )  # fmt: skip
        answers = dict(rooms.destinations.answers) if rooms.destinations is not None else {}
        yield _counter(
            "gateway_pacs_answers", "C-STOREs to the PACS, by what became of them.", "kind", answers
        )
        yield _counter(
            "gateway_relay_calls",
            "Calls to the relay, by how they ended.",
            "result",
            dict(rooms.relay.answers),
        )
        moved = {"up": rooms.uploader.meter.total, "down": rooms.prefetch.meter.total}
        yield _counter("gateway_pack_bytes", "Sealed bytes to the relay and from it.", "direction", moved)
        yield _counter(
            "gateway_loop_restarts", "How often a part of the gateway had to begin again.", "loop",
            dict(rooms.restarts),
        )  # fmt: skip

    def _gauges(self) -> Iterator[Metric]:
        rooms = self._rooms
        yield GaugeMetricFamily(
            "gateway_relay_reachable", "1 if the newest call to it was answered.", int(not rooms.relay.trouble)
        )  # fmt: skip
        yield GaugeMetricFamily(
            "gateway_clock_skew_seconds", "The relay's clock minus ours.", rooms.relay.skew
        )
        yield GaugeMetricFamily(
            "gateway_disk_free_bytes", "What the gateway's disk still takes.", shutil.disk_usage(rooms.folder).free
        )  # fmt: skip
        yield GaugeMetricFamily(
            "gateway_disk_floor_bytes", "Below this instances are refused.", rooms.config.dicom.min_free_bytes
        )  # fmt: skip
        build = GaugeMetricFamily("gateway_build_info", "1; the version is the label.", labels=["version"])
        build.add_metric([_version()], 1)
        yield build


def _of_the_database(levels: Levels) -> Iterator[Metric]:
    transfers = GaugeMetricFamily("gateway_transfers", "Transfers by state.", labels=["role", "state"])
    for labels, n in levels.transfers.items():
        transfers.add_metric(list(labels), n)
    yield transfers
    waiting = GaugeMetricFamily(
        "gateway_packs_waiting", "Sealed packs that wait to move.", labels=["direction"]
    )
    waiting.add_metric(["up"], levels.packs_up)
    waiting.add_metric(["down"], levels.packs_down)
    yield waiting
    outbox = GaugeMetricFamily("gateway_outbox_entries", "What others must still learn.", labels=["kind"])
    for kind, n in levels.outbox.items():
        outbox.add_metric([kind], n)
    yield outbox
    for name, text, n in (
        ("gateway_outbox_oldest_seconds", "How long the oldest of it has waited.", levels.oldest),
        ("gateway_studies", "Studies that are here to be sent.", levels.studies),
        ("gateway_instances", "Their instances.", levels.instances),
        ("gateway_alarms", "Alarms that staff see.", levels.alarms),
        ("gateway_peers", "Paired sites.", levels.peers),
        (
            "gateway_peers_without_key",
            "Paired sites that receive, and offer no key now.",
            levels.peers_without_key,
        ),
    ):
        yield GaugeMetricFamily(name, text, n)


def _counter(name: str, text: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for word, n in counts.items():
        family.add_metric([word], n)
    return family


def _version() -> str:
    try:
        return version("trauma-transfer")
    except PackageNotFoundError:  # run from the sources
        return "unknown"
