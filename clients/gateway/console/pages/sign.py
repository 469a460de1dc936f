"""Signing in and out, and the stream that keeps a page live.

The sign-in form has no session yet to carry its token, so a cookie of its own carries it (double submit): without
that, another site could sign a clerk in under a stranger's name.
"""

from __future__ import annotations

from aiohttp import web

from clients.gateway.console.problems import PasswordWrongError, Problem, SlowDownError
from clients.gateway.console.roles import HOME
from clients.gateway.console.sessions import new_token
from clients.gateway.console.staff import normal_name
from clients.gateway.console.visit import (
    CONSOLE,
    check_origin,
    check_token,
    read_form,
    render,
    safe_place,
    see_other,
)


async def home(request: web.Request) -> web.Response:
    """`GET /`: the first page of one's role, or the sign-in."""
    found = await request.app[CONSOLE].sessions.find(request)
    return see_other(HOME.get(found[1].role, "/status") if found else "/sign-in")


async def show(request: web.Request) -> web.Response:
    """`GET /sign-in`."""
    if await request.app[CONSOLE].sessions.find(request):
        return see_other(safe_place(request.query.get("next", "/")))
    return _form(request, next_page=request.query.get("next", "/"), ended=request.query.get("why") == "ended")


async def sign_in(request: web.Request) -> web.Response:
    """`POST /sign-in`: a session for the right password; else the form again, with what to do."""
    console = request.app[CONSOLE]
    form = await read_form(request)
    check_origin(request)
    check_token(form, console.sessions.form_token(request))
    name, address = normal_name(form.get("name", "")), request.remote or ""
    next_page = safe_place(form.get("next", "/"))
    wait = console.throttle.wait(name, address)
    if wait:
        why = SlowDownError(
            f"There were too many tries. Wait {wait} seconds, then try again.", retry_after=wait
        )
        return _form(request, next_page=next_page, name=name, problem=why)
    console.throttle.count(name, address)
    role = await console.staff.role_of(name, form.get("password", ""))
    if not role:
        known = await console.staff.knows(name)
        await console.trail.did(name if known else "unknown", "sign-in-refused", "", f"from {address}")
        return _form(request, next_page=next_page, name=name, problem=PasswordWrongError())
    console.throttle.right(name, address)
    await console.trail.did(name, "sign-in", "", f"from {address}")
    before = await console.sessions.find(request)
    if before:
        await console.sessions.close(before[0])
    response = see_other(next_page if next_page != "/" else HOME.get(role, "/status"))
    console.sessions.give(response, await console.sessions.open(name, role))
    return response


async def sign_out(request: web.Request) -> web.Response:
    """`POST /sign-out`."""
    console = request.app[CONSOLE]
    form = await read_form(request)
    check_origin(request)
    response = see_other("/sign-in")
    found = await console.sessions.find(request)
    if found:
        key, session = found
        check_token(form, session.csrf)
        await console.trail.did(session.user, "sign-out")
        await console.sessions.close(key)
    console.sessions.take(response)
    return response


async def live(request: web.Request) -> web.StreamResponse:
    """`GET /live`: see `console.live`. It keeps no session awake."""
    console = request.app[CONSOLE]
    found = await console.sessions.find(request)
    if found is None:
        return web.Response(status=401)
    key = found[0]

    async def valid() -> bool:
        return await console.sessions.get(key) is not None

    return await console.pulse.stream(request, key, valid)


def _form(
    request: web.Request,
    *,
    next_page: str,
    name: str = "",
    ended: bool = False,
    problem: Problem | None = None,
) -> web.Response:
    """The sign-in page, with a token that is also in a cookie."""
    console = request.app[CONSOLE]
    token = console.sessions.form_token(request) or new_token()
    response = render(
        console, "sign_in.html", status=problem.answer if problem else 200,
        csrf=token, next_page=safe_place(next_page), name=name, ended=ended, problem=problem,
    )  # fmt: skip
    if problem and problem.retry_after:
        response.headers["Retry-After"] = str(problem.retry_after)
    console.sessions.give_form_token(response, token)
    return response
