"""The staff pages as one aiohttp application: the table of its addresses, and what holds for every answer.

`build(engine, secure=...)` gives the application; `server.serve` runs it. Every address is in `ROUTES`, with the
permission it needs. Addresses carry ids of ours and nothing else.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Final

import jinja2
from aiohttp import web

from clients.gateway.clock import Clock, SystemClock
from clients.gateway.console import roles
from clients.gateway.console.assets import Assets
from clients.gateway.console.drafts import Drafts
from clients.gateway.console.findings import Findings
from clients.gateway.console.live import Pulse
from clients.gateway.console.once import Once
from clients.gateway.console.pages import (
    archive,
    audit,
    desk,
    door,
    identity,
    ladder,
    note,
    sign,
    sites,
    status,
    study,
    transfer,
    transfers,
)
from clients.gateway.console.pages.report import add as add_report
from clients.gateway.console.problems import Problem, problem_of
from clients.gateway.console.qr import svg
from clients.gateway.console.searches import Searches
from clients.gateway.console.sessions import Sessions
from clients.gateway.console.staff import Staff
from clients.gateway.console.throttle import Throttle
from clients.gateway.console.trail import Trail
from clients.gateway.console.uploads import upload_reader
from clients.gateway.console.visit import (
    CONSOLE,
    VISIT,
    Action,
    Console,
    Handler,
    Page,
    action,
    enter,
    page,
    render,
)
from clients.gateway.views import Engine
from transfer.text import seen

LARGEST_FORM: Final = 16 * 1024
SLOWEST: Final = 30.0
_ID = "{id:[0-9a-f]{32}}"

PAGES: Final[tuple[tuple[str, str, Page], ...]] = (
    ("/desk", "desk.read", desk.show),
    (f"/studies/{_ID}", "desk.read", study.show),
    (f"/transfers/{_ID}", "transfer.read", transfer.show),
    (f"/transfers/{_ID}/stop", "transfer.stop", transfer.confirm_stop),
    (f"/transfers/{_ID}/stop-asked", "transfer.stop", transfer.confirm_stop_asked),
    (f"/transfers/{_ID}/attest", "transfer.decide", ladder.attest),
    (f"/transfers/{_ID}/override", "transfer.decide", ladder.override),
    (f"/transfers/{_ID}/notice", "sent.read", ladder.notice),
    (f"/transfers/{_ID}/divert", "transfer.send", transfer.choose_divert),
    (f"/transfers/{_ID}/scan", "transfer.door", door.scan),
    ("/poster", "desk.read", door.poster),
    (f"/transfers/{_ID}/identity", "identity.choose", identity.show),
    (f"/transfers/{_ID}/compare", "identity.choose", identity.compare),
    ("/archive", "archive.find", archive.show),
    (f"/pulls/{_ID}", "archive.find", archive.pull),
    ("/sent", "sent.read", transfers.sent),
    ("/inbox", "inbox.read", transfers.inbox),
    ("/sites", "sites.read", sites.show),
    ("/audit", "audit.read", audit.show),
    ("/audit/export", "audit.export", audit.export),
    ("/status", "status.read", status.show),
)
"""(address, permission, handler) of each GET."""

ACTIONS: Final[tuple[tuple[str, str, str, Action], ...]] = (
    ("/desk", "desk.read", "search", desk.search),
    (f"/studies/{_ID}/close", "study.close", "close-study", study.close),
    (f"/studies/{_ID}/send", "transfer.send", "send", study.send),
    (f"/studies/{_ID}/offer", "transfer.send", "offer-prepared", archive.offer),
    (f"/studies/{_ID}/dismiss", "transfer.send", "dismiss-prepared", archive.dismiss),
    ("/archive", "archive.find", "search-archive", archive.find),
    ("/archive/get", "archive.find", "get-study", archive.get),
    (f"/pulls/{_ID}/stop", "archive.find", "stop-pull", archive.stop),
    (f"/transfers/{_ID}/stop", "transfer.stop", "stop", transfer.stop),
    (f"/transfers/{_ID}/stop-asked", "transfer.stop", "stop-asked", transfer.stop_asked),
    (f"/transfers/{_ID}/divert", "transfer.send", "divert", transfer.divert),
    (f"/transfers/{_ID}/more", "archive.find", "send-more", transfer.more),
    (f"/transfers/{_ID}/close-additions", "transfer.send", "close-additions", transfer.close_additions),
    (f"/transfers/{_ID}/reopen", "transfer.reopen", "reopen", transfer.reopen),
    (f"/transfers/{_ID}/note", "transfer.note", "note", note.add),
    (f"/transfers/{_ID}/attest", "transfer.decide", "attest", ladder.do_attest),
    (f"/transfers/{_ID}/override", "transfer.decide", "override", ladder.do_override),
    (f"/transfers/{_ID}/again", "transfer.again", "again", ladder.again),
    (f"/transfers/{_ID}/door", "transfer.door", "door", door.switch),
    (f"/transfers/{_ID}/worklist", "identity.choose", "worklist", identity.search),
    (f"/transfers/{_ID}/candidate", "identity.choose", "candidate", identity.take),
    (f"/transfers/{_ID}/identify", "identity.choose", "identify", identity.confirm),
    (f"/transfers/{_ID}/unknown", "identity.choose", "identify-unknown", identity.unknown),
)
"""(address, permission, name in the audit log, handler) of each POST but sign-in and sign-out."""

UPLOADS: Final[tuple[tuple[str, str, str, Action], ...]] = (
    (f"/studies/{_ID}/report", "study.report", "report", add_report),
)
"""The same of each POST with a file in it."""

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": a browser would then send `Origin: null` with our own forms (WHATWG Fetch 3.2).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Server": "trauma-transfer",
}
"""On every answer. Strict-Transport-Security is missing on purpose: it binds every port of the host, and a hospital's
server has others."""


def build(engine: Engine, *, secure: bool, clock: Clock | None = None) -> web.Application:
    """The application. `secure`: it is reached by TLS, so its cookies are for TLS only."""
    app = web.Application(client_max_size=LARGEST_FORM, middlewares=[_problems])
    console = _console(engine, clock or SystemClock(), secure=secure)
    app[CONSOLE] = console
    app[archive.FINDINGS] = Findings()
    assets = Assets()
    console.templates.globals.update(
        asset=assets.address, qr=svg, roles=roles, nonce=lambda: secrets.token_hex(8)
    )
    app.router.add_get("/static/{name}", assets.serve)
    app.router.add_get("/", sign.home)
    app.router.add_get("/sign-in", sign.show)
    app.router.add_post("/sign-in", sign.sign_in)
    app.router.add_post("/sign-out", sign.sign_out)
    app.router.add_get("/live", sign.live)
    for address, permission, handler in PAGES:
        app.router.add_get(address, page(permission, handler))
    for address, permission, name, act in ACTIONS:
        app.router.add_post(address, action(permission, name, act))
    for address, permission, name, act in UPLOADS:
        app.router.add_post(address, action(permission, name, act, upload_reader()))
    app.on_response_prepare.append(_headers)
    app.on_shutdown.append(_end_streams)
    app.cleanup_ctx.append(_run)
    return app


def _console(engine: Engine, clock: Clock, *, secure: bool) -> Console:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("clients.gateway.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return Console(
        engine=engine,
        clock=clock,
        templates=templates,
        sessions=Sessions(engine, clock, secure=secure),
        staff=Staff(engine),
        throttle=Throttle(clock),
        trail=Trail(engine),
        searches=Searches(),
        drafts=Drafts(),
        once=Once(),
        pulse=Pulse(engine),
    )


def _shown(value: object) -> object:
    """What a page says of others' words: visible characters only. Mark-up of our own stays."""
    return seen(value) if type(value) is str else value


async def _run(app: web.Application) -> AsyncIterator[None]:
    console = app[CONSOLE]
    await console.pulse.start()
    yield
    await console.pulse.stop()
    await console.once.close()
    console.staff.close()


async def _end_streams(app: web.Application) -> None:
    app[CONSOLE].pulse.end()


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    if request.path.endswith("/scan"):
        response.headers["Permissions-Policy"] = "camera=(self), microphone=(), geolocation=()"
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer in time, and every failure as a page."""
    try:
        if request.path == "/live":
            return await handler(request)
        async with asyncio.timeout(SLOWEST):
            return await handler(request)
    except web.HTTPException as why:
        if why.status < 400:
            raise
        return await _problem_page(request, problem_of(why))
    except Exception as why:
        return await _problem_page(request, problem_of(why))


async def _problem_page(request: web.Request, problem: Problem) -> web.Response:
    """The failure in words; with the way back to the pages for who is signed in."""
    visit = request.get(VISIT)
    if visit is None and problem.answer in (404, 405):
        visit = await enter(request, {})
    response = render(
        request.app[CONSOLE], "problem.html", status=problem.answer, visit=visit, problem=problem
    )
    if problem.retry_after:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response
