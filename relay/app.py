"""Puts the relay together: which handler answers which call (docs/spec/relay-http.md)."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from relay.addresses import Addresses
from relay.answers import Handler, errors_middleware, headers_signal
from relay.blobstore import BlobStore
from relay.bodies import Bodies
from relay.clock import Clock
from relay.config import Config
from relay.health import Health
from relay.limits import Buckets, Budget
from relay.mailboxes import Mailboxes, preflight
from relay.metastore import MetaStore
from relay.metrics import Metrics
from relay.notifier import Notifier
from relay.packs import OFFER_CAP, PACK_CAP, Packs
from relay.pages import DOORS, Pages, phone_folder, read_parts
from relay.prekeys import PREKEY_CAP, Prekeys
from relay.queues import ACK_CAP, LETTER_CAP, Queues
from relay.sites import CallHandler, Carrier, Guard
from transfer.mailbox import BODY_CAP


class Relay:
    """One relay's parts; `app` is what an HTTP server runs."""

    def __init__(
        self, config: Config, origins: list[str], meta: MetaStore, blobs: BlobStore, notifier: Notifier, clock: Clock,
        log: Any,
    ) -> None:  # fmt: skip
        bounds, rates = config.bounds, config.rates
        addresses = Addresses(trusted_proxy=config.trusted_proxy)
        by_address = Buckets(rates.address)
        bodies = Bodies(Budget(bounds.upload_bytes, bounds.site_share))
        self.doomed = asyncio.Event()
        self.carrier = Carrier()
        self._guard = Guard(
            meta, bodies, clock, origins,
            sites=Buckets(rates.site), strangers=Buckets(rates.stranger), addresses=addresses,
        )  # fmt: skip
        self._queues = Queues(meta, notifier)
        self._prekeys = Prekeys(meta)
        self._packs = Packs(
            meta, blobs, notifier, Budget(bounds.download_bytes, bounds.site_share), self.doomed
        )
        self._mailboxes = Mailboxes(
            meta, notifier, bodies, clock,
            by_address=by_address, by_mailbox=Buckets(rates.mailbox), addresses=addresses,
        )  # fmt: skip
        self._pages = Pages(read_parts(config.phone or phone_folder()), by_address, addresses)
        self._health = Health(meta, blobs, clock, by_address, addresses)
        self.metrics = Metrics(meta, blobs, lambda: notifier.waiting, config.quota.reserve)
        self.app = web.Application(middlewares=[errors_middleware(clock, log)])
        secure = all(origin.startswith("https:") and "//localhost:" not in f"{origin}:" for origin in origins)
        self.app.on_response_prepare.append(headers_signal(clock, secure=secure))
        self._add_sites()
        self._add_mailboxes()
        self._add_pages()

    def _signed(self, method: str, path: str, handler: CallHandler, cap: int = 0) -> None:
        """A route for sites. What changes something is carried through; what only waits ends with its client."""
        guarded = self._guard.signed(handler, cap)
        self._route(method, path, guarded if method == "GET" else self.carrier.through(guarded))

    def _route(self, method: str, path: str, handler: Handler) -> None:
        self.app.router.add_route(method, path, handler, expect_handler=_expect)

    def _add_sites(self) -> None:
        queues, prekeys, packs = self._queues, self._prekeys, self._packs
        self._signed("POST", "/v1/sites/{site}/queue", queues.post, LETTER_CAP)
        self._signed("GET", "/v1/sites/{site}/prekeys", prekeys.read)
        self._signed("GET", "/v1/queue", queues.read)
        self._signed("POST", "/v1/queue/ack", queues.ack, ACK_CAP)
        self._signed("PUT", "/v1/prekeys/{kid}", prekeys.put, PREKEY_CAP)
        self._signed("PUT", "/v1/packs/{cid}/{n}", packs.put, PACK_CAP)
        self._signed("GET", "/v1/packs/{cid}/{n}", packs.read)
        self._signed("POST", "/v1/packs/{cid}/readers", packs.add_readers, OFFER_CAP)
        self._signed("GET", "/v1/packs/{cid}", packs.list)
        self._signed("DELETE", "/v1/packs/{cid}", packs.delete)

    def _add_mailboxes(self) -> None:
        boxes = self._mailboxes
        self._signed("PUT", "/m/{mb}/0", boxes.put_hello, BODY_CAP)
        self._signed("PUT", "/m/{mb}/{run}/{slot}", boxes.put_message, BODY_CAP)
        self._signed("DELETE", "/m/{mb}", boxes.delete)
        self._route("GET", "/m/{mb}/0", boxes.get_hello)
        self._route("GET", "/m/{mb}/{run}/{slot}", boxes.get_message)
        self._route("POST", "/m/{mb}/{run}/{slot}", self.carrier.through(boxes.post))
        self._route("OPTIONS", "/m/{mb}/0", preflight("GET"))
        self._route("OPTIONS", "/m/{mb}/{run}/{slot}", preflight("GET, POST"))

    def _add_pages(self) -> None:
        for door in DOORS:
            for method in ("GET", "HEAD"):
                self._route(method, door, self._pages.page)
        for method in ("GET", "HEAD"):
            self._route(method, "/a/{file:.+}", self._pages.part)
            self._route(method, "/healthz", self._health.alive)
            self._route(method, "/readyz", self._health.ready)


async def _expect(request: web.Request) -> None:
    """Answers `100-continue` (RFC 9110 10.1.1) and ignores any other expectation."""
    if request.version == HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
