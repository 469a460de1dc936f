"""Staff say whose images a received study is: asked before anything is stored, or learned afterwards.

Before (`match`): the sender's patient beside this hospital's, two identifiers confirmed (`comparing`), and what is
written is the number with its issuer. The name, the birth date and the sex stay as the sender wrote them unless staff
want them written too: they are what somebody at the PACS sees that a match was wrong by (docs/adr/0019).

Afterwards: what went under a number of ours is another's, or the number is right and the person behind it is known now.
The same comparison, the same confirmation; then the hospital's systems are told (`merging`), and nothing is sent again.
"""

from __future__ import annotations

import msgspec

from clients.gateway.clock import Clock
from clients.gateway.config import Config, split_address
from clients.gateway.dicom.coercion import Local, encoded
from clients.gateway.dicom.header import encodings_of
from clients.gateway.dicom.person import (
    Person,
    PersonError,
    read_name,
    read_number,
    read_person,
    shown_date,
    shown_name,
)
from clients.gateway.dicom.scu import Destination
from clients.gateway.dicom.tls import tls_files
from clients.gateway.dicom.worklist import Query, Worklist, trouble
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.receiving.claim import Claim, presented
from clients.gateway.receiving.comparing import Comparison, compare, unknown
from clients.gateway.receiving.identity import WAITS, Frozen, Identities, Policy, frozen_of
from clients.gateway.receiving.merging import (
    IdentityChange,
    Kind,
    Standing,
    book,
    changes_of,
    standing,
)
from clients.gateway.store.database import Con, Database, one, value
from clients.gateway.whose import (
    Candidate,
    ChangeView,
    ComparisonView,
    IdentityView,
    SenderView,
    WorklistView,
)
from transfer.ids import Tid
from transfer.states import OPEN_RECEIVER, TERMINAL

MAX_CONFIRMED = 16


def worklist_of(config: Config) -> Destination | None:
    """Where the worklist is, if one is set; with less patience than for images, since a person waits."""
    if (given := config.worklist) is None:
        return None
    host, port = split_address(given.address)
    return Destination(
        aet=given.aet, host=host, port=port, calling_aet=config.dicom.aet, connect=5.0, association=8.0, response=10.0,
        stall=8.0, tls=tls_files(given, given.tls_name),
    )  # fmt: skip


class UnconfirmedError(GatewayError):
    """Not everything was confirmed, so nothing was done. Compare both sides, and confirm each line for itself."""

    code = "unconfirmed"


class NotAskedError(GatewayError):
    """Nobody is asked any more who this patient is. Reload the page to see what was decided."""

    code = "not-asked"


_NOT_YET = (
    "The images of this transfer are still on their way. Say whose they are when it has ended.", "merge-open"
)  # fmt: skip
_AS_IS = (
    "These images carry the sender's own number, which may be another patient's here: no message can move them"
    " safely. Have the PACS administrator move this one study.",
    "merge-as-is",
)


class Reconciling:
    """What staff ask and say, for all received transfers."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        identities: Identities,
        worklist: Worklist,
        policy: Policy,
        issuer: str,
    ) -> None:
        self._db, self._clock, self._identities, self._worklist = db, clock, identities, worklist
        self._policy, self._issuer = policy, issuer

    async def view(self, tid: Tid) -> IdentityView:
        """Whose images a transfer is. Raises `AbsentError`."""
        return await self._db.run(lambda con: self.view_of(con, tid))

    def view_of(self, con: Con, tid: Tid) -> IdentityView:
        """The same, within a transaction."""
        row = one(con, "SELECT state, why FROM receives WHERE tid=?", (tid,))
        if row is None:
            raise AbsentError
        said, frozen, changes = presented(con, tid), frozen_of(con, tid), changes_of(con, tid)
        asked = row["state"] == "OPENED" and row["why"] == WAITS and frozen is None
        filed = _filed(frozen, said[0] if said is not None else None)
        known = standing(filed, False, changes).known
        open_now = "sealed" if row["state"] in OPEN_RECEIVER else "unknown"
        state = "filed" if frozen is not None else "waits" if asked else open_now
        how = _how(frozen)
        return IdentityView(
            state=state, how=how, filed_id=filed.patient_id, filed_issuer=filed.issuer,
            now_id=known.patient_id, now_issuer=known.issuer,
            by=frozen.by if frozen is not None else "", at=frozen.at if frozen is not None else 0,
            sender=_sender_view(said[0]) if said is not None else None,
            until=self._identities.until(said[1]) if asked and said is not None else 0,
            worklist=self._worklist.is_set, changes=[_change_view(c) for c in changes],
            others=_others(con, tid, known.patient_id) if how in ("prefix", "match") else 0,
            sentence=sentence(state, how, filed, frozen.by if frozen is not None else "", changes, self._policy),
        )  # fmt: skip

    async def search(self, patient_id: str, accession: str, name: str) -> WorklistView:
        """The hospital's worklist. Raises `WorklistError`, `PersonError`."""
        query = Query(
            patient_id=read_number(patient_id) if patient_id.strip() else "",
            accession=read_accession(accession),
            name=_asked_name(name),
        )
        if query.name and not (query.patient_id or query.accession) and unknown(shown_name(query.name)):
            raise trouble("worklist-doe")
        return await self._worklist.search(query)

    async def compare(self, tid: Tid, candidate: Candidate) -> ComparisonView:
        """Both patients side by side. Raises `AbsentError`, `PersonError`; once it is stored, `GatewayError`
        (`merge-...`) where there is nothing to say of it.
        """
        sender = await self._sender(tid)
        person = self._read(candidate, sender)
        stands = await self._db.run(lambda con: _stands(con, tid, sender))
        if stands is None:
            return compare(sender, person).view(person, again=candidate.source == "typed")
        kind, person = stands.plan(person)
        again = kind == "merge" and candidate.source == "typed"
        return compare(sender, person, ours=not stands.alone).view(person, again=again, told=kind)

    async def choose(
        self, tid: Tid, candidate: Candidate | None, confirmed: list[str], actor: str
    ) -> IdentityView:
        """Before anything is stored: this patient, with all of the comparison confirmed; or, for None, nobody knows
        yet. Raises `NotAskedError`, `UnconfirmedError`, `PersonError`, `AbsentError`.
        """
        if (await self.view(tid)).state != "waits":
            raise NotAskedError
        if candidate is None:
            await self._identities.choose(tid, None, actor)
            return await self.view(tid)
        sender = await self._sender(tid)
        person = self._read(candidate, sender)
        done = _confirmed(compare(sender, person), confirmed)
        local = Local(patient_id=person.patient_id, issuer=person.issuer)
        if candidate.whole:
            local = msgspec.structs.replace(
                local,
                patient_name=person.name or None,
                birth_date=person.birth_date or None,
                sex=person.sex or None,
            )
        await self._identities.choose(tid, local, actor, f"{candidate.source}, {done}")
        return await self.view(tid)

    async def correct(self, tid: Tid, candidate: Candidate, confirmed: list[str], actor: str) -> IdentityView:
        """After it was stored: it is this patient. Raises `GatewayError` (`merge-...`), `UnconfirmedError`,
        `PersonError`, `AbsentError`.
        """
        sender = await self._sender(tid)
        person = self._read(candidate, sender)
        now = self._clock.now()

        def work(con: Con) -> None:
            stands = _stands(con, tid, sender)
            if stands is None:
                raise AbsentError
            _, to = stands.plan(person)
            _confirmed(compare(sender, to, ours=not stands.alone), confirmed)
            change = IdentityChange(
                id=0, tid=tid, from_id=stands.known.patient_id, from_issuer=stands.known.issuer, to_id=to.patient_id,
                to_issuer=to.issuer, to_name=to.name, to_birth_date=to.birth_date, to_sex=to.sex, by=actor, at=now,
                state="waiting", note="",
            )  # fmt: skip
            book(con, change)

        await self._db.run(work)
        self._identities.decided.set()
        return await self.view(tid)

    async def _sender(self, tid: Tid) -> Claim:
        said = await self._db.run(lambda con: presented(con, tid))
        if said is None:
            raise AbsentError
        return said[0]

    def _read(self, candidate: Candidate, sender: Claim) -> Person:
        """The candidate as a patient; one whose name is to be written must be writable in this study."""
        person = read_person(
            patient_id=candidate.patient_id, issuer=candidate.issuer or self._issuer, name=candidate.name,
            birth_date=candidate.birth_date, sex=candidate.sex,
        )  # fmt: skip
        if (
            candidate.whole
            and encoded(person.name, encodings_of(sender.charset.encode("ascii", "replace"))) is None
        ):
            raise PersonError(
                "The name has letters that this study's character set does not have. Write it with plain letters,"
                " or leave the name in the images as it is.",
                code="name-letters",
            )
        return person


def read_accession(text: str) -> str:
    """An accession number to ask for (PS3.5 6.2, SH), or nothing. Raises `PersonError`."""
    text = text.strip(" ")
    if len(text) > 16 or not all(" " <= c <= "~" and c not in "\\*?" for c in text):
        raise PersonError(
            "An accession number has at most 16 plain letters and digits. Type it by hand.", code="accession"
        )
    return text


def _asked_name(text: str) -> str:
    """The beginning of a name, without what has a meaning in a query (PS3.4 C.2.2.2.4)."""
    name = read_name(text)
    if "*" in name or "?" in name:
        raise PersonError("Type the beginning of the name, without * and ?.", code="name-character")
    return name


def _confirmed(made: Comparison, confirmed: list[str]) -> str:
    """What was confirmed, for the audit log. Raises `UnconfirmedError` where something is missing."""
    if not set(made.confirm) <= set(confirmed[:MAX_CONFIRMED]):
        raise UnconfirmedError
    return "confirmed " + " ".join(made.confirm)


def _stands(con: Con, tid: Tid, sender: Claim) -> Standing | None:
    """Whose stored images are by now; None where nothing is stored yet. Raises `GatewayError` where that can not be
    said any more, or not yet.
    """
    row, frozen = one(con, "SELECT state FROM receives WHERE tid=?", (tid,)), frozen_of(con, tid)
    if row is None or frozen is None:
        return None
    if row["state"] not in TERMINAL:
        raise GatewayError(_NOT_YET[0], code=_NOT_YET[1])
    if frozen.change is None:
        raise GatewayError(_AS_IS[0], code=_AS_IS[1])
    return standing(_filed(frozen, sender), _how(frozen) == "prefix", changes_of(con, tid))


def _how(frozen: Frozen | None) -> str:
    if frozen is None:
        return ""
    if frozen.change is None:
        return "as-is"
    return "prefix" if frozen.by == "gateway" else "match"


def _filed(frozen: Frozen | None, sender: Claim | None) -> Person:
    """What the images are filed under: what was written, else what the sender wrote."""
    if frozen is None:
        return Person(patient_id="")
    own = _own(sender) if sender is not None else Person(patient_id="")
    if frozen.change is None:
        return own
    local = frozen.change.local
    return Person(
        patient_id=local.patient_id, issuer=own.issuer if local.issuer is None else local.issuer,
        name=local.patient_name or own.name, birth_date=local.birth_date or own.birth_date, sex=local.sex or own.sex,
    )  # fmt: skip


def _own(sender: Claim) -> Person:
    """The sender's patient, in the form of one of ours."""
    family, _, given = sender.patient_name.partition(", ")
    return Person(
        patient_id=sender.patient_id, issuer=sender.issuer, name=f"{family}^{given.replace(' ', '^')}".rstrip("^"),
        birth_date=sender.birth_date.replace("-", ""), sex=sender.sex,
    )  # fmt: skip


def _others(con: Con, tid: Tid, number: str) -> int:
    found = value(
        con, "SELECT count(*) FROM identities WHERE tid<>? AND change<>x'' AND"
        " json_extract(CAST(change AS TEXT), '$.local.patient_id')=?", (tid, number),
    )  # fmt: skip
    return int(found)


def _sender_view(s: Claim) -> SenderView:
    return SenderView(
        name=s.patient_name, patient_id=s.patient_id, issuer=s.issuer, birth_date=s.birth_date, sex=s.sex,
        accession=s.accession, what=s.what,
    )  # fmt: skip


def _change_view(c: IdentityChange) -> ChangeView:
    return ChangeView(
        kind=c.kind, to_id=c.to_id, to_issuer=c.to_issuer, to_name=shown_name(c.to_name), by=c.by, at=c.at,
        state=c.state, note=c.note, sentence=_said(c),
    )  # fmt: skip


_TOLD = {
    "waiting": "The hospital's systems have not been told yet; where no HL7 is set, {hand}.",
    "sent": "The hospital's systems were told.",
    "failed": "The hospital's systems did not take it: {hand}.",
}
_HANDS: dict[Kind, str] = {"merge": "merge the two by hand", "update": "enter it by hand"}


def _said(c: IdentityChange) -> str:
    """Who said what of a patient afterwards, and whether the hospital's systems know it."""
    to = _numbered(c.to_id, c.to_issuer)
    who = ", ".join(x for x in (shown_name(c.to_name), shown_date(c.to_birth_date), c.to_sex) if x)
    what = f"this is our patient {to}" if c.kind == "merge" else f"the patient of {to} is {who}"
    return f"{c.by} said that {what}. {_TOLD[c.state].format(hand=_HANDS[c.kind])}"


def _numbered(number: str, issuer: str) -> str:
    return f"{number} ({issuer})" if issuer else number


def sentence(
    state: str, how: str, filed: Person, by: str, changes: list[IdentityChange], policy: Policy
) -> str:
    """Under whose number the images are, with the next step. True for this transfer, whatever the policy is now."""
    number = _numbered(filed.patient_id, filed.issuer)
    if changes:
        return f"Filed under {number}; {_said(changes[-1])}"
    if state == "waits":
        return "Nothing is stored yet: somebody here has to say who this patient is."
    if how == "as-is":
        return (
            "Not for clinical use before reconciliation: filed under the sender's own number, unchanged,"
            " which may be another patient's here."
        )
    if how == "prefix":
        return f"Filed under our number {number} of the sender's patient. Merge it when you know who it is."
    if how == "match":
        return f"Filed under our patient {number}, as {by} confirmed."
    return EXPECTED[policy] if state == "sealed" else ""


EXPECTED: dict[Policy, str] = {
    "prefix": "It will be filed under our number of the sender's patient; merge it when you know who it is.",
    "match": "Nothing will be stored before somebody here has said who the patient is.",
    "as-is": "Not for clinical use before reconciliation: it will be filed under the sender's own number, unchanged.",
}
"""What will become of a transfer that is not opened yet."""
