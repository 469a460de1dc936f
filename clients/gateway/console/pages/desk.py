"""The desk: what arrived here, newest first, and a field that a wristband scanner can type into."""

from __future__ import annotations

from aiohttp import web

from clients.gateway.console.visit import Visit

SHOWN = 50
"""Studies on one page: fits in 100 KB; older ones are found by searching."""
RECENT = 200


async def show(visit: Visit) -> web.Response:
    """`GET /desk[?s=ID]`: the list, or what matches a search of this session."""
    await visit.saw("desk")
    number = visit.request.query.get("s", "")
    words = visit.console.searches.words(visit.key, number) if number else ""
    studies = await visit.engine.studies(words, SHOWN)
    sent = {t.tid: t for t in await visit.engine.transfers("send", RECENT)}
    newest = {s.id: sent[s.transfers[0]] for s in studies if s.transfers and s.transfers[0] in sent}
    return visit.show(
        "desk.html",
        studies=studies,
        newest=newest,
        query=words,
        forgotten=bool(number and not words),
        shown=SHOWN,
    )


async def search(visit: Visit) -> str:
    """`POST /desk`: keeps the words here and leads to their list; without words, to the whole list."""
    words = " ".join(visit.form.get("q", "").split())
    return f"/desk?s={visit.console.searches.keep(visit.key, words)}" if words else "/desk"
