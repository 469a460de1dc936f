"""Packs: ciphertext in buckets, created once, read in any part by those whom the owner's offers name.

Order of a PUT: the content id has its owner; the bytes are durable in the `BlobStore`; the row that makes them
pack n is durable in the `MetaStore`; then the answer. A crash in between leaves bytes that nobody was told
about, and they go with their content id. The listing counts arrivals, so a reader never misses a pack that
came late with a small number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakValueDictionary

from aiohttp import hdrs, web

from relay import params
from relay.answers import json_answer
from relay.blobstore import BlobName, BlobStore
from relay.errors import DifferentError, HeaderError, NotForMeError, RelayError, SizeError
from relay.limits import Budget
from relay.metastore import Kind, MetaStore, Pack
from relay.notifier import Notifier
from relay.ranges import byte_range
from relay.sites import Call
from transfer.ids import Cid
from transfer.messages import Offer, open_message

SEAL = 40
"""What sealing adds to a bucket: nonce 24, tag 16."""
SIZES = frozenset(2**k + SEAL for k in range(16, 23))
PACK_CAP = max(SIZES)
OFFER_CAP = Offer.CAP
PAGE = 1_000
"""Packs of one listing."""
SLICE = 2**20
"""Bytes of a pack in memory at once while it is read."""
STALL = 60
"""Seconds in which a reader must take one slice."""
_MOST_N = 2**32 - 1
_MOST_ARRIVAL = 2**53 - 1
_KINDS: dict[str, Kind] = {"D": "D", "M": "M"}


class Packs:
    """The handlers."""

    def __init__(
        self, meta: MetaStore, blobs: BlobStore, notifier: Notifier, downloads: Budget, doomed: asyncio.Event
    ) -> None:
        self._meta, self._blobs, self._notifier = meta, blobs, notifier
        self._downloads, self._doomed = downloads, doomed
        self._turns: WeakValueDictionary[tuple[Cid, int], asyncio.Lock] = WeakValueDictionary()

    async def put(self, call: Call) -> web.Response:
        """`PUT /v1/packs/{cid}/{n}?kind=D|M`"""
        cid = params.fixed(call.request, "cid", Cid)
        pack = Pack(_number(call.request), _kind(call.request), call.body.size, call.body.digest, 0)
        if pack.size not in SIZES:
            raise SizeError
        turn = self._turns.setdefault((cid, pack.n), asyncio.Lock())
        async with turn:  # two uploads of one pack: the second finds what the first made
            new = await self._store(call, cid, pack)
        if new:
            self._notifier.notify("packs", cid.hex())
        return json_answer({}, status=201 if new else 200)

    async def _store(self, call: Call, cid: Cid, pack: Pack) -> bool:
        owned, known = await self._meta.find_pack(cid, pack.n, call.site)
        if known is not None:
            if (known.kind, known.digest) != (pack.kind, pack.digest):
                raise DifferentError
            return False
        if not owned:
            await self._meta.own(cid, call.site, call.now)
        name = BlobName(cid, pack.n, pack.digest)
        await self._blobs.put(name, call.body.chunks)
        try:
            return await self._meta.add_pack(cid, call.site, pack)
        except RelayError:
            await self._blobs.drop(name)  # no row names it, and no other upload of this number is under way
            raise

    async def read(self, call: Call) -> web.StreamResponse:
        """`GET /v1/packs/{cid}/{n}`"""
        cid = params.fixed(call.request, "cid", Cid)
        params.query(call.request)
        pack = await self._meta.pack(cid, _number(call.request), call.site)
        etag = f'"{pack.digest.hex()}"'
        answer = web.StreamResponse(headers={hdrs.ETAG: etag, hdrs.ACCEPT_RANGES: "bytes"})
        answer.content_type = "application/octet-stream"
        start, end = 0, pack.size
        wanted = call.request.headers.get(hdrs.RANGE, "")
        if (
            wanted
            and call.request.headers.get(hdrs.IF_RANGE, etag) == etag
            and (part := byte_range(wanted, end))
        ):
            start, end = part
            answer.set_status(206)
            answer.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{pack.size}"
        answer.content_length = end - start
        await self._send(call, answer, BlobName(cid, pack.n, pack.digest), start, end)
        return answer

    async def _send(
        self, call: Call, answer: web.StreamResponse, name: BlobName, start: int, end: int
    ) -> None:
        """In slices. The first is read before the headers go out, so that what is missing is still a 4xx."""
        async with self._downloads.hold(min(SLICE, end - start), call.site):
            data = await self._blobs.read(name, start, min(SLICE, end - start))
            await answer.prepare(call.request)
            try:
                while True:
                    async with asyncio.timeout(STALL):
                        await answer.write(data)
                    start += len(data)
                    if start >= end:
                        return
                    data = await self._blobs.read(name, start, min(SLICE, end - start))
            except (TimeoutError, RelayError):
                raise ConnectionResetError from None  # half an answer: the reader sees a short body

    async def list(self, call: Call) -> web.Response:
        """`GET /v1/packs/{cid}?after=N&wait=S`"""
        cid = params.fixed(call.request, "cid", Cid)
        asked = params.query(call.request, after=_MOST_ARRIVAL, wait=params.MOST_WAIT)

        async def look() -> Sequence[Pack]:
            return await self._meta.packs(cid, call.site, asked["after"], PAGE)

        found = await self._notifier.until(("packs", cid.hex()), asked["wait"], look)
        lines = [[pack.n, pack.kind, pack.size] for pack in found]
        return json_answer({"packs": lines, "next": found[-1].arrival if found else asked["after"]})

    async def delete(self, call: Call) -> web.Response:
        """`DELETE /v1/packs/{cid}`"""
        cid = params.fixed(call.request, "cid", Cid)
        params.query(call.request)
        await self._meta.delete_cid(cid, call.site, call.now)
        self._doomed.set()
        self._notifier.notify("packs", cid.hex())
        return json_answer({})

    async def add_readers(self, call: Call) -> web.Response:
        """`POST /v1/packs/{cid}/readers`"""
        cid = params.fixed(call.request, "cid", Cid)
        params.query(call.request)
        offer = open_message(Offer, call.body.text(), call.site)
        if offer.cid != cid or offer.s != call.site:
            raise NotForMeError
        await self._meta.add_readers(cid, call.site, [offer.r, *offer.alt], call.now)
        return json_answer({})


def _number(request: web.Request) -> int:
    return params.number(request.match_info["n"], _MOST_N)


def _kind(request: web.Request) -> Kind:
    """The query is exactly `kind=D` or `kind=M`."""
    name, _, text = request.rel_url.raw_query_string.partition("=")
    if name != "kind" or text not in _KINDS:
        raise HeaderError
    return _KINDS[text]
