"""One request of one signed-in person, and what the pages share to answer it.

`page` and `action` wrap every handler of the console; nothing is reached but through them. In this order:

* a session that is valid now, else the sign-in page (which leads back here);
* for a form: it came from this site (`Origin`, `Sec-Fetch-Site`) and carries the session's token, both;
* the permission of the handler, by the table in `roles`;
* for a form: a line in the audit log, before anything is done, and `Once`.

A page answers with a response, an action with the address to go to next (303, RFC 9110 15.4.4), so that a reload
repeats nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jinja2
from aiohttp import web

from clients.gateway.clock import Clock
from clients.gateway.console.drafts import Drafts
from clients.gateway.console.live import Pulse
from clients.gateway.console.once import Once
from clients.gateway.console.problems import (
    ForeignFormError,
    FormKindError,
    NotAllowedError,
    Problem,
    StaleFormError,
)
from clients.gateway.console.roles import may
from clients.gateway.console.searches import Searches
from clients.gateway.console.sessions import Sessions
from clients.gateway.console.staff import Staff
from clients.gateway.console.throttle import Throttle
from clients.gateway.console.trail import Trail
from clients.gateway.console.words import Words
from clients.gateway.views import Engine, SessionView

REFRESH = "TT-Refresh"
"""The header of a fetch that an open page makes by itself. It saves an audit line and keeps no session awake; it
gives nothing that the same request without it would not give."""
_PLACE = re.compile(r"/(?:[a-z0-9-]+(?:/[a-z0-9-]+)*)?")


@dataclass(frozen=True)
class Console:
    """What all pages share for the life of the server."""

    engine: Engine
    clock: Clock
    templates: jinja2.Environment
    sessions: Sessions
    staff: Staff
    throttle: Throttle
    trail: Trail
    searches: Searches
    drafts: Drafts
    once: Once
    pulse: Pulse


CONSOLE = web.AppKey("console", Console)


@dataclass(frozen=True)
class Visit:
    """A signed-in person's request."""

    request: web.Request
    console: Console
    key: str
    """Of the session; never its token."""
    session: SessionView
    form: Mapping[str, str]

    @property
    def engine(self) -> Engine:
        """The gateway."""
        return self.console.engine

    @property
    def user(self) -> str:
        """Who asks, for the audit log."""
        return self.session.user

    @property
    def id(self) -> str:
        """The id in the address."""
        return self.request.match_info["id"]

    @property
    def refresh(self) -> bool:
        """Whether an open page fetches itself."""
        return REFRESH in self.request.headers

    def may(self, permission: str) -> bool:
        """Whether this person may do that."""
        return may(self.session.role, permission)

    async def saw(self, page: str, subject: str = "") -> None:
        """Audits that this person is shown patients."""
        await self.console.trail.saw(self.key, self.user, page, subject, refresh=self.refresh)

    async def refused(self, why: str) -> None:
        """Audits that this person was not let through."""
        await self.console.trail.did(self.user, "refused", self.request.match_info.get("id", ""), why)

    def show(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page. Templates know `visit`, `words` and the values."""
        return render(self.console, template, status=status, visit=self, **values)


VISIT = web.RequestKey("visit", Visit)
Page = Callable[[Visit], Awaitable[web.StreamResponse]]
Action = Callable[[Visit], Awaitable[str]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Reader = Callable[[web.Request], AbstractAsyncContextManager[dict[str, str]]]


def render(console: Console, template: str, *, status: int = 200, **values: Any) -> web.Response:
    """A template as an answer; `values["visit"]` is absent where nobody is signed in."""
    values = {"visit": None, "words": Words(console.clock.now()), "site": console.engine.name, **values}
    text = console.templates.get_template(template).render(**values)
    return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)


def see_other(place: str) -> web.Response:
    """Go there, by GET."""
    return web.Response(status=303, headers={"Location": place})


def page(permission: str, handler: Page) -> Handler:
    """A GET handler for those who have `permission`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        visit = await enter(request, {})
        if visit is None:
            return _to_sign_in(request, request.path)
        await _permit(visit, permission)
        if not visit.refresh:
            await visit.console.sessions.touch(visit.key, visit.session)
        return await handler(visit)

    return answer


def action(permission: str, name: str, handler: Action, read: Reader | None = None) -> Handler:
    """A POST handler for those who have `permission`; `name` is what the audit log calls it. `read` reads a large form,
    for nobody who may not send it, and has its memory back when it is done.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        if read is None:
            return await take(request, await read_form(request))
        if (guest := await enter(request, {})) is None:
            return _to_sign_in(request, before(request))
        await _permit(guest, permission)
        async with read(request) as form:
            return await take(request, form)

    def before(request: web.Request) -> str:
        return request.path.rpartition("/")[0] if "id" in request.match_info else "/"

    async def take(request: web.Request, form: Mapping[str, str]) -> web.StreamResponse:
        visit = await enter(request, form)
        if visit is None:
            return _to_sign_in(request, before(request))
        try:
            check_origin(request)
            check_token(form, visit.session.csrf)
        except Problem as why:
            await visit.refused(why.code)
            raise
        await _permit(visit, permission)
        await visit.console.sessions.touch(visit.key, visit.session)

        async def work() -> str:
            await visit.console.trail.did(visit.user, name, request.match_info.get("id", ""))
            return await handler(visit)

        mark = form.get("once") or secrets.token_hex(8)
        return see_other(await visit.console.once.run((visit.key, request.path, mark), work))

    return answer


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a posted form; of a name that comes twice, the last. Raises a `Problem` or HTTP 413.

    Any other charset than our pages' own is refused: some codecs are none for text, some make text that is none.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise FormKindError
    if (request.charset or "utf-8").lower() != "utf-8":
        raise FormKindError
    try:
        fields = await request.post()
    except UnicodeDecodeError:
        raise FormKindError from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def check_origin(request: web.Request) -> None:
    """Raises `ForeignFormError` for a form that another site sent.

    Browsers say so themselves: `Sec-Fetch-Site` (W3C Fetch Metadata), and `Origin` (RFC 6454) where that is missing.
    Only the host and port are compared, since a proxy may have ended TLS. A client that says neither still needs the
    token.
    """
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    if site not in ("same-origin", "none"):
        raise ForeignFormError
    if origin is not None and origin.partition("://")[2] != request.host:
        raise ForeignFormError


def check_token(form: Mapping[str, str], expected: str) -> None:
    """Raises `StaleFormError` unless the form carries the token that it was given."""
    if not expected or not secrets.compare_digest(form.get("csrf", "").encode(), expected.encode()):
        raise StaleFormError


def safe_place(path: str) -> str:
    """`path` if it is a page of this console, else "/": nobody is led elsewhere after the sign-in."""
    return path if _PLACE.fullmatch(path) and len(path) <= 200 else "/"


def _to_sign_in(request: web.Request, place: str) -> web.Response:
    """The way to the sign-in page; the script of an open page learns by 401 that it has to reload."""
    if REFRESH in request.headers:
        return web.Response(status=401)
    why = {"why": "ended"} if request.cookies.get(request.app[CONSOLE].sessions.cookie) else {}
    place = safe_place(place)
    query = urlencode({**({"next": place} if place != "/" else {}), **why})
    return see_other("/sign-in" + ("?" + query if query else ""))


async def enter(request: web.Request, form: Mapping[str, str]) -> Visit | None:
    """The visit of a signed-in person, or None."""
    console = request.app[CONSOLE]
    found = await console.sessions.find(request)
    if found is None:
        return None
    visit = Visit(request, console, found[0], found[1], form)
    request[VISIT] = visit
    return visit


async def _permit(visit: Visit, permission: str) -> None:
    if not visit.may(permission):
        await visit.refused(permission)
        raise NotAllowedError
