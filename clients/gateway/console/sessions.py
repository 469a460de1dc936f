"""Sessions of the staff pages (OWASP ASVS V3).

A session is a token of 32 random bytes in a cookie; the engine keeps only its SHA-256, so that a copy of the
database signs nobody in. It ends 30 minutes after its last use by a person and 12 hours after the sign-in; what a
page fetches by itself to stay live is no use. At each request the role is read anew: a member of staff who was
disabled is out with the next click.

The cookie is HttpOnly and SameSite=Strict, and with TLS also Secure under a `__Host-` name. Cookies do not tell
ports apart (RFC 6265 8.5), so the name holds a piece of the site's id: desk and inbox of a demo on one machine do
not sign each other out.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

import msgspec
from aiohttp import web

from clients.gateway.clock import Clock
from clients.gateway.errors import AbsentError
from clients.gateway.views import Engine, SessionView

IDLE: Final = 30 * 60
ABSOLUTE: Final = 12 * 3600
TOUCH_EVERY: Final = 60
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class Sessions:
    """Opens, finds and ends sessions; knows how their cookies look."""

    def __init__(self, engine: Engine, clock: Clock, *, secure: bool) -> None:
        self._engine = engine
        self._clock = clock
        self._secure = secure
        mark = hashlib.sha256(engine.site.encode()).hexdigest()[:8]
        self.cookie = ("__Host-" if secure else "") + f"tt-{mark}"
        self.form_cookie = self.cookie + "-form"

    async def open(self, user: str, role: str) -> str:
        """A new session's token."""
        token, now = new_token(), self._clock.now()
        session = SessionView(
            user=user, role=role, csrf=new_token(), started_at=now, expires_at=min(now + IDLE, now + ABSOLUTE)
        )
        await self._engine.session_put(key_of(token), session)
        return token

    async def find(self, request: web.Request) -> tuple[str, SessionView] | None:
        """(key, session) of a request's cookie, with the role of today, or None."""
        token = request.cookies.get(self.cookie, "")
        return await self.get(key_of(token)) if _TOKEN.fullmatch(token) else None

    async def get(self, key: str) -> tuple[str, SessionView] | None:
        """(key, session) if it is still valid."""
        session = await self._engine.session_get(key)
        if session is None:
            return None
        if self._clock.now() >= min(session.expires_at, session.started_at + ABSOLUTE):
            await self._engine.session_drop(key)
            return None
        try:
            _, role = await self._engine.user_hash(session.user)
        except AbsentError:
            await self._engine.session_drop(key)
            return None
        return key, msgspec.structs.replace(session, role=role)

    async def touch(self, key: str, session: SessionView) -> None:
        """A person used the session. Written at most once a minute."""
        end = min(self._clock.now() + IDLE, session.started_at + ABSOLUTE)
        if end - session.expires_at >= TOUCH_EVERY:
            await self._engine.session_put(key, msgspec.structs.replace(session, expires_at=end))

    async def close(self, key: str) -> None:
        """Signs out."""
        await self._engine.session_drop(key)

    def give(self, response: web.StreamResponse, token: str) -> None:
        """Puts the token into the browser, until that is closed; how long it is valid is known only here."""
        self._set(response, self.cookie, token)

    def take(self, response: web.StreamResponse) -> None:
        """Removes the token from the browser."""
        response.del_cookie(self.cookie, path="/", secure=self._secure, httponly=True, samesite="Strict")

    def form_token(self, request: web.Request) -> str:
        """The token that ties the sign-in form to this browser, before there is a session; "" if it has none."""
        token = request.cookies.get(self.form_cookie, "")
        return token if _TOKEN.fullmatch(token) else ""

    def give_form_token(self, response: web.StreamResponse, token: str) -> None:
        """Puts the form's token into the browser."""
        self._set(response, self.form_cookie, token)

    def _set(self, response: web.StreamResponse, name: str, value: str) -> None:
        response.set_cookie(name, value, path="/", secure=self._secure, httponly=True, samesite="Strict")


def new_token() -> str:
    """32 random bytes as text."""
    return secrets.token_urlsafe(32)


def key_of(token: str) -> str:
    """Under which the engine keeps a session."""
    return hashlib.sha256(token.encode()).hexdigest()
