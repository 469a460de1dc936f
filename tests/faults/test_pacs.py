"""PACS that break off, stall, answer late, refuse, and end: every image arrives as it was and is kept once, whatever
happens in between; what cannot be known is asked for, or is sent again and said.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from pynetdicom import evt

from clients.gateway.dicom.scu import Destination
from clients.gateway.receiving import destinations, storing
from clients.gateway.store.database import value
from clients.gateway.views import TransferView
from tests.faults.pacs import A_ABORT, OddPacs, hang_up, odd_pacs
from tests.programs import PATIENCE, write_study
from tests.wire import listening
from tests.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
IMAGES = 16
OK = 0x0000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """With a gateway that waits a second for an answer, and not long before it tries again, and asks nothing after the
    last image; the PACS is ours.
    """
    made = World(tmp_path_factory.mktemp("pacs"), commit="never")
    with pytest.MonkeyPatch.context() as patch:
        quick = partial(Destination, response=1.0, stall=1.0, association=5.0)
        patch.setattr(destinations, "Destination", quick)
        patch.setattr(storing, "RETRY_FIRST", 0.05)
        await made.open()
        await made.pacs.stop()
        yield made
        await made.close()


class Study:
    """One transfer."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.sent = write_study(folder, instances=IMAGES, side=128)
        self.folder = folder

    async def begin(self) -> None:
        """To the yes."""
        self.view = await self.world.offer(self.folder)
        await self.world.answer(self.view)

    async def end(self) -> tuple[TransferView, TransferView]:
        """Both sites' views of its end."""
        ends = "COMPLETE", "PARTIAL"
        tid = self.view.tid
        return await self.world.sender.until(tid, *ends), await self.world.receiver.until(tid, *ends)

    async def complete(self, pacs: OddPacs, *, twice: int = 0) -> TransferView:
        """The one good end; the PACS has each image byte for byte, and `twice` of them in two copies."""
        end, there = await self.end()
        assert (end.state, end.stored, end.gaps) == ("COMPLETE", IMAGES, 0)
        assert {uid: set(copies) for uid, copies in pacs.kept.items()} == {
            u: {h} for u, h in self.sent.items()
        }
        assert Counter(map(len, pacs.kept.values())) == +Counter({1: IMAGES - twice, 2: twice})
        return there

    async def account(self) -> str:
        """What the audit log says of the receipt."""
        subject = self.view.tid
        detail: str = await self.world.receiver.rooms.db.run(
            lambda con: value(
                con, "SELECT detail FROM audit WHERE action LIKE 'receipt.%' AND subject=?", (subject,)
            )
        )
        return detail


@pytest.fixture
def study(world: World, tmp_path: Path) -> Study:
    return Study(world, tmp_path / "study")


async def run(study: Study, pacs: OddPacs, *, twice: int = 0) -> TransferView:
    await study.begin()
    return await study.complete(pacs, twice=twice)


# In the middle of an image


@pytest.mark.parametrize("last", [A_ABORT, b""], ids=["A-ABORT", "reset"])
async def test_it_breaks_off_in_the_middle_of_an_image(world: World, study: Study, last: bytes) -> None:
    """Three times in a row at the same image, and at another: each is asked for, is not there, and is sent again."""
    parts: Counter[tuple[int, object]] = Counter()
    left = {2: 3, 7: 1}

    def while_it_comes(n: int, event: evt.Event) -> None:
        parts[n, event.assoc] += 1
        if parts[n, event.assoc] == 3 and left.get(n):  # the command, a part of the image, and no more
            left[n] -= 1
            hang_up(event, last)

    with odd_pacs(world.pacs_port, queries=True) as pacs:
        pacs.while_it_comes = while_it_comes
        await run(study, pacs)
        assert left == {2: 0, 7: 0}
        assert len(pacs.asked) == IMAGES, "what broke off was no request"
        assert len(pacs.queries) <= 4, "an end that was never handed over needs no question"
    assert await study.account() == "gaps 0, found 0, sent again 0"


async def test_it_stops_reading_in_the_middle_of_an_image(world: World, study: Study) -> None:
    go, stalled = threading.Event(), threading.Event()

    def while_it_comes(n: int, event: evt.Event) -> None:
        if n == 4 and not stalled.is_set():
            stalled.set()
            go.wait(PATIENCE)

    with odd_pacs(world.pacs_port, queries=True) as pacs:
        pacs.while_it_comes = while_it_comes
        try:
            await run(study, pacs)
            assert stalled.is_set()
        finally:
            go.set()


# After the image, before the answer


def stores_and(then: Callable[[OddPacs, evt.Event], object], *numbers: int) -> Callable[[OddPacs], None]:
    """A PACS that has the image, and then does not simply say so."""

    def teach(pacs: OddPacs) -> None:
        def manner(n: int, event: evt.Event) -> int:
            if n not in numbers:
                return OK
            pacs.keep(event)
            then(pacs, event)
            return 0xC000  # which nobody hears

        pacs.manner = manner

    return teach


async def test_it_stores_and_breaks_off_and_can_be_asked(world: World, study: Study) -> None:
    """Twice in a row, and once more: nothing is sent twice."""
    with odd_pacs(world.pacs_port, queries=True) as pacs:
        stores_and(lambda _, event: hang_up(event, A_ABORT), 2, 3, 9)(pacs)
        there = await run(study, pacs)
        assert sorted(pacs.asked) == sorted(study.sent)
        assert pacs.queries == [pacs.asked[n] for n in (2, 3, 9)]
    assert there.sentence == "Every image is in the PACS."
    assert await study.account() == "gaps 0, found 3, sent again 0"


async def test_it_stores_and_breaks_off_and_cannot_be_asked(world: World, study: Study) -> None:
    """They are sent again, once each, and that is said."""
    with odd_pacs(world.pacs_port) as pacs:
        stores_and(lambda _, event: hang_up(event), 2, 9)(pacs)
        there = await run(study, pacs, twice=2)
        assert len(pacs.asked) == IMAGES + 2
        assert {uid for uid, copies in pacs.kept.items() if len(copies) == 2} == {
            pacs.asked[2],
            pacs.asked[9],
        }
    assert there.sentence.endswith("2 images that may have been there already were sent again.")
    assert await study.account() == "gaps 0, found 0, sent again 2"
    await world.receiver.close()
    await world.receiver.open()  # which remembers for a minute that there is nobody to ask


async def test_it_stores_and_answers_too_late(world: World, study: Study) -> None:
    """Its answer comes after our time-out, on an association that is gone: found, and not sent again."""
    go = threading.Event()
    with odd_pacs(world.pacs_port, queries=True) as pacs:
        stores_and(lambda *_: go.wait(PATIENCE), 5)(pacs)
        try:
            await run(study, pacs)
        finally:
            go.set()
        assert sorted(pacs.asked) == sorted(study.sent)
    assert await study.account() == "gaps 0, found 1, sent again 0"


async def test_it_stores_nothing_and_answers_too_late(world: World, study: Study) -> None:
    """What it says then is heard by nobody: not there, so sent again."""
    go = threading.Event()

    def manner(n: int, event: evt.Event) -> int:
        if n == 5:
            go.wait(PATIENCE)
            return 0xC000
        return OK

    with odd_pacs(world.pacs_port, queries=True) as pacs:
        pacs.manner = manner
        try:
            await run(study, pacs)
        finally:
            go.set()
        assert pacs.asked.count(pacs.asked[5]) == 2


# Each class of status, all in one study


async def test_each_class_of_status(world: World, study: Study) -> None:
    """Stored with or without a note; busy and asked again; refused for good and not asked again."""
    stored, busy = (OK, 0xB000, 0xB006, 0xB007, 0x0111), (0xA700, 0xA7FF, 0x0110, 0x0213)
    refused = (0xA900, 0xC000, 0xC123, 0x0122, 0x0124, 0x0117)
    says = dict(enumerate((*stored, *busy, *refused)))
    order: dict[str, int] = {}
    with odd_pacs(world.pacs_port, queries=True) as pacs:

        def manner(n: int, event: evt.Event) -> int:
            """To an image's first request; what it was too busy for may come again before the others have come."""
            uid = pacs.asked[n]
            known = uid in order
            return OK if known else says.get(order.setdefault(uid, len(order)), OK)

        pacs.manner = manner
        await study.begin()
        end, there = await study.end()
        first = {n: uid for uid, n in order.items() if n in says}
    assert (end.state, end.stored, end.gaps) == ("PARTIAL", IMAGES - len(refused), len(refused))
    assert (there.why, there.gaps, there.receipt_code) == ("pacs", len(refused), end.receipt_code)
    asked = Counter(pacs.asked)
    assert {says[n] for n, uid in first.items() if asked[uid] > 1} == set(busy)
    assert asked.total() == IMAGES + len(busy)
    assert pacs.queries == [], "every answer is an answer"
    assert all(f"status {status:04X}" in there.sentence for status in stored[1:])
    ledger = dict(
        await world.receiver.rooms.db.run(
            lambda con: con.execute("SELECT sop_uid, state || ' ' || status FROM ledger").fetchall()
        )
    )
    for n, status in says.items():
        word = (
            f"stored {status}"
            if status in stored
            else f"failed {status}"
            if status in refused
            else "stored 0"
        )
        assert ledger[first[n]] == word


# It ends, and is there again


async def test_it_ends_again_and_again(world: World, study: Study) -> None:
    """After a third, two thirds, and the last image, each of which it has stored without a word."""
    pacs, went = OddPacs(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end(_: OddPacs, event: evt.Event) -> None:
        loop.call_soon_threadsafe(went.set)
        hang_up(event)

    stores_and(end, 3, 7, 11)(pacs)

    async def serve() -> None:
        while True:
            with odd_pacs(world.pacs_port, again=pacs, queries=True):
                await went.wait()
                went.clear()

    serving = asyncio.create_task(serve())
    try:
        await run(study, pacs)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    assert sorted(pacs.asked) == sorted(study.sent)
    assert await study.account() == "gaps 0, found 3, sent again 0"


# The association


@pytest.mark.parametrize(
    ("last", "says"), [(A_ABORT, "as it begins"), (None, "does not answer")], ids=["A-ABORT", "silent"]
)
async def test_it_takes_no_association_until_it_does(
    world: World, study: Study, last: bytes | None, says: str
) -> None:
    """It ends each at once, or says nothing to any: staff are told which, and all arrives once it works."""
    pacs, tid = OddPacs(), ""

    async def told() -> bool | None:
        return any(says in alarm for alarm in (await world.receiver.engine.transfer(tid)).alarms) or None

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)
        writer.write(last or b"")
        if last is None:
            await reader.read()  # until we give up

    async with listening(answer, world.pacs_port):
        await study.begin()
        tid = study.view.tid
        await world.receiver.eventually(told)
    with odd_pacs(world.pacs_port, again=pacs, queries=True):
        await study.complete(pacs)


async def test_it_is_slow(world: World, study: Study) -> None:
    """It takes its time for every part of an image, and never so long that it counts as silent."""
    with odd_pacs(world.pacs_port, queries=True) as pacs:
        pacs.while_it_comes = lambda n, event: time.sleep(0.05)
        await run(study, pacs)


# It can be asked, and the asking fails


async def test_it_breaks_off_every_query(world: World, study: Study) -> None:
    """As Orthanc does with whom it does not know."""
    with odd_pacs(world.pacs_port, queries=True) as pacs:
        stores_and(lambda _, event: hang_up(event), 4)(pacs)
        pacs.before_it_answers = hang_up
        there = await run(study, pacs, twice=1)
    assert there.sentence.endswith("1 image that may have been there already was sent again.")
