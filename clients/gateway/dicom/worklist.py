"""This hospital's modality worklist (PS3.4 K), this side of the door: who is expected or being treated here, asked by
staff who look for the patient of a received study.

A search is rare, a person waits for it, and the other side is a RIS or its broker, not the PACS: each search is a
child of its own, gone when it is over. It ends by itself, within `PATIENCE` seconds and after `MOST` answers.

What comes back is sifted. An answer whose number or accession is not the one that was asked for is another patient's
and is dropped (a broker that ignores a key it does not know answers with its whole day); one with another name than
asked for is shown as that, for brokers match names by sound too. None is ever chosen here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import msgspec

from clients.gateway.dicom.door import Door, DoorClosedError
from clients.gateway.dicom.person import (
    Person,
    PersonError,
    read_date,
    read_issuer,
    read_name,
    read_number,
    read_sex,
    shown_date,
    shown_name,
)
from clients.gateway.dicom.scu import Destination, Line
from clients.gateway.errors import GatewayError
from clients.gateway.whose import WorklistItem, WorklistView

MOST = 50
"""Answers that are read; a person would not read more."""
PATIENCE = 25.0
"""Seconds for one search, the start of its child included."""
_AT_ONCE = 2


class WorklistError(GatewayError):
    """The worklist does not answer. Type the patient's number, and call whoever runs the worklist."""

    code = "worklist-down"


_SENTENCES = {
    "worklist-none": "No worklist is set here. Type the patient's number, or set [worklist] in gateway.toml.",
    "worklist-down": "The worklist cannot be reached at its address. Type the patient's number; check [worklist].",
    "worklist-silent": "The worklist takes the connection but does not answer. Type the patient's number.",
    "worklist-called-aet": "The worklist goes by another AE title. Correct worklist.aet in gateway.toml.",
    "worklist-calling-aet": "The worklist does not know this gateway's AE title. Have its administrator add it.",
    "worklist-rejected": "The worklist refused the connection. Have its administrator look at its log.",
    "worklist-busy": "The worklist takes no more connections just now. Wait a moment and search again.",
    "worklist-context": "That system answers no worklist queries. Correct [worklist] in gateway.toml.",
    "worklist-tls": "No TLS connection to the worklist comes about. Check the certificates of [worklist].",
    "worklist-late": "The worklist did not answer in time. Search for less, or type the patient's number.",
    "worklist-lost": "The worklist ended the connection before it had answered. Search again.",
    "worklist-status": "The worklist could not answer this search. Search for something else.",
    "worklist-child": "The search ended before it was done. Search again.",
    "worklist-words": "Nothing was asked for. Give a number, an accession number or a name of two letters or more.",
    "worklist-doe": "Nobody is found by the name of an unknown patient: several have it. Search by a number.",
}
_TROUBLES = {
    "pacs-down": "worklist-down", "pacs-silent": "worklist-silent", "pacs-called-aet": "worklist-called-aet",
    "pacs-calling-aet": "worklist-calling-aet", "pacs-busy": "worklist-busy", "pacs-rejected": "worklist-rejected",
    "pacs-context": "worklist-context", "pacs-late": "worklist-late", "pacs-lost": "worklist-lost",
    "dicom-child": "worklist-child",
}  # fmt: skip


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; at least one. Each must fit."""

    patient_id: str = ""
    accession: str = ""
    name: str = ""
    """The beginning of a name, as DICOM writes it."""


class Ask(Line, frozen=True):
    """The first line to the child, and the only one."""

    destination: Destination
    query: Query


class Answer(Line, frozen=True, kw_only=True):
    """One pending response, as its texts are."""

    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str
    accession: str
    what: str
    scheduled: str


class Unreadable(Line, frozen=True):
    """One that is no identifier of a worklist."""


class End(Line, frozen=True):
    """The last line: a status, or what stood in its way. `more`: it would have gone on."""

    status: int | None
    trouble: str = ""
    more: bool = False


Said = Answer | Unreadable | End


class Worklist:
    """Searches one worklist; None: there is none."""

    def __init__(self, destination: Destination | None, patience: float = PATIENCE) -> None:
        self._destination, self._patience = destination, patience
        self._room = asyncio.Semaphore(_AT_ONCE)

    @property
    def is_set(self) -> bool:
        """Whether there is one to search."""
        return self._destination is not None

    async def search(self, query: Query) -> WorklistView:
        """What it has. Raises `WorklistError`, `PersonError` (for a number that cannot be one)."""
        if self._destination is None:
            raise trouble("worklist-none")
        if not (query.patient_id or query.accession or len(query.name.strip()) > 1):
            raise trouble("worklist-words")
        door: Door[Said] = Door("clients.gateway.dicom.worklist_child", Said)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(self._patience), self._room:
                said = await self._ask(door, Ask(self._destination, query))
        except TimeoutError:
            raise trouble("worklist-late") from None
        except DoorClosedError:
            raise trouble("worklist-child") from None
        finally:
            await door.close(0)
        end = said.pop()
        assert isinstance(end, End)
        if end.status is None:
            code = "worklist-tls" if end.trouble.startswith(("pacs-tls", "pacs-cert")) else end.trouble
            raise trouble(_TROUBLES.get(code, code if code in _SENTENCES else "worklist-child"))
        if end.status != 0x0000 and not end.more:
            raise trouble("worklist-status")
        return sift(query, said, more=end.more)

    async def _ask(self, door: Door[Said], ask: Ask) -> list[Said]:
        """All that the child says; the last is an `End`."""
        said = [await door.open(ask)]
        while not isinstance(said[-1], End):
            if len(said) > MOST + 1:
                raise DoorClosedError
            said.append(await door.receive())
        return said


def trouble(code: str) -> WorklistError:
    """The error of a code."""
    return WorklistError(_SENTENCES[code], code=code)


def sift(query: Query, said: list[Said], *, more: bool) -> WorklistView:
    """The answers that may be shown."""
    items = [
        item for answer in said if isinstance(answer, Answer) and (item := _item(query, answer)) is not None
    ]
    return WorklistView(items=items, dropped=len(said) - len(items), more=more)


def _item(query: Query, answer: Answer) -> WorklistItem | None:
    """An answer as people read it; None for another patient's, or one that no study can be filed under. A name, a date
    or a sex that cannot be read is one that the worklist does not say.
    """
    try:
        person = Person(
            patient_id=read_number(answer.patient_id), issuer=read_issuer(answer.issuer),
            name=_or_nothing(read_name, answer.name), birth_date=_or_nothing(read_date, answer.birth_date),
            sex=_or_nothing(read_sex, answer.sex),
        )  # fmt: skip
    except PersonError:
        return None
    if query.patient_id and person.patient_id != query.patient_id:
        return None
    if query.accession and answer.accession.strip(" ") != query.accession:
        return None
    return WorklistItem(
        patient_id=person.patient_id, issuer=person.issuer, name=person.name, shown_name=shown_name(person.name),
        birth_date=shown_date(person.birth_date), sex=person.sex, accession=_plain(answer.accession),
        what=_plain(answer.what), scheduled=_plain(answer.scheduled), fits=_begins(person.name, query.name),
    )  # fmt: skip


def _or_nothing(read: Callable[[str], str], text: str) -> str:
    try:
        return read(text)
    except PersonError:
        return ""


def _begins(name: str, asked: str) -> bool:
    """Whether a name begins as asked for, in any case and in any of its groups (PS3.4 C.2.2.2.1)."""
    return any(_letters(group).startswith(_letters(asked)) for group in name.split("="))


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold())


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:200]
