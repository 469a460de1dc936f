"""Queues: letters from site to site, and what phones left in a site's mailboxes.

A letter stays until its owner says that it is on their disk (`ack`), so nothing is lost when either side or
the relay stops in between; the same letter may come twice.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from relay import params
from relay.answers import json_answer
from relay.errors import HeaderError
from relay.metastore import Letter, MetaStore
from relay.notifier import Notifier
from relay.sites import Call
from transfer.encoding import b64
from transfer.ids import SiteId
from transfer.messages import name_of

LETTER_CAP = 65_536
ACK_CAP = 8_192
PAGE = 64
"""Letters of one answer."""
LETTERS = frozenset({"offer", "release", "receipt", "close", "ack"})
"""What sites write to each other. A grant or a manifest in clear has no business here (protocol s. 2)."""
_MOST_SEQ = 2**53 - 1


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/queue/ack`."""

    seqs: list[int]


class Queues:
    """The handlers."""

    def __init__(self, meta: MetaStore, notifier: Notifier) -> None:
        self._meta, self._notifier = meta, notifier

    async def post(self, call: Call) -> web.Response:
        """`POST /v1/sites/{site}/queue`"""
        owner = params.fixed(call.request, "site", SiteId)
        params.query(call.request)
        if name_of(call.body.text()) not in LETTERS:
            raise HeaderError
        seq = await self._meta.post(owner, call.site, call.body.digest, call.body.join(), call.now)
        self._notifier.notify("queue", owner.hex())
        return json_answer({"seq": seq})

    async def read(self, call: Call) -> web.Response:
        """`GET /v1/queue?after=SEQ&wait=S`"""
        asked = params.query(call.request, after=_MOST_SEQ, wait=params.MOST_WAIT)

        async def look() -> list[Letter]:
            return await self._meta.letters(call.site, asked["after"], PAGE)

        found = await self._notifier.until(("queue", call.site.hex()), asked["wait"], look)
        return json_answer({"messages": [entry(letter) for letter in found]})

    async def ack(self, call: Call) -> web.Response:
        """`POST /v1/queue/ack`"""
        params.query(call.request)
        try:
            seqs = msgspec.json.decode(call.body.join(), type=Ack).seqs
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise HeaderError from None
        if len(seqs) > 256 or any(not 0 <= seq <= _MOST_SEQ for seq in seqs):
            raise HeaderError
        await self._meta.ack(call.site, seqs)
        return json_answer({})


def entry(letter: Letter) -> dict[str, Any]:
    """A letter as its owner gets it. A phone's body was checked to be one flat JSON object when it came."""
    head = {"seq": letter.seq, "at": letter.at}
    if letter.sender:
        return {**head, "from": b64(letter.sender), "body": letter.body.decode("ascii")}
    where = {"mb": letter.mb, "run": letter.run, "slot": letter.slot, "i": letter.i}
    return {**head, **where, "body": msgspec.Raw(letter.body)}
