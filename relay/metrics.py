"""What the relay counts about itself, in the Prometheus text format, on an address of its own.

Whoever watches the relay learns how it is, not whom it serves: every label is one of a few words that this
code knows beforehand (method, route template, status, error code, direction), so nothing of a path, an id, an
address or a site can become a time series, and their number is bounded. Events are counted where they end;
levels (connections, rows, bytes of the disk) are read when somebody asks, at most once in `FRESH` seconds,
since each reading costs the database some work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from relay.answers import CODE
from relay.blobstore import BlobStore
from relay.errors import RelayError
from relay.log import method_of, route_of
from relay.metastore import MetaStore

FRESH = 5
"""Seconds for which levels that were read serve everybody who asks."""
PATIENCE = 10
"""Seconds for the stores to say their levels; then the last known ones are given."""
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)


class Metrics:
    """One relay's registry. `note` counts a request, `read` answers `GET /metrics`."""

    def __init__(self, meta: MetaStore, blobs: BlobStore, waiting: Callable[[], int], reserve: int) -> None:
        self._meta, self._blobs, self._reserve = meta, blobs, reserve
        self._registry = CollectorRegistry()
        self._turn, self._read_at = asyncio.Lock(), -1e9
        self.connections: Callable[[], int] = lambda: 0
        """Set once the server is there."""
        ProcessCollector(registry=self._registry)
        self._add_events()
        self._add_levels()
        self._gauge("relay_connections", "Open connections.").set_function(lambda: self.connections())
        self._gauge("relay_long_polls", "Calls that wait for something to arrive.").set_function(waiting)

    def _add_events(self) -> None:
        labels = ("method", "route", "status")
        self._requests = Counter("relay_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "relay_request_seconds", "Time from a request's head to the end of its answer; long polls wait in it.",
            ("method", "route"), buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._bytes = Counter(
            "relay_body_bytes", "Bytes of bodies, in and out.", ("direction",), registry=self._registry
        )
        self._refusals = Counter(
            "relay_refusals", "Answers that are errors, by their code.", ("code",), registry=self._registry
        )
        for direction in ("in", "out"):
            self._bytes.labels(direction)
        for code in RelayError.codes():
            self._refusals.labels(code)

    def _add_levels(self) -> None:
        self._levels = {
            "cids": self._gauge("relay_content_ids", "Content ids that are alive."),
            "packs": self._gauge("relay_packs", "Packs that are listed."),
            "bytes": self._gauge("relay_pack_bytes", "Ciphertext of all packs that are listed."),
            "letters": self._gauge("relay_queue_entries", "Letters that wait for their owners."),
            "mailboxes": self._gauge("relay_mailboxes", "Mailboxes that are alive."),
        }
        self._free = self._gauge("relay_disk_free_bytes", "What the relay may still write to its disk.")
        self._room = self._gauge("relay_disk_room_bytes", "The same, less the reserve: what packs may take.")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def note(self, request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
        """Counts one request that has ended."""
        method, route = method_of(request), route_of(request)
        self._requests.labels(method, route, str(response.status)).inc()
        self._seconds.labels(method, route).observe(seconds)
        self._bytes.labels("in").inc(request.content.total_bytes)
        self._bytes.labels("out").inc(response.body_length)
        code = response.get(CODE, "")
        if code:
            self._refusals.labels(code).inc()

    async def read(self, _: web.Request) -> web.Response:
        """`GET /metrics`"""
        async with self._turn:
            if time.monotonic() - self._read_at > FRESH:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._read_levels()
                except (TimeoutError, RelayError):
                    pass  # the database or the disk does not answer: what is counted in memory still helps
        text = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _read_levels(self) -> None:
        room = await self._blobs.room()
        self._room.set(room)
        self._free.set(room + self._reserve)
        counts = await self._meta.counts()
        for name, gauge in self._levels.items():
            gauge.set(getattr(counts, name))
        self._read_at = time.monotonic()


def make_app(metrics: Metrics) -> web.Application:
    """What the second address serves: this one path, and nothing of the relay's own."""
    app = web.Application()
    app.router.add_get("/metrics", metrics.read)
    return app
