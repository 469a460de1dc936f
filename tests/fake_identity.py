"""The fake engine's part in whose images they are: `ask_who` puts the question, staff answer and correct it."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from clients.gateway.clock import Clock
from clients.gateway.dicom.person import Person, read_person, shown_name
from clients.gateway.errors import AbsentError
from clients.gateway.receiving.claim import Claim
from clients.gateway.receiving.comparing import compare
from clients.gateway.receiving.reconciling import NotAskedError, UnconfirmedError
from clients.gateway.views import TransferView
from clients.gateway.whose import (
    Candidate,
    ChangeView,
    ComparisonView,
    IdentityView,
    SenderView,
    WorklistItem,
    WorklistView,
)

T = TypeVar("T")


def entry(table: dict[str, T], key: str) -> T:
    """What a table has under this key. Raises `AbsentError`."""
    if key not in table:
        raise AbsentError
    return table[key]


class FakeIdentity:
    """Mixed into `FakeEngine`."""

    clock: Clock

    def __init__(self) -> None:
        super().__init__()
        self.whose: dict[str, IdentityView] = {}
        """By tid: whose images a received transfer is."""
        self.on_worklist: list[WorklistItem] = []
        """What any search finds."""

    def change(self, tid: str, **values: Any) -> TransferView:
        raise NotImplementedError

    async def record(self, actor: str, action: str, subject: str = "", detail: str = "") -> None:
        raise NotImplementedError

    def _may_fail(self, method: str) -> None:
        raise NotImplementedError

    def ask_who(self, tid: str, *, name: str = "DOE, JANE", patient_id: str = "4711", **values: Any) -> None:
        """An opened transfer waits for staff to say whose it is."""
        sender = SenderView(
            name=name, patient_id=patient_id, issuer="COUNTY", birth_date="1984-03-12", sex="F", accession="A7701",
            what="CT, Trauma head to pelvis, 2026-11-24",
        )  # fmt: skip
        nothing: dict[str, Any] = {
            "state": "waits", "how": "", "filed_id": "", "filed_issuer": "",
            "now_id": values.get("filed_id", ""), "now_issuer": "", "by": "", "at": 0, "sender": sender,
            "until": self.clock.now() + 600, "worklist": True, "changes": [], "others": 0,
            "sentence": "Nothing is stored yet: somebody here has to say who this patient is.",
        }  # fmt: skip
        self.whose[tid] = IdentityView(**{**nothing, **values})
        self._show_who(tid)

    def _show_who(self, tid: str) -> None:
        view = self.whose[tid]
        kind = "corrected" if view.changes else view.how or view.state
        self.change(tid, identity=kind, filed=view.sentence)

    async def identity(self, tid: str) -> IdentityView:
        self._may_fail("identity")
        return entry(self.whose, tid)

    async def worklist(self, patient_id: str, accession: str, name: str) -> WorklistView:
        self._may_fail("worklist")
        fitting = [i for i in self.on_worklist if patient_id in ("", i.patient_id)]
        return WorklistView(items=fitting, dropped=len(self.on_worklist) - len(fitting), more=False)

    async def compare(self, tid: str, candidate: Candidate) -> ComparisonView:
        sender, person = self._both(tid, candidate)
        view = self.whose[tid]
        if view.state != "filed":
            return compare(sender, person).view(person, again=candidate.source == "typed")
        told = "update" if person.patient_id == view.now_id else "merge"
        return compare(sender, person, ours=view.now_id != view.filed_id).view(
            person, again=told == "merge" and candidate.source == "typed", told=told
        )

    async def identify(
        self, tid: str, candidate: Candidate | None, confirmed: list[str], actor: str
    ) -> IdentityView:
        if entry(self.whose, tid).state != "waits":
            raise NotAskedError
        number = "COUNTY2K7Q-4711"
        if candidate is not None:
            number = self._confirm(tid, candidate, confirmed).patient_id
        await self.record(actor, "incoming.identity", tid)
        self.whose[tid] = view = replace(
            self.whose[tid], state="filed", how="match" if candidate else "prefix", filed_id=number, now_id=number,
            by=actor, at=self.clock.now(), until=0, sentence=f"Filed under {number}.",
        )  # fmt: skip
        self._show_who(tid)
        return view

    async def correct(self, tid: str, candidate: Candidate, confirmed: list[str], actor: str) -> IdentityView:
        told = (await self.compare(tid, candidate)).told
        person = self._confirm(tid, candidate, confirmed)
        await self.record(actor, f"incoming.{told}", tid)
        name = shown_name(person.name)
        said = (
            f"{person.patient_id} is {name}."
            if told == "update"
            else f"This is our patient {person.patient_id}."
        )
        change = ChangeView(
            kind=told, to_id=person.patient_id, to_issuer="", to_name=name, by=actor, at=self.clock.now(),
            state="waiting", note="", sentence=said,
        )  # fmt: skip
        old = self.whose[tid]
        self.whose[tid] = view = replace(
            old, changes=[*old.changes, change], now_id=person.patient_id, sentence=said
        )
        self._show_who(tid)
        return view

    def _both(self, tid: str, candidate: Candidate) -> tuple[Claim, Person]:
        s = entry(self.whose, tid).sender
        assert s is not None
        claim = Claim(
            patient_name=s.name, patient_id=s.patient_id, issuer=s.issuer, birth_date=s.birth_date, sex=s.sex,
            accession=s.accession, what=s.what, charset="",
        )  # fmt: skip
        person = read_person(
            patient_id=candidate.patient_id, issuer=candidate.issuer, name=candidate.name,
            birth_date=candidate.birth_date, sex=candidate.sex,
        )  # fmt: skip
        return claim, person

    def _confirm(self, tid: str, candidate: Candidate, confirmed: list[str]) -> Person:
        claim, person = self._both(tid, candidate)
        if not set(compare(claim, person).confirm) <= set(confirmed):
            raise UnconfirmedError
        return person
