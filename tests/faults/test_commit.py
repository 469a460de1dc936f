"""Storage commitment of whole transfers, against PACS that commit and PACS that do odd things about it: COMPLETE means
committed where the PACS can commit; nothing is sent again that is not lost; nobody waits without end.
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import evt

from clients.gateway.dicom.scu import Destination
from clients.gateway.receiving import destinations, proving
from clients.gateway.store.database import rows
from clients.gateway.views import TransferView
from tests.dicom_kit import free_port
from tests.faults.committing import ABSENT, CommittingPacs, committing_pacs, honest
from tests.faults.pacs import hang_up
from tests.faults.real_pacs import orthanc
from tests.programs import PATIENCE, write_study
from tests.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
IMAGES = 6
OK = 0x0000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The PACS is ours; an archive lists what it has at once."""
    made = World(tmp_path_factory.mktemp("commit"))
    with pytest.MonkeyPatch.context() as patch:
        quick = partial(Destination, response=2.0, stall=2.0, association=10.0)
        patch.setattr(destinations, "Destination", quick)
        patch.setattr(proving, "_LAG", 0.0)
        patch.setattr(proving, "_PAUSE_FIRST", 0.05)
        await made.open()
        await made.pacs.stop()
        yield made
        await made.close()


class Study:
    """One study, which may be sent more than once."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.sent = write_study(folder, instances=IMAGES, side=32)
        self.uids = sorted(self.sent)

    async def send(self) -> tuple[TransferView, TransferView]:
        """Both sites' views of the end of a transfer of it."""
        view = await self.world.offer(self.folder)
        await self.world.answer(view)
        return (
            await self.world.sender.until(view.tid, "COMPLETE", "PARTIAL"),
            await self.world.receiver.until(view.tid, "COMPLETE", "PARTIAL"),
        )

    def seen(self, pacs: CommittingPacs) -> dict[str, int]:
        """How often each image came."""
        return dict(Counter(pacs.asked))


@pytest.fixture
def study(world: World, tmp_path: Path) -> Study:
    rooms = world.receiver.rooms
    rooms.commitments._rests.clear()  # what a PACS of another test could not do
    rooms.commitments._able.clear()
    return Study(world, tmp_path / "study")


def our_port(world: World) -> int:
    address = world.receiver.rooms.scp_address
    assert address is not None
    return address[1]


def patience(world: World, seconds: float) -> None:
    """How long a report may take."""
    at = world.receiver.rooms.destinations
    assert at is not None
    for table in (at._by_name, at._by_key):
        for key, pacs in table.items():
            table[key] = destinations.Pacs(pacs.name, pacs.key, pacs.scu, pacs.tls, seconds)
    at.default = at._by_name[at.default.name]


async def proofs(world: World, view: TransferView) -> Counter[str]:
    """Of each image; the note of those that are missing."""
    tid = bytes.fromhex(view.tid)
    found = await world.receiver.rooms.db.run(
        lambda con: rows(con, "SELECT proof, note FROM ledger WHERE tid=?", (tid,))
    )
    return Counter(r["proof"] or r["note"] for r in found)


@pytest.fixture(autouse=True)
def _patient(world: World) -> None:
    patience(world, PATIENCE)


# PACS that commit


@asynccontextmanager
async def new_child(world: World, port: int = 0) -> AsyncIterator[None]:
    """The next image begins a child that has asked nobody yet; it goes to another port than the PACS's."""
    at = world.receiver.rooms.destinations
    assert at is not None
    scu = at.default.scu
    kept = scu._destination
    if port:
        scu._destination = msgspec.structs.replace(kept, port=port)
    await scu._close(1.0)
    try:
        yield
    finally:
        scu._destination = kept
        if port:
            await scu._close(1.0)


@pytest.mark.peer
async def test_orthanc_answers_for_all_and_has_lost_one_later(
    world: World, study: Study, tmp_path: Path
) -> None:
    """The study is sent again: only what is gone from the PACS is stored, and all is committed anew."""
    http = free_port()
    with orthanc(
        tmp_path / "pacs", knows={"us": ("TRAUMATX", "127.0.0.1", our_port(world))},
        HttpServerEnabled=True, HttpPort=http, AuthenticationEnabled=False,
    ) as port:  # fmt: skip
        async with new_child(world, port):
            end, there = await study.send()
            assert (end.state, end.proof, there.proof) == ("COMPLETE", "commit", "commit")
            await asyncio.to_thread(delete, http, study.uids[3])
            again, there = await study.send()
            assert (again.state, again.proof, there.proof) == ("COMPLETE", "commit", "commit")
    assert there.sentence == (
        f"Every image is in the PACS. {IMAGES - 1} images were in the PACS before and were not sent again."
    )


def delete(http: int, uid: str) -> None:
    """Orthanc forgets an instance."""
    base = f"http://127.0.0.1:{http}"
    with urllib.request.urlopen(
        urllib.request.Request(f"{base}/tools/lookup", uid.encode()), timeout=30
    ) as answer:
        (found,) = json.load(answer)
    path = found["Path"]
    with urllib.request.urlopen(urllib.request.Request(base + path, method="DELETE"), timeout=30):
        pass


async def test_what_it_has_lost_is_sent_once_more(world: World, study: Study) -> None:
    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world))) as pacs:
        pacs.lose(study.uids[2])
        end, there = await study.send()
    assert (end.state, end.stored, end.proof) == ("COMPLETE", IMAGES, "commit")
    assert study.seen(pacs) == {uid: 2 if uid == study.uids[2] else 1 for uid in study.uids}
    assert [len(x) for x in pacs.requests] == [IMAGES, 1]
    assert there.sentence == (
        "Every image is in the PACS. The PACS was sent 1 image that it had taken and lost a second time."
    )


async def test_what_it_loses_again_is_a_gap(world: World, study: Study) -> None:
    bad = study.uids[1]

    def loses(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
        has = [uid for uid in uids if uid != bad]
        pacs.tell(transaction, has, [(bad, ABSENT)])
        return OK

    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world), loses)) as pacs:
        end, there = await study.send()
    assert (end.state, end.stored, end.gaps, there.why) == ("PARTIAL", IMAGES - 1, 1, "lost")
    assert study.seen(pacs)[bad] == 2
    assert await proofs(world, there) == {"commit": IMAGES - 1, "lost": 1}
    (lacking,) = there.lacking
    assert (lacking.uid, lacking.why) == (bad, "lost")
    assert lacking.series in {series.label for series in there.series}


async def test_over_the_association_that_asked(world: World, study: Study) -> None:
    def same(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
        pacs.tell(transaction, uids, [], over=event.assoc)
        return OK

    with committing_pacs(world.pacs_port, CommittingPacs(say=same)) as pacs:
        end, _ = await study.send()
    assert (end.state, end.proof, pacs.told) == ("COMPLETE", "commit", [OK])


async def test_twice_and_about_what_nobody_asked_for(world: World, study: Study) -> None:
    """The first report of a transaction counts, for what it was about; others are taken and change nothing."""

    def odd(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
        pacs.tell("2.25.1", uids, [])
        pacs.tell(transaction, [*uids, "2.25.77"], [("2.25.78", ABSENT)], times=2)
        return OK

    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world), odd)) as pacs:
        end, there = await study.send()
        pacs.finish()
        pacs.tell(pacs.transactions[0], [], [(uid, ABSENT) for uid in study.uids])  # long after
        pacs.finish()
    assert (end.state, end.proof, pacs.told) == ("COMPLETE", "commit", [OK] * 4)
    assert await proofs(world, there) == {"commit": IMAGES}


# PACS that do not, or do so in part


async def test_it_never_reports(world: World, study: Study) -> None:
    """It is asked by query then, and about the next study by query at once."""
    patience(world, 0.3)
    with committing_pacs(world.pacs_port, CommittingPacs(say=lambda *_: OK), queries=True) as pacs:
        async with new_child(world):
            end, _ = await study.send()
        assert (end.state, end.proof, sorted(pacs.queries)) == ("COMPLETE", "find", study.uids)
        again, _ = await study.send()
    assert (again.state, again.proof, len(pacs.requests)) == ("COMPLETE", "find", 1)
    assert set(study.seen(pacs).values()) == {1}, "the second transfer brought nothing new"


async def test_it_reports_after_the_time(world: World, study: Study) -> None:
    patience(world, 0.3)
    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world), lambda *_: OK)) as pacs:
        end, there = await study.send()
        pacs.tell(pacs.transactions[0], [], [(uid, ABSENT) for uid in study.uids])
        pacs.finish()
        assert pacs.told == [OK]
    assert (end.state, end.proof) == ("COMPLETE", "store")
    assert await proofs(world, there) == {"store": IMAGES}


async def test_it_speaks_of_half(world: World, study: Study) -> None:
    """The rest it is asked for: of that it has lost one."""
    half = study.uids[: IMAGES // 2]

    def some(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
        pacs.tell(transaction, [uid for uid in uids if uid in half], [])
        return OK

    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world), some), queries=True) as pacs:
        pacs.lose(study.uids[-1])
        async with new_child(world):
            end, there = await study.send()
    assert (end.state, end.proof) == ("COMPLETE", "find"), "the weakest of all"
    assert study.seen(pacs) == {uid: 2 if uid == study.uids[-1] else 1 for uid in study.uids}
    assert await proofs(world, there) == {"commit": len(half), "find": IMAGES - len(half)}
    assert [(x.uid, x.why) for x in sorted(there.lacking, key=lambda x: x.uid)] == [
        (uid, "find") for uid in study.uids if uid not in half
    ]


async def test_it_refuses_the_request(world: World, study: Study) -> None:
    """With each status that PS3.7 10.1.4.1.10 knows, and one that it does not; the last one in a transfer."""
    said: list[int] = []
    at = world.receiver.rooms.destinations
    assert at is not None
    with committing_pacs(world.pacs_port, CommittingPacs(say=lambda *_: said[-1])) as pacs:
        for status in (0x0110, 0x0112, 0x0114, 0x0115, 0x0117, 0x0118, 0x0119, 0x0123, 0x0124, 0x0210, 0x0211,
                       0x0212, 0x0213, 0xC123):  # fmt: skip
            said.append(status)
            asked = await at.default.scu.commit(str(generate_uid()), [(str(CTImageStorage), study.uids[0])])
            assert (asked.ok, asked.code) == (False, "pacs-commit"), hex(status)
        pacs.requests.clear()
        end, _ = await study.send()
    assert (end.state, end.proof, len(pacs.requests)) == ("COMPLETE", "store", 1)
    assert set(study.seen(pacs).values()) == {1}


async def test_it_breaks_off_as_it_is_asked(world: World, study: Study) -> None:
    """Twice; then it answers."""
    left = [1, 1]

    def breaks(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
        if left:
            left.pop()
            hang_up(event)
            return OK
        return honest(pacs, event, transaction, uids)

    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world), breaks)) as pacs:
        end, _ = await study.send()
    assert (end.state, end.proof, len(pacs.requests)) == ("COMPLETE", "commit", 3)


async def test_stopped_between_the_last_image_and_the_report(world: World, study: Study) -> None:
    """The next start asks again, in a transaction of its own; the report for the one before is nobody's."""
    hold = threading.Event()

    def later(pacs: CommittingPacs, event: evt.Event, transaction: str, uids: list[str]) -> int:
        return OK if not hold.is_set() else honest(pacs, event, transaction, uids)

    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world), later)) as pacs:
        view = await world.offer(study.folder)
        await world.answer(view)

        async def asked() -> bool | None:
            return True if pacs.requested.is_set() else None

        await world.receiver.eventually(asked)
        await world.receiver.close()
        hold.set()
        await world.receiver.open()
        pacs.to = our_port(world)
        pacs.tell(pacs.transactions[0], [], [(uid, ABSENT) for uid in study.uids])
        end = await world.sender.until(view.tid, "COMPLETE", "PARTIAL")
    assert (end.state, end.proof, len(set(pacs.transactions))) == ("COMPLETE", "commit", len(pacs.requests))
    assert set(study.seen(pacs).values()) == {1}


# More than one transfer of the same images


async def test_the_same_study_twice_at_once_is_stored_once(world: World, study: Study) -> None:
    """Both are open before the first image is in, and end complete."""
    go = threading.Event()
    pacs = CommittingPacs(our_port(world))
    pacs.manner = lambda n, event: OK if go.wait(PATIENCE) else 0xA700
    with committing_pacs(world.pacs_port, pacs, queries=True):
        try:
            views = [await world.offer(study.folder) for _ in range(2)]
            for view in views:
                await world.answer(view)
                await world.receiver.until(view.tid, "OPENED")
        finally:
            go.set()
        ends = [await world.sender.until(view.tid, "COMPLETE", "PARTIAL") for view in views]
    assert [(end.state, end.stored, end.proof) for end in ends] == [("COMPLETE", IMAGES, "commit")] * 2
    assert study.seen(pacs) == dict.fromkeys(study.uids, 1)


async def test_other_bytes_under_a_uid_that_is_there(world: World, study: Study) -> None:
    """Not stored, named, and the rest is safe. A person who deletes the other one in the PACS has it stored then."""
    uid = study.uids[2]
    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world)), queries=True) as pacs:
        async with new_child(world):
            await study.send()
        await world.receiver.rooms.db.run(
            lambda con: con.execute("UPDATE ledger SET hash=zeroblob(32) WHERE sop_uid=?", (uid,))
        )
        end, there = await study.send()
        assert (end.state, end.stored, end.gaps) == ("PARTIAL", IMAGES - 1, 1)
        assert there.why == "uid-conflict"
        (alarm,) = there.alarms
        assert "delete the others in the PACS and ask the sender to send the study again" in alarm
        assert await proofs(world, there) == {"commit": IMAGES - 1, "uid-conflict": 1}
        assert study.seen(pacs) == dict.fromkeys(study.uids, 1)
        del pacs.kept[uid]
        end, there = await study.send()
    assert (end.state, end.proof) == ("COMPLETE", "commit")
    assert study.seen(pacs) == {x: 2 if x == uid else 1 for x in study.uids}


async def test_the_same_images_under_another_number_are_no_second_copy(
    world: World, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy was changed: what is filed under the sender's number is not filed again under ours."""
    with committing_pacs(world.pacs_port, CommittingPacs(our_port(world)), queries=True) as pacs:
        async with new_child(world):
            await study.send()
        monkeypatch.setattr(world.receiver.rooms.identities, "_policy", "prefix")
        end, there = await study.send()
    assert (end.state, end.stored, there.why) == ("PARTIAL", 0, "uid-conflict")
    assert study.seen(pacs) == dict.fromkeys(study.uids, 1)
