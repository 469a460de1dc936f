"""`clients.gateway.receiving.storing`: one instance at one destination, by a PACS that answers as it was told to.

With real associations: test_gateway_receiving_delivery.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from clients.gateway.clock import Signal
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.dicom.statuses import FindResult, StoreResult, troubled
from clients.gateway.receiving import storing
from clients.gateway.receiving.commitment import Commitments
from clients.gateway.receiving.holdings import Holdings
from clients.gateway.receiving.ledger import Ledger
from clients.gateway.receiving.proving import Prover
from clients.gateway.receiving.storing import Ready, Storing
from clients.gateway.receiving.transcoding import Transcoder
from clients.gateway.store.database import Database
from tests.gateway_kit import StillClock
from transfer.ids import Digest, Tid
from transfer.messages import ItemEntry

OK = StoreResult(0, "ok", "")
WARNED = StoreResult(0xB000, "warning", "It was changed.")
REFUSED = StoreResult(0xA900, "refused", "It does not fit.")
BUSY = StoreResult(0xA700, "retry", "The PACS is out of resources.")
LOST = troubled("pacs-lost")
DEADLINE = 100


class Told:
    """A PACS that answers C-STORE and C-FIND by a list, the last one for ever."""

    def __init__(self) -> None:
        self.answers, self.finds, self.said = [OK], [FindResult(None, "", "pacs-context")], list[str]()
        self.at_once = self.most = 0

    async def store(self, *_: object) -> StoreResult:
        self.said.append("store")
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def find(self, *_: object) -> FindResult:
        self.said.append("find")
        return self.finds.pop(0) if len(self.finds) > 1 else self.finds[0]


class Room:
    """A destination, its ledger with two items, and what staff were told."""

    def __init__(self, db: Database, name: str = "") -> None:
        self.pacs, self.clock, self.told = Told(), StillClock(), list[tuple[str, str]]()
        scu = cast(StoreScu, self.pacs)
        self.ledger = Ledger(Tid(b"t" * 16), "PACS@here", db, self.clock, Signal())
        self.storing = Storing(
            name, scu, self.ledger, Transcoder(), Holdings(db, self.clock), Prover(db, scu, Commitments(), 0.0),
            clock=self.clock, deadline=DEADLINE, alarm=self.alarm,
        )  # fmt: skip
        self.ready = [ready(n) for n in range(2)]
        self.step = DEADLINE // 2
        """Seconds from one try that failed to the next."""

    async def alarm(self, code: str, sentence: str) -> None:
        self.told.append((code, sentence))
        self.clock.at += self.step

    async def store(self, n: int = 0) -> Any:
        """What the ledger says of it then."""
        await self.storing.store(self.ready[n])
        return self.ledger._results[-1] if self.ledger._results else None


def ready(n: int) -> Ready:
    item = ItemEntry(n, 0, "1.2", f"1.2.{n}", "1.2.840.10008.1.2.1", "raw", 0, 1, 1, Digest(bytes([n]) * 32))
    header = InstanceHeader(
        sop_class="1.2", sop_uid=f"1.2.{n}", syntax="1.2.840.10008.1.2.1", study_uid="1.3", series_uid="1.4",
        data_offset=0, size=1,
    )  # fmt: skip
    return Ready(item, Path("/nowhere"), header)


@pytest.fixture
def room(db: Database, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.0)
    made = Room(db)
    made.storing.begin()
    return made


@pytest.mark.parametrize(
    ("answers", "proof", "status", "note", "sends"),
    [
        ([OK], "store", 0, "", 1),
        ([WARNED], "store", 0xB000, "", 1),
        ([BUSY, OK], "store", 0, "", 2),
        ([REFUSED], "", 0xA900, "refused", 1),
        ([BUSY], "", 0xA700, "retry", 3),
    ],
    ids=["stored", "with a warning", "busy, then stored", "refused", "busy for the whole deadline"],
)
async def test_what_becomes_of_an_instance(
    room: Room, answers: list[StoreResult], proof: str, status: int, note: str, sends: int
) -> None:
    room.pacs.answers = answers
    result = await room.store()
    assert (result.proof, result.status, result.note) == (proof, status, note)
    assert (result.study_uid, result.series_uid) == ("1.3", "1.4")
    assert room.pacs.said == ["store"] * sends
    assert len(room.told) == sends - 1, "each try that failed is said, but for the last"


async def test_what_may_be_there_is_asked_for_before_it_is_sent_again(room: Room) -> None:
    room.pacs.answers, room.pacs.finds = [LOST, OK], [FindResult(True, "")]
    result = await room.store()
    assert (result.proof, room.pacs.said) == ("find", ["store", "find"])
    room.pacs.answers, room.pacs.finds, room.pacs.said = (
        [LOST, OK],
        [FindResult(None, "", "pacs-context")],
        [],
    )
    result = await room.store(1)
    assert (result.proof, result.note, room.pacs.said) == ("store", "resent", ["store", "find", "store"])


async def test_the_first_goes_alone_and_then_all_at_once(room: Room) -> None:
    """Given a new patient by two at once, a PACS may make two."""
    await asyncio.gather(*map(room.storing.store, room.ready))
    assert room.pacs.most == 1
    await asyncio.gather(*map(room.storing.store, room.ready))
    assert room.pacs.most == 2


async def test_one_that_is_away_does_not_hold_up_the_others(room: Room) -> None:
    room.storing.patient, room.step = False, 1
    room.pacs.answers = [BUSY]
    assert await room.store() is None, "later"
    assert len(room.pacs.said) == 2
    assert (room.storing.missed, room.storing.takes()) == (True, False)
    assert 0 in room.ledger.unknown
    room.storing.begin()
    assert 0 not in room.ledger.unknown, "it was refused for want of room, so it is not there"


async def test_staff_read_which_destination_it_is_where_there_are_several(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.0)
    room = Room(db, "second")
    room.storing.begin()
    room.pacs.answers = [BUSY, OK]
    await room.store()
    assert room.told == [("pacs-second", f"Destination second: {BUSY.sentence}")]
