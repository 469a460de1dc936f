"""The append-only audit log: a page at a time, and as a file for the privacy officer."""

from __future__ import annotations

import csv
import io

from aiohttp import web

from clients.gateway.console.visit import Visit
from clients.gateway.console.words import Words
from clients.gateway.views import AuditView

SHOWN = 100
EXPORTED = 50_000


async def show(visit: Visit) -> web.Response:
    """`GET /audit[?before=SEQ]`: newest first."""
    await visit.console.trail.saw(visit.key, visit.user, "audit", "", refresh=visit.refresh)
    text = visit.request.query.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0
    lines = await visit.engine.audit(before, SHOWN)
    older = lines[-1].seq if len(lines) == SHOWN else 0
    return visit.show("audit.html", lines=lines, older=older, before=before)


async def export(visit: Visit) -> web.Response:
    """`GET /audit/export`: the newest 50,000 lines as CSV (RFC 4180), newest first."""
    await visit.console.trail.did(visit.user, "export-audit")
    words = Words(visit.console.clock.now())
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(("number", "time", "who", "what", "about", "detail"))
    before, left = 0, EXPORTED
    while left > 0:
        lines = await visit.engine.audit(before, min(1000, left))
        if not lines:
            break
        table.writerows(_row(line, words) for line in lines)
        before, left = lines[-1].seq, left - len(lines)
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    return web.Response(text=out.getvalue(), content_type="text/csv", charset="utf-8", headers=headers)


def _row(line: AuditView, words: Words) -> tuple[str, ...]:
    return (
        str(line.seq),
        words.full(line.at),
        *map(_cell, (line.actor, line.action, line.subject, line.detail)),
    )


def _cell(text: str) -> str:
    """A spreadsheet program would run a cell that begins like a formula (OWASP, CSV injection)."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
