"""What staff may ask and say about whose images a received study is: their part of the engine
(`clients.gateway.views.Engine`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.gateway.edge import candidate_of, keys_of, tid_of, translated
from clients.gateway.whose import Candidate, ComparisonView, IdentityView, WorklistView

if TYPE_CHECKING:
    from clients.gateway.rooms import Rooms


class IdentityEngine:
    """`receiving.reconciling`, with everything that comes through the control socket read first."""

    _rooms: Rooms

    async def identity(self, tid: str) -> IdentityView:
        """Whose images a received transfer is. Raises `AbsentError`."""
        return await self._rooms.reconciling.view(tid_of(tid))

    async def worklist(self, patient_id: str, accession: str, name: str) -> WorklistView:
        """Searches this hospital's worklist."""
        return await self._rooms.reconciling.search(patient_id, accession, name)

    async def compare(self, tid: str, candidate: Candidate) -> ComparisonView:
        """The sender's patient beside one of this hospital's, and what has to be confirmed."""
        return await self._rooms.reconciling.compare(tid_of(tid), candidate_of(candidate))

    async def identify(
        self, tid: str, candidate: Candidate | None, confirmed: list[str], actor: str
    ) -> IdentityView:
        """Staff say who it is before anything is stored; None: they do not know yet."""
        given = None if candidate is None else candidate_of(candidate)
        work = self._rooms.reconciling.choose(tid_of(tid), given, keys_of(confirmed), actor)
        return await translated(work)

    async def correct(self, tid: str, candidate: Candidate, confirmed: list[str], actor: str) -> IdentityView:
        """Staff say later who it is."""
        given = candidate_of(candidate)
        view = await self._rooms.reconciling.correct(tid_of(tid), given, keys_of(confirmed), actor)
        self._rooms.changed.set()
        return view
