"""What staff note about who answered."""

from __future__ import annotations

from clients.gateway.console.visit import Visit


async def add(visit: Visit) -> str:
    """`POST /transfers/{id}/note`."""
    form = visit.form
    await visit.engine.note(
        visit.id, "minor" in form, form.get("interpreter", ""), form.get("basis", ""), visit.user
    )
    return f"/transfers/{visit.id}#notes"
