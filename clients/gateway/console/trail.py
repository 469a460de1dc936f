"""What staff saw and did, for the audit log.

A line for each page with patients on it that a person opened, for each form that was sent, for each sign-in and
each refusal. Subjects are our own ids. A page that stays open fetches itself again and again: that is the same
look, so the fetch adds no line if this session opened this page before; one that claims to be a refresh
of something it never opened is a look like any other.
"""

from __future__ import annotations

from collections import OrderedDict

from clients.gateway.views import Engine

PREFIX = "page:"
"""Before each action, so that the log tells what was asked for at a page from what the engine then did."""


class Trail:
    """Writes to the engine's append-only log."""

    def __init__(self, engine: Engine, *, size: int = 4096) -> None:
        self._engine = engine
        self._size = size
        self._seen: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    async def did(self, actor: str, action: str, subject: str = "", detail: str = "") -> None:
        """Something was asked for."""
        await self._engine.record(actor, PREFIX + action, subject, detail)

    async def saw(self, session: str, actor: str, page: str, subject: str, *, refresh: bool) -> None:
        """A page with patients on it is about to be shown."""
        look = (session, page, subject)
        if refresh and look in self._seen:
            self._seen.move_to_end(look)
            return
        await self.did(actor, f"view-{page}", subject)
        self._seen[look] = None
        self._seen.move_to_end(look)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)
