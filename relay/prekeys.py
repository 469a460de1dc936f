"""Pre-keys that sites publish for each other: signed by their owner, so the relay can only withhold them."""

from __future__ import annotations

from aiohttp import web

from relay import params
from relay.answers import json_answer
from relay.errors import ClockError, NotForMeError
from relay.metastore import MetaStore
from relay.sites import Call
from transfer.ids import Kid, SiteId
from transfer.messages import Prekey, open_message

PREKEY_CAP = Prekey.CAP


class Prekeys:
    """The handlers."""

    def __init__(self, meta: MetaStore) -> None:
        self._meta = meta

    async def put(self, call: Call) -> web.Response:
        """`PUT /v1/prekeys/{kid}`"""
        kid = params.fixed(call.request, "kid", Kid)
        params.query(call.request)
        compact = call.body.text()
        prekey = open_message(Prekey, compact, call.site)
        if prekey.kid != kid or prekey.site != call.site:
            raise NotForMeError
        if prekey.exp <= call.now:
            raise ClockError
        await self._meta.put_prekey(call.site, kid, compact, prekey.nbf, prekey.exp, call.now)
        return json_answer({})

    async def read(self, call: Call) -> web.Response:
        """`GET /v1/sites/{site}/prekeys`"""
        site = params.fixed(call.request, "site", SiteId)
        params.query(call.request)
        return json_answer({"prekeys": await self._meta.prekeys(site, call.now)})
