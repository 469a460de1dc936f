"""A site's signed call to the relay (protocol s. 12).

The relay checks, in this order: form and signature, that the site is enrolled, `aud`, method and path, the
clock (900 s each way), the body's hash, and that `jti` is new. The first and the last need its database and
are its own; the rest is `check`.
"""

from __future__ import annotations

from nacl.signing import SigningKey

from transfer import jws
from transfer.encoding import same, sha256
from transfer.errors import ClockError, HashError, NotForMeError
from transfer.ids import Digest, Nonce, SiteId
from transfer.messages import Request, decode, open_message, sign_message

HEADER = "TT1-Request"
"""The HTTP header that carries it."""
SKEW = 900
"""Seconds that a request's clock may differ from the relay's."""
REMEMBER = 1800
"""Seconds for which the relay keeps each `jti`."""
EMPTY = Digest(sha256(b""))


def make_request(
    key: SigningKey, *, aud: str, method: str, path: str, body: bytes, now: int, jti: bytes
) -> str:
    """The header's value for one call; `path` is with its query, as sent."""
    message = Request(
        v=1,
        site=SiteId(key.verify_key.encode()),
        aud=aud,
        m=method,  # type: ignore[arg-type]  # checked when it is read
        p=path,
        h=Digest(sha256(body)) if body else EMPTY,
        iat=now,
        jti=Nonce(jti),
    )
    return sign_message(message, key)


def claimed_site(compact: str) -> SiteId:
    """Who says they made this call: look this site up before `check`, so that strangers cost no signature."""
    return decode(jws.unverified_payload(Request.NAME, compact, Request.CAP), Request).site


def check(compact: str, *, site: SiteId, aud: str, method: str, path: str, now: int) -> Request:
    """The request, if `site` signed it for this relay, method, path and time. `check_body` is still to come."""
    request = open_message(Request, compact, site)
    if request.site != site or request.aud != aud or request.m != method or request.p != path:
        raise NotForMeError
    if abs(now - request.iat) > SKEW:
        raise ClockError
    return request


def check_body(request: Request, digest: bytes) -> None:
    """That the body that arrived is the one that was signed."""
    if not same(request.h, digest):
        raise HashError
