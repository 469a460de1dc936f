"""The address that a request came from, for rate limits only. It is never logged or stored."""

from __future__ import annotations

from aiohttp import hdrs, web

from relay.limits import address_key


class Addresses:
    """Behind a trusted proxy the last entry of `X-Forwarded-For` counts: the one that the proxy itself wrote."""

    def __init__(self, *, trusted_proxy: bool) -> None:
        self._trusted_proxy = trusted_proxy

    def of(self, request: web.BaseRequest) -> str:
        """A key for `Buckets`: "" where there is no address, which all such requests share."""
        if self._trusted_proxy:
            lines = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
            if lines:
                return address_key(lines[-1].rpartition(",")[2].strip())
        return address_key(request.remote or "")
