"""What goes back over HTTP: JSON bodies, errors with their sentence, the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from relay.clock import Clock
from relay.errors import AbsentError, BusyError, HeaderError, MethodError, RelayError, SizeError, of_peer
from relay.log import place_of, route_of
from transfer.encoding import b64
from transfer.errors import TransferError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TIME = "TT1-Time"
CODE = web.ResponseKey("code", str)
"""The code of an answer that is an error, for those who count."""
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": f"{TIME}, Retry-After",
}
_HTTP: dict[int, type[RelayError]] = {404: AbsentError, 405: MethodError, 413: SizeError, 503: BusyError}


def json_answer(value: Any, status: int = 200) -> web.Response:
    """`value` as JSON; ids as base64url text."""
    body = msgspec.json.encode(value, enc_hook=b64)
    return web.Response(body=body, status=status, content_type="application/json")


def error_answer(why: RelayError, now: int) -> web.Response:
    """The one form of every error."""
    answer = json_answer(
        {"error": why.code, "sentence": why.sentence, "next": why.next, "now": now}, why.status
    )
    answer.headers.update(why.headers)
    answer[CODE] = why.code
    return answer


def errors_middleware(clock: Clock, log: Any) -> Any:
    """Turns whatever a handler raised into an answer. Nothing of an unforeseen error's text leaves the relay."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RelayError as why:
            return error_answer(why, clock())
        except TransferError as why:
            return error_answer(of_peer(why), clock())
        except web.HTTPException as why:
            answer = error_answer(_HTTP.get(why.status, HeaderError)(), clock())
            if hdrs.ALLOW in why.headers:
                answer.headers[hdrs.ALLOW] = why.headers[hdrs.ALLOW]
            return answer
        except ConnectionError:
            raise  # the client went away
        except Exception as why:
            log.error("unforeseen", error=type(why).__name__, place=place_of(why), route=route_of(request))
            return error_answer(RelayError(), clock())

    return middleware


def headers_signal(
    clock: Clock, *, secure: bool
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """What `on_response_prepare` adds to every answer."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers[TIME] = str(clock())
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        headers.pop(hdrs.SERVER, None)
        if secure:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        if request.path.startswith("/m/"):
            headers.update(CORS)

    return add
