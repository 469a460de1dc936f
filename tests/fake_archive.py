"""The archive's part of the fake engine: what a search finds is put there, and a pull moves when a test says so."""

from __future__ import annotations

import secrets
from typing import Any

from msgspec.structs import replace

from clients.gateway.clock import Clock
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.pulled import OPEN, MatchView, PullView, SearchView
from clients.gateway.views import StudyView, TransferView


def match(uid: str = "1.2.3", **values: Any) -> MatchView:
    """A study at the archive."""
    given: dict[str, Any] = {
        "uid": uid, "patient_name": "DOE, JANE", "patient_id": "4711", "birth_date": "1984-03-12", "sex": "F",
        "accession": "A7701", "date": "2026-11-24", "time": "13:40", "description": "Trauma head to pelvis",
        "modalities": "CT", "series": 6, "instances": 688, "here": 0,
    }  # fmt: skip
    return MatchView(**{**given, **values})


class FakeArchive:
    """Mixed into `FakeEngine`."""

    clock: Clock

    def __init__(self) -> None:
        self.archived: list[MatchView] = []
        self.searched: list[dict[str, str]] = []
        self.search_says = SearchView(matches=[], more=False, sentence="")
        self.all_pulls: dict[str, PullView] = {}

    async def find_studies(self, terms: dict[str, str], actor: str) -> SearchView:
        if not any(terms.values()):
            raise GatewayError("Give an accession number, or a patient ID.", code="search")
        self.searched.append(terms)
        return replace(self.search_says, matches=list(self.archived))

    async def pull(self, uid: str, actor: str) -> PullView:
        found = next((m for m in self.archived if m.uid == uid), None)
        if found is None:
            raise GatewayError("The PACS does not have this study any more. Search again.", code="pull-gone")
        view = PullView(
            id=secrets.token_hex(16), state="RUNNING", code="", sentence="Images are on their way.", how="move",
            patient_name=found.patient_name, birth_date=found.birth_date, what="CT", study="", actor=actor,
            at=self.clock.now(), ended_at=0, wanted=found.instances, here=0, missing=-1, completed=0, failed=0,
            warned=0, remaining=-1, others=0, refused=0, notes=[], misses=[],
        )  # fmt: skip
        self.all_pulls[view.id] = view
        return view

    def change_pull(self, ident: str, **values: Any) -> PullView:
        """It moves, or ends."""
        self.all_pulls[ident] = replace(self.all_pulls[ident], **values)
        return self.all_pulls[ident]

    async def pulls(self, limit: int = 20) -> list[PullView]:
        return list(reversed(self.all_pulls.values()))[:limit]

    async def pull_view(self, pull: str) -> PullView:
        if pull not in self.all_pulls:
            raise AbsentError
        return self.all_pulls[pull]

    async def stop_pull(self, pull: str, actor: str) -> PullView:
        view = await self.pull_view(pull)
        if view.state not in OPEN:
            return view
        return self.change_pull(pull, state="STOPPED", ended_at=self.clock.now(), sentence="It was stopped.")

    async def offer_prepared(self, study: str, actor: str) -> str:
        view = await self._prepared(study)
        to = next(site for site, peer in self.all_peers.items() if peer.name == view.prepared)  # type: ignore[attr-defined]
        made = await self.send(study, to, "transfer", actor)
        self.put_study(replace(await self.study(study), prepared="", prepared_by=""))
        return made.tid

    async def dismiss_prepared(self, study: str, actor: str) -> None:
        self.put_study(replace(await self._prepared(study), prepared="", prepared_by=""))

    async def _prepared(self, study: str) -> StudyView:
        view = await self.study(study)
        if not view.prepared:
            raise GatewayError("No transfer is prepared for this study any more.", code="prepared")
        return view

    # `FakeEngine`'s own

    async def study(self, study_id: str) -> StudyView:
        raise NotImplementedError

    def put_study(self, study: StudyView) -> StudyView:
        raise NotImplementedError

    async def send(self, study_id: str, to: str, reason: str, actor: str) -> TransferView:
        raise NotImplementedError
