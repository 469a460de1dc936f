"""A report that staff add to a study: a PDF that they have, or a text that they type."""

from __future__ import annotations

from clients.gateway.console.uploads import FILE
from clients.gateway.console.visit import Visit

SAID = {
    "added": "The report was added. It goes with the images of every transfer of this study that is still open, or that"
    " late images may follow.",
    "same": "This report was here already, and is there once.",
    "late": "The report was added, but a transfer that is under way was closed before it. Send the study again, or the"
    " trauma center does not get it.",
}
"""What became of it, for `study.html`."""


async def add(visit: Visit) -> str:
    """`POST /studies/{id}/report`."""
    title = visit.form.get("title", "").strip() or "Report"
    text = visit.form.get("text", "").replace("\r\n", "\n")
    added = await visit.engine.add_report(visit.id, title, text, visit.request[FILE], visit.user)
    said = "late" if added.late else "same" if added.same else "added"
    return f"/studies/{visit.id}?report={said}#report"
