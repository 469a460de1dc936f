"""Mailboxes: where a phone and a sending site leave each other the bodies of the handshake (protocol s. 3).

The relay reads only m0, to know whose mailbox it is and how long it lives. Every other body is one flat JSON
object that it passes on as it came. A phone has no identity here: it needs the mailbox's name, which comes
from the QR, and reads its own run by a name that nobody can guess.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from relay import metastore, params
from relay.addresses import Addresses
from relay.answers import CORS, Handler, json_answer
from relay.bodies import Bodies
from relay.clock import Clock
from relay.errors import HeaderError, NotForMeError
from relay.limits import Buckets
from relay.metastore import Hello, MetaStore
from relay.notifier import Notifier
from relay.sites import Call
from transfer import mailbox
from transfer.ids import SiteId
from transfer.mailbox import BODY_CAP, PHONE_SLOTS, SITE_SLOTS, SLOT_CAPS
from transfer.messages import decode

_FURTHEST = 2 * metastore.DAY
"""Seconds ahead that an m0 may end: an offer lives at most a day."""
_FLAT = msgspec.json.Decoder(dict[str, str | int | bool | None])


class Mailboxes:
    """The handlers: `put_*` and `delete` for sites, `get_*`, `post` and `preflight` for phones."""

    def __init__(
        self, meta: MetaStore, notifier: Notifier, bodies: Bodies, clock: Clock,
        *, by_address: Buckets, by_mailbox: Buckets, addresses: Addresses,
    ) -> None:  # fmt: skip
        self._meta, self._notifier, self._bodies, self._clock = meta, notifier, bodies, clock
        self._by_address, self._by_mailbox, self._addresses = by_address, by_mailbox, addresses

    # Sites

    async def put_hello(self, call: Call) -> web.Response:
        """`PUT /m/{mb}/0`"""
        mb = params.mailbox(call.request)
        params.query(call.request)
        await self._meta.put_hello(mb, call.site, read_hello(call.body.join(), call.site, call.now), call.now)
        return json_answer({})

    async def put_message(self, call: Call) -> web.Response:
        """`PUT /m/{mb}/{run}/{slot}`"""
        mb, run, slot = _where(call.request, SITE_SLOTS)
        body = check_flat(call.body.join())
        posted = await self._meta.put_message(mb, run, slot, body, call.body.digest, call.site, call.now)
        self._notifier.notify("mailbox", mb)
        return json_answer({"i": posted.i})

    async def delete(self, call: Call) -> web.Response:
        """`DELETE /m/{mb}`"""
        mb = params.mailbox(call.request)
        params.query(call.request)
        await self._meta.delete_mailbox(mb, call.site)
        self._notifier.notify("mailbox", mb)
        return json_answer({})

    # Phones

    def _admit(self, request: web.Request, mb: str) -> None:
        self._by_address.take(self._addresses.of(request))
        self._by_mailbox.take(mb)

    async def get_hello(self, request: web.Request) -> web.Response:
        """`GET /m/{mb}/0`"""
        mb = params.mailbox(request)
        params.query(request)
        self._admit(request, mb)
        return web.Response(body=await self._meta.hello(mb), content_type="application/json")

    async def post(self, request: web.Request) -> web.Response:
        """`POST /m/{mb}/{run}/{slot}`"""
        mb, run, slot = _where(request, PHONE_SLOTS)
        self._admit(request, mb)
        async with self._bodies.read(request, BODY_CAP, "phones") as body:
            flat = check_flat(body.join())
            posted = await self._meta.put_message(mb, run, slot, flat, body.digest, None, self._clock())
        self._notifier.notify("queue", posted.owner.hex())
        return json_answer({"i": posted.i})

    async def get_message(self, request: web.Request) -> web.Response:
        """`GET /m/{mb}/{run}/{slot}?i=I&wait=S`"""
        mb, run, slot = _where(request, SITE_SLOTS, empty_query=False)
        asked = params.query(request, i=max(SLOT_CAPS.values()) - 1, wait=params.MOST_WAIT)
        self._admit(request, mb)

        async def look() -> bytes | None:
            return await self._meta.message(mb, run, slot, asked["i"])

        found = await self._notifier.until(("mailbox", mb), asked["wait"], look)
        if found is None:
            return web.Response(status=204)
        return web.Response(body=found, content_type="application/json")


def preflight(methods: str) -> Handler:
    """`OPTIONS` of a page that a hospital serves itself: a JSON body and no credentials, from anywhere."""
    headers = {
        **CORS,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": "content-type",
        "Access-Control-Max-Age": "7200",
    }

    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=204, headers=headers)

    return handle


def read_hello(body: bytes, site: SiteId, now: int) -> Hello:
    """m0 or its tombstone, and when the mailbox dies. `NotForMeError` if it names another site."""
    if "ended" in _FLAT.decode(check_flat(body)):
        decode(body, mailbox.Tombstone)
        return Hello(body, True, now + metastore.ENDED_LIFE)
    hello = decode(body, mailbox.Hello)
    if hello.s != site:
        raise NotForMeError
    if hello.exp > now + _FURTHEST:
        raise HeaderError
    return Hello(body, False, max(now, hello.exp) + metastore.UNUSED_LIFE)


def check_flat(body: bytes) -> bytes:
    """One JSON object of texts, integers, booleans and nulls, so that no phone can make a queue unreadable."""
    try:
        _FLAT.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise HeaderError from None
    return body


def _where(request: web.Request, slots: tuple[int, ...], *, empty_query: bool = True) -> tuple[str, str, int]:
    if empty_query:
        params.query(request)
    return params.mailbox(request), params.run(request), params.slot(request, slots)
