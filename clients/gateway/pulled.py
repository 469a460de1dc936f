"""What pages and commands see of the hospital's own archive: what a search found, and where a pull stands.

Frozen values, like those of `clients.gateway.views`; `Archive` is the part of its `Engine` that they belong to.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of these views."""


class MatchView(View, frozen=True, kw_only=True):
    """One study at the archive. Texts may be empty; -1 where the archive gives no number."""

    uid: str
    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    accession: str
    date: str
    time: str
    description: str
    modalities: str
    series: int
    instances: int
    here: int
    """Images of it that are here already."""


class SearchView(View, frozen=True, kw_only=True):
    """What a search found."""

    matches: list[MatchView]
    more: bool
    """There are more than are shown."""
    sentence: str
    """What a person should know of it, with the next step; empty where the list says it all."""
    code: str = ""
    """Why there is no answer; empty where there is one."""


class PullView(View, frozen=True, kw_only=True):
    """One study on its way here from the archive, or how that ended."""

    id: str
    state: str
    """WAITING, RUNNING; then COMPLETE, INCOMPLETE, UNVERIFIED, FAILED or STOPPED."""
    code: str
    sentence: str
    """The state in a sentence, with the next step."""
    how: str
    """move or get."""
    patient_name: str
    birth_date: str
    what: str
    study: str
    """Its id here, once there is something of it; else empty."""
    actor: str
    at: int
    ended_at: int
    wanted: int
    """Images that the archive lists; -1: not known."""
    here: int
    missing: int
    """Of those that it lists, not here; -1: not known."""
    completed: int
    failed: int
    warned: int
    remaining: int
    """The archive's own counts of its sub-operations; `remaining` -1: not said."""
    others: int
    """Images of other studies that it sent with them; they were taken in as what they are."""
    refused: int
    """Images that came and could not be used."""
    notes: list[str]
    """More that staff should know."""
    misses: list[str]
    """SOP Instance UIDs that the archive says it could not send, the first hundred."""


OPEN = frozenset({"WAITING", "RUNNING"})


class Archive(Protocol):
    """What pages and commands may ask of the archive, and of transfers that rules prepare."""

    async def find_studies(self, terms: dict[str, str], actor: str) -> SearchView:
        """`terms`: accession, patient_id, name, date (YYYY-MM-DD), modality, today, study."""
        ...

    async def pull(self, uid: str, actor: str) -> PullView: ...
    async def pulls(self, limit: int = 20) -> list[PullView]: ...
    async def pull_view(self, pull: str) -> PullView: ...
    async def stop_pull(self, pull: str, actor: str) -> PullView: ...
    async def offer_prepared(self, study: str, actor: str) -> str:
        """Makes the offer that a rule proposed: the transfer's id."""
        ...

    async def dismiss_prepared(self, study: str, actor: str) -> None: ...


METHODS: dict[str, Any] = {
    "find_studies": SearchView,
    "pull": PullView,
    "pulls": list[PullView],
    "pull_view": PullView,
    "stop_pull": PullView,
    "offer_prepared": str,
    "dismiss_prepared": None,
}
"""What the control socket answers to each call (`control`)."""


class RemoteArchive:
    """`Archive` over the control socket; mixed into `ControlEngine`."""

    async def _call(self, method: str, *args: Any) -> Any:
        raise NotImplementedError

    async def find_studies(self, terms: dict[str, str], actor: str) -> SearchView:
        return await self._call("find_studies", terms, actor)  # type: ignore[no-any-return]

    async def pull(self, uid: str, actor: str) -> PullView:
        return await self._call("pull", uid, actor)  # type: ignore[no-any-return]

    async def pulls(self, limit: int = 20) -> list[PullView]:
        return await self._call("pulls", limit)  # type: ignore[no-any-return]

    async def pull_view(self, pull: str) -> PullView:
        return await self._call("pull_view", pull)  # type: ignore[no-any-return]

    async def stop_pull(self, pull: str, actor: str) -> PullView:
        return await self._call("stop_pull", pull, actor)  # type: ignore[no-any-return]

    async def offer_prepared(self, study: str, actor: str) -> str:
        return await self._call("offer_prepared", study, actor)  # type: ignore[no-any-return]

    async def dismiss_prepared(self, study: str, actor: str) -> None:
        await self._call("dismiss_prepared", study, actor)
