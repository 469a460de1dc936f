"""`clients.gateway.receiving.delivery`: each listed instance reaches a real PACS once, and nothing else ever does."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from clients.gateway.clock import system_random
from clients.gateway.dicom.finder import STUDY_ROOT
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.errors import DiskFullError
from clients.gateway.receiving import delivery as module
from clients.gateway.receiving import ledger, storing
from clients.gateway.receiving.commitment import Commitments
from clients.gateway.receiving.delivery import Delivery
from clients.gateway.receiving.destinations import Destinations, Pacs
from clients.gateway.receiving.holdings import Holdings
from clients.gateway.receiving.identity import Identities, Policy
from clients.gateway.receiving.inbox import NO_END
from clients.gateway.receiving.prefetch import Prefetch
from clients.gateway.receiving.transcoding import Transcoder
from tests.dicom_kit import free_port
from tests.gateway_kit import NOW, PATIENCE, Handset, House, an_instance, carry, eventually, houses, running
from tests.spool_kit import Spool, noise
from transfer import jws
from transfer.ids import Cid, ContentKey, Digest, Tid
from transfer.manifest import ChainWriter
from transfer.messages import Manifest, Receipt, open_message, peek, sign_message
from transfer.packs import open_pack, seal_pack

DEADLINE = 7200


class OnePacs:
    """A PACS of its own: counts what it is sent, refuses whom it is told to, may be held, and may answer queries."""

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        self.port = free_port()
        self.seen: Counter[str] = Counter()
        self.bytes: dict[str, bytes] = {}
        self.answers: dict[str, int] = {}
        self.late: set[str] = set()
        """Whose answer is held until `stop`."""
        self.go_on, self._end = threading.Event(), threading.Event()
        self.go_on.set()
        self.look = look
        self.asked: Counter[str] = Counter()
        """Queries for each SOP Instance UID."""
        self.queries = False
        self.kinds = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]
        """What it takes."""
        self.associations: list[Any] = []
        """In the order of their first instance."""
        self.data: dict[str, bytes] = {}
        """The data sets themselves."""
        self._server: Any = None

    def start(self) -> OnePacs:
        self._end.clear()
        ae = AE("PACS")
        for sop_class, syntax in self.kinds:
            ae.add_supported_context(sop_class, syntax)
        ae.add_supported_context(Verification)
        if self.queries:
            ae.add_supported_context(STUDY_ROOT)
        self._server = ae.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)],
        )
        return self

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.seen[uid] += 1
        if event.assoc not in self.associations:
            self.associations.append(event.assoc)
        self.look()
        self.go_on.wait(PATIENCE)
        status = self.answers.get(uid, 0)
        if status == 0:
            self.data[uid] = event.request.DataSet.getvalue()
            self.bytes[uid] = hashlib.sha256(self.data[uid]).digest()
        if uid in self.late:
            self._end.wait(PATIENCE)
        return status

    def _find(self, event: Any) -> Iterator[tuple[int, Any]]:
        uid = event.identifier.SOPInstanceUID
        self.asked[uid] += 1
        if uid in self.bytes:
            yield 0xFF00, event.identifier

    def answer_queries(self) -> None:
        """From now on, as after a change of its settings."""
        self.stop()
        self.queries = True
        self.start()

    def stop(self) -> None:
        self.go_on.set()
        self._end.set()
        if self._server is not None:
            self._server.shutdown()
            self._server = None


class Crash(Exception):
    """The process ends here."""


class Dying:
    """A database that dies at its n-th transaction."""

    def __init__(self, db: Any, n: int, error: type[Exception] = Crash) -> None:
        self._db, self._left, self._error = db, n, error

    async def run(self, work: Callable[[Any], Any]) -> Any:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return await self._db.run(work)


def syntax_of(ds: Any) -> str:
    """Of an image that came from a file, or was compressed; else Explicit VR Little Endian."""
    meta = getattr(ds, "file_meta", None)
    return str(meta.TransferSyntaxUID) if meta is not None else str(ExplicitVRLittleEndian)


class Party:
    """A receiver that has opened a transfer, all its packs on disk, and its PACS."""

    def __init__(self, s: House, r: House, workers: ThreadPoolExecutor) -> None:
        self.s, self.r, self._workers = s, r, workers
        self.pacs = OnePacs(self._look)
        self.transcoder = Transcoder()
        self.most = 0
        self.tid = Tid(bytes(16))
        self.holdings, self.commitments = Holdings(r.db, r.clock), Commitments()

    def _look(self) -> None:
        self.most = max(self.most, len(list((self.r.folder / "restored").rglob("*.dcm"))))

    async def sealed(self, *images: Any) -> Spool:
        """S seals a study and offers it; R is told yes. The packs are S's, and not yet at R."""
        adopted = await self.s.adopt(*(self.s.file(ds, syntax_of(ds)) for ds in images))
        study = adopted[0].study
        await self.s.studies.close(study, "test")
        self.tid = await self.s.offer_to(self.r, study)
        self.cid = Cid((await self.s.send(self.tid))["cid"])
        spool = Spool(self.s, study, self.tid, self.cid, self._workers)
        await spool.pack()
        phone = await Handset.scan(self.s, self.tid)
        await phone.ask()
        await phone.decide()
        await carry(self.s, self.r)
        assert (await self.row())["state"] == "OPENED"
        self.key = ContentKey(
            self.s.vault.open("content-key", await spool.value("SELECT k_sealed FROM spools WHERE cid=?"))
        )
        self.uids = {
            r["no"]: r["sop_uid"]
            for r in await self.s.rows(
                "SELECT x.no, i.sop_uid FROM items x JOIN instances i ON i.id=x.instance"
            )
        }
        return spool

    async def fetched(self, spool: Spool, *, only: range | None = None) -> None:
        """The packs are at R, as the prefetcher leaves them."""
        folder = self.r.folder / "sealed" / self.cid.hex()
        folder.mkdir(parents=True, exist_ok=True)
        for row in await self.s.rows("SELECT n, kind, size FROM packs WHERE cid=?", self.cid):
            if only is None or row["n"] in only:
                shutil.copy(spool.folder / str(row["n"]), folder / str(row["n"]))
                await self.r.execute(
                    "INSERT OR REPLACE INTO in_packs (cid, n, kind, size, have) VALUES (?,?,?,?,1)",
                    self.cid, row["n"], row["kind"], row["size"],
                )  # fmt: skip

    async def study(self, *images: Any) -> Spool:
        spool = await self.sealed(*images)
        await self.fetched(spool)
        return spool

    async def row(self) -> Any:
        return await self.r.receive(self.tid)

    async def ledger(self) -> dict[int, str]:
        return {
            r["no"]: r["state"]
            for r in await self.r.rows("SELECT no, state FROM ledger WHERE tid=?", self.tid)
        }

    def path(self, n: int) -> Path:
        return self.r.folder / "sealed" / self.cid.hex() / str(n)

    async def records(self) -> list[tuple[int, Manifest]]:
        """(pack number, record) of every record at R."""
        found = []
        for row in await self.r.rows("SELECT n FROM in_packs WHERE kind='M' ORDER BY n"):
            body = open_pack(self.key, self.cid, "M", row["n"], self.path(row["n"]).read_bytes())
            found.append((row["n"], peek(Manifest, body.decode())))
        return found

    async def reseal(self, n: int, kind: Any, body: bytes) -> None:
        """A pack of R's, made anew by somebody who knows the key."""
        ct = seal_pack(self.key, self.cid, kind, n, body, system_random)
        self.path(n).write_bytes(ct)
        await self.r.execute("UPDATE in_packs SET size=?, kind=? WHERE n=?", len(ct), kind, n)

    @asynccontextmanager
    async def scu(self, **times: float) -> AsyncIterator[StoreScu]:
        to = Destination(aet="PACS", host="127.0.0.1", port=self.pacs.port, calling_aet="TRAUMATX")
        scu = StoreScu(msgspec.structs.replace(to, **times))
        await scu.start()
        try:
            yield scu
        finally:
            await scu.stop()

    def delivery(
        self,
        scu: StoreScu,
        *,
        db: Any = None,
        destination: str = "PACS@here",
        largest: int = 2**31,
        policy: Policy = "as-is",
        commit_seconds: float = 0.0,
        destinations: Destinations | None = None,
    ) -> Delivery:
        r = self.r
        prefetch = Prefetch(r.db, r.relay, r.folder / "sealed", 2**40, r.inbox.moved, r.changed)
        self.prefetch = prefetch
        identities = Identities(r.db, r.clock, policy, "TRAUMATX", r.changed)
        only = Pacs("pacs", destination, scu, commit_seconds=commit_seconds)
        return Delivery(
            tid=self.tid, db=db or r.db, vault=r.vault, inbox=r.inbox, identities=identities,
            prefetch=prefetch, destinations=destinations or Destinations([only]), transcoder=self.transcoder,
            holdings=self.holdings, commitments=self.commitments, folder=r.folder / "restored",
            workers=self._workers, clock=r.clock, changed=r.changed, deadline=DEADLINE, largest=largest,
        )  # fmt: skip

    async def deliver(self, **options: Any) -> None:
        async with self.scu() as scu, asyncio.timeout(PATIENCE):
            await self.delivery(scu, **options).run()

    async def receipt(self) -> Receipt:
        return open_message(Receipt, (await self.row())["receipt"], self.r.site)

    async def originals(self) -> dict[str, bytes]:
        return {
            r["sop_uid"]: bytes(r["hash"]) for r in await self.s.rows("SELECT sop_uid, hash FROM instances")
        }


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
async def party(tmp_path: Path, workers: ThreadPoolExecutor) -> AsyncIterator[Party]:
    async with houses(tmp_path) as (s, r):
        made = Party(s, r, workers)
        made.pacs.start()
        yield made
        await made.transcoder.stop()
        await asyncio.to_thread(made.pacs.stop)


def images(count: int) -> list[Any]:
    return [an_instance(InstanceNumber=i) for i in range(1, count + 1)]


async def test_every_instance_arrives_as_it_was(party: Party) -> None:
    await party.study(*images(5), noise(6))
    k = bytes((await party.row())["k_sealed"])
    await party.deliver()
    row = await party.row()
    assert (row["state"], row["total"]) == ("COMPLETE", 6)
    assert party.pacs.bytes == await party.originals()
    assert set(party.pacs.seen.values()) == {1}
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("COMPLETE", [])
    assert row["patient_name"] == "NOBODY, ATALL"
    assert row["first_stored_at"] == row["last_stored_at"] == NOW
    assert list((party.r.folder / "restored").iterdir()) == []
    assert party.r.on_disk(k) == []
    await party.deliver()
    assert set(party.pacs.seen.values()) == {1}, "an ended transfer delivers nothing"


async def test_s_takes_the_receipt(party: Party) -> None:
    await party.study(*images(3))
    await party.deliver()
    await carry(party.r, party.s)
    assert (await party.s.send(party.tid))["state"] == "COMPLETE"


async def test_images_arrive_while_packs_still_come(party: Party) -> None:
    """The first instance is in the PACS before the rest is here."""
    spool = await party.sealed(*(noise(i) for i in range(1, 5)))
    await party.fetched(spool, only=range(3))
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def first() -> bool:
            return len(party.pacs.bytes) == 1

        await eventually(first)
        await party.fetched(spool)
        party.prefetch.signal(party.cid).set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.pacs.bytes == await party.originals()


@pytest.mark.parametrize("idle", [20.0, 0.2])
async def test_one_association_is_fed_and_opened_again_after_a_while(party: Party, idle: float) -> None:
    """What comes while it is open goes over it; one that had nothing to do was released, and in good order."""
    spool = await party.sealed(*(noise(i) for i in range(1, 5)))
    await party.fetched(spool, only=range(3))
    async with party.scu(idle=idle) as scu, running(party.delivery(scu).run()) as (task,):

        async def first() -> bool:
            return len(party.pacs.bytes) == 1 and (idle > 1 or party.pacs.associations[0].is_released)

        await eventually(first)
        await party.fetched(spool)
        party.prefetch.signal(party.cid).set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.pacs.bytes == await party.originals()
    assert (len(party.pacs.associations) == 1) == (idle > 1)
    assert set(party.pacs.seen.values()) == {1}


# Exactly once


async def crashed(party: Party, *states: str) -> None:
    """The ledger of a run that ended at once: the state of each item in turn."""
    for no, state in enumerate(states):
        await party.r.execute(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, proof)"
            " VALUES ('PACS@here',?,?,?,0,x'00',?,0,?)",
            party.uids[no], party.tid, no, state, "store" if state == "stored" else "",
        )  # fmt: skip


async def notes(party: Party) -> dict[int, tuple[str, str]]:
    """Proof and note of each item."""
    found = await party.r.rows("SELECT no, proof, note FROM ledger WHERE tid=?", party.tid)
    return {r["no"]: (r["proof"], r["note"]) for r in found}


async def test_each_state_of_the_ledger_after_a_restart(party: Party) -> None:
    """`stored` and `failed` are settled; `sending` goes again to a PACS that cannot be asked; what was listed goes."""
    await party.study(*images(5))
    await crashed(party, "stored", "sending", "failed", "listed")
    await party.deliver()
    seen = {no: party.pacs.seen[uid] for no, uid in party.uids.items()}
    assert seen == {0: 0, 1: 1, 2: 0, 3: 1, 4: 1}
    assert await party.ledger() == {0: "stored", 1: "stored", 2: "failed", 3: "stored", 4: "stored"}
    assert (await notes(party))[1] == ("store", "resent")
    assert [note for _, note in (await notes(party)).values()].count("resent") == 1
    assert (await party.receipt()).gaps == [2]


async def test_what_may_be_there_is_asked_for_before_it_is_sent(party: Party) -> None:
    """Found: not sent. Not found: sent. What never was on its way is not asked for."""
    await party.study(*images(4))
    party.pacs.answer_queries()
    await crashed(party, "stored", "sending", "sending")
    party.pacs.bytes[party.uids[1]] = b"from before"
    await party.deliver()
    assert {no: party.pacs.seen[uid] for no, uid in party.uids.items()} == {0: 0, 1: 0, 2: 1, 3: 1}
    assert {no: party.pacs.asked[uid] for no, uid in party.uids.items()} == {0: 0, 1: 1, 2: 1, 3: 0}
    assert await notes(party) == {0: ("store", ""), 1: ("find", ""), 2: ("store", ""), 3: ("store", "")}
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps, receipt.proof) == ("COMPLETE", [], "store")


async def test_a_receipt_that_rests_on_queries_alone_says_so(party: Party) -> None:
    await party.study(*images(3))
    party.pacs.answer_queries()
    await crashed(party, *["sending"] * 3)
    party.pacs.bytes = await party.originals()
    await party.deliver()
    assert party.pacs.seen == {}
    receipt = await party.receipt()
    assert (receipt.state, receipt.proof) == ("COMPLETE", "find")


async def test_an_answer_that_comes_too_late_is_asked_for(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PACS stores it, and says so after our time-out: it is not sent twice."""
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    await party.study(*images(3))
    party.pacs.answer_queries()
    party.pacs.late.add(party.uids[1])
    async with party.scu(response=1.0) as scu, asyncio.timeout(PATIENCE):
        await party.delivery(scu).run()
    assert (await party.row())["state"] == "COMPLETE"
    assert set(party.pacs.seen.values()) == {1}
    assert (await notes(party))[1] == ("find", "")
    assert await party.r.alarms(party.tid) == ["pacs"]


async def test_a_pacs_that_is_away_is_asked_once_it_is_back(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    await party.study(*images(2))
    await crashed(party, "sending", "sending")
    party.pacs.bytes = await party.originals()
    party.pacs.stop()
    party.pacs.queries = True
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def alarmed() -> bool:
            return await party.r.alarms(party.tid) == ["pacs"]

        await eventually(alarmed)
        party.pacs.start()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.pacs.seen == {}
    assert (await party.receipt()).proof == "find"


async def test_a_crash_at_any_commit(party: Party) -> None:
    """At every transaction in turn, then a restart: everything arrives, and what was booked is not sent again."""
    await party.study(*images(2), noise(3))
    async with party.scu() as scu:
        for n in itertools.count(1):
            before = {no for no, state in (await party.ledger()).items() if state == "stored"}
            counts = {no: party.pacs.seen[party.uids[no]] for no in before}
            try:
                async with asyncio.timeout(PATIENCE):
                    await party.delivery(scu, db=Dying(party.r.db, n)).run()
                ended = True
            except (Crash, BaseExceptionGroup):
                ended = False
            assert {no: party.pacs.seen[party.uids[no]] for no in before} == counts
            if ended:
                break
    assert n > 5
    assert (await party.row())["state"] == "COMPLETE"
    assert party.pacs.bytes == await party.originals()


async def test_the_same_delivery_again_after_a_full_disk(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could be written is written once there is room; nothing is torn down, nothing is sent twice."""
    monkeypatch.setattr(module, "REST", 0.01)
    monkeypatch.setattr(ledger, "REST", 0.01)
    await party.study(*images(4))
    async with party.scu() as scu, asyncio.timeout(PATIENCE):
        for n in range(4, 10):
            delivery = party.delivery(scu, db=Dying(party.r.db, n, DiskFullError))
            try:
                await delivery.run()
            except (DiskFullError, BaseExceptionGroup):
                await delivery.run()
            if (await party.row())["state"] == "COMPLETE":
                break
    assert (await party.row())["state"] == "COMPLETE"
    assert party.pacs.bytes == await party.originals()


async def test_cancelled_and_run_again(party: Party) -> None:
    """The transfer was revoked, or the gateway ends: no file in the clear stays."""
    await party.study(*images(30))
    party.pacs.go_on.clear()
    async with party.scu() as scu, running(party.delivery(scu).run()):
        await eventually(lambda: _sent(party))
        party.pacs.go_on.set()
    assert [p for p in (party.r.folder / "restored").rglob("*") if p.is_file()] == []
    await party.deliver()
    assert party.pacs.bytes == await party.originals()


async def _sent(party: Party) -> bool:
    return bool(party.pacs.seen)


async def test_another_pacs_after_a_restart_gets_everything(party: Party) -> None:
    """The address was corrected: what the first one has, the second one does not."""
    await party.study(*images(4))
    party.pacs.answers[party.uids[2]] = 0xA700  # out of resources: it waits
    async with party.scu() as scu, running(party.delivery(scu, destination="OLD@there").run()):

        async def three() -> bool:
            return list((await party.ledger()).values()).count("stored") == 3

        await eventually(three)
    party.pacs.answers.clear()
    await party.deliver(destination="NEW@here")
    assert (await party.row())["state"] == "COMPLETE"
    assert [party.pacs.seen[party.uids[no]] >= 2 for no in range(4)] == [True] * 4
    destinations = await party.r.rows("SELECT DISTINCT destination FROM ledger")
    assert [r[0] for r in destinations] == ["NEW@here"]


async def test_no_more_than_so_many_files_in_the_clear(party: Party) -> None:
    """However slow the PACS, and however large the study."""
    await party.study(*images(3 * module._AHEAD))
    party.pacs.go_on.clear()
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def full() -> bool:
            return len(list((party.r.folder / "restored").rglob("*.dcm"))) == module._AHEAD

        await eventually(full)
        party.pacs.go_on.set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert party.most <= module._AHEAD
    assert (await party.row())["state"] == "COMPLETE"


# A PACS that refuses, or is away


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122])
async def test_one_refused_instance_is_exactly_one_gap(party: Party, status: int) -> None:
    await party.study(*images(5))
    party.pacs.answers[party.uids[2]] = status
    await party.deliver()
    row = await party.row()
    receipt = await party.receipt()
    assert (row["state"], row["why"]) == ("PARTIAL", "pacs")
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [2])
    assert party.pacs.seen[party.uids[2]] == 1, "it is not tried blindly"
    assert len(party.pacs.bytes) == 4
    failed = await party.r.one("SELECT * FROM ledger WHERE state='failed'")
    assert (failed["no"], failed["status"], failed["note"]) == (2, status, "refused")


async def test_a_pacs_that_is_busy_is_asked_again(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    await party.study(*images(3))
    party.pacs.answers[party.uids[1]] = 0xA700
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def alarmed() -> bool:
            return await party.r.alarms(party.tid) == ["pacs"]

        await eventually(alarmed)
        party.pacs.answers.clear()
        async with asyncio.timeout(PATIENCE):
            await task
    assert (await party.row())["state"] == "COMPLETE"


async def test_a_pacs_that_stays_away_ends_it_after_the_deadline(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and not once for each image: more images than may wait at once."""
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.05)
    monkeypatch.setattr(storing, "RETRY_MOST", 0.1)
    await party.study(*images(2 * module._AHEAD))
    await asyncio.to_thread(party.pacs.stop)
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def alarmed() -> bool:
            return await party.r.alarms(party.tid) == ["pacs"]

        await eventually(alarmed)
        assert not task.done()
        party.r.clock.at += DEADLINE
        async with asyncio.timeout(PATIENCE):
            await task
    receipt = await party.receipt()
    assert ((await party.row())["state"], receipt.state) == ("PARTIAL", "PARTIAL")
    assert receipt.gaps == list(range(2 * module._AHEAD))


async def test_what_was_sent_before_counts_in_the_deadline(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PACS that came back in time starts the clock anew."""
    monkeypatch.setattr(storing, "RETRY_FIRST", 0.02)
    monkeypatch.setattr(storing, "RETRY_MOST", 0.05)
    await party.study(*images(2))
    party.pacs.answers[party.uids[0]] = 0xA700
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def tried() -> bool:
            return party.pacs.seen[party.uids[0]] > 1 and len(party.pacs.bytes) == 1

        await eventually(tried)
        party.r.clock.at += DEADLINE // 2
        party.pacs.answers.clear()
        async with asyncio.timeout(PATIENCE):
            await task
    assert (await party.row())["state"] == "COMPLETE"


# What the sender, or somebody with its key, may have sealed


async def test_a_broken_chain_stops_delivery_with_an_alarm(party: Party) -> None:
    await party.study(*images(6))
    listed = {i.sop_uid for i in (await party.records())[0][1].items}
    n, record = (await party.records())[-1]
    bad = sign_message(msgspec.structs.replace(record, prev=Digest(b"?" * 32).text), party.s.identity.key)
    await party.reseal(n, "M", bad.encode())
    await party.deliver()
    row = await party.row()
    assert (row["state"], row["why"]) == ("PARTIAL", "chain")
    assert await party.r.alarms(party.tid) == ["chain"]
    assert set(party.pacs.seen) <= listed, "nothing unlisted is ever delivered"
    assert (await party.receipt()).state == "PARTIAL"
    await carry(party.r, party.s)
    assert (await party.s.send(party.tid))["state"] == "PARTIAL"


@pytest.mark.parametrize("broken", ["signature", "gap in the numbers", "twice", "other cid", "no record"])
async def test_records_that_do_not_follow(party: Party, broken: str) -> None:
    await party.study(*images(4))
    n, record = (await party.records())[-1]
    first = (await party.records())[0][1]
    changed = {
        "signature": record,
        "gap in the numbers": msgspec.structs.replace(record, i=record.i + 1),
        "twice": first,
        "other cid": msgspec.structs.replace(record, cid=Cid(b"?" * 16)),
        "no record": record,
    }[broken]
    key = party.r.identity.key if broken == "signature" else party.s.identity.key
    text = "no record at all" if broken == "no record" else sign_message(changed, key)
    await party.reseal(n, "M", text.encode())
    await party.deliver()
    assert (await party.row())["state"] == "PARTIAL"
    assert len(await party.r.alarms(party.tid)) == 1
    assert set(party.pacs.seen) <= {i.sop_uid for i in first.items}


async def test_a_pack_that_opens_and_is_not_the_listed_one(party: Party) -> None:
    """A former destination knows K and can seal packs; it cannot sign for the sender."""
    await party.study(*(noise(i) for i in range(1, 4)))
    last = max(r["n"] for r in await party.r.rows("SELECT n FROM in_packs WHERE kind='D'"))
    body = open_pack(party.key, party.cid, "D", last, party.path(last).read_bytes())
    await party.reseal(last, "D", bytes(len(body)))
    await party.deliver()
    row = await party.row()
    assert (row["state"], row["why"]) == ("PARTIAL", "hash")
    assert set(party.pacs.bytes.items()) <= set((await party.originals()).items())


async def test_packs_that_no_record_names_do_not_fill_the_memory(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who has the key, and not the sender's signature, seals without end."""
    monkeypatch.setattr(module, "_UNLISTED", 2**16)
    await party.study(noise(1, 60), noise(2, 900))
    await party.deliver(largest=2**16)
    row = await party.row()
    assert (row["state"], row["why"]) == ("PARTIAL", "chain")


async def change_an_item(party: Party, no: int, **changes: Any) -> None:
    """The sender signs something else about one item of its last record."""
    n, record = (await party.records())[-1]
    items = [msgspec.structs.replace(i, **changes) if i.no == no else i for i in record.items]
    assert items != record.items
    text = sign_message(msgspec.structs.replace(record, items=items), party.s.identity.key)
    await party.reseal(n, "M", text.encode())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hash": Digest(b"?" * 32)}, "hash"),
        ({"codec": "unknown"}, "codec"),
        ({"original": 5}, "codec"),
        ({"original": 2**40}, "hash"),
        ({"sop_class": ".."}, "dicom-uid"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.4"}, "dicom-uid-mismatch"),
        ({"sop_uid": "2.25.999"}, "dicom-uid-mismatch"),
        ({"syntax": "1.2.3.."}, "dicom-uid"),
    ],
    ids=["hash", "codec", "short", "huge", "no class", "other class", "other instance", "syntax"],
)
async def test_an_item_that_does_not_restore_is_one_gap(
    party: Party, change: dict[str, Any], why: str
) -> None:
    await party.study(*images(5))
    await change_an_item(party, 3, **change)
    await party.deliver()
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [3])
    assert len(party.pacs.bytes) == 4
    assert not party.pacs.seen.keys() & {party.uids[3], change.get("sop_uid")}
    failed = await party.r.one("SELECT * FROM ledger WHERE state='failed'")
    assert failed["note"] == why


async def test_images_that_the_sender_lost(party: Party) -> None:
    """All that is listed is stored; the sender counted one more."""
    await party.study(*images(4))
    n, record = (await party.records())[-1]
    series = [msgspec.structs.replace(s, want=5) for s in record.series]
    text = sign_message(msgspec.structs.replace(record, series=series), party.s.identity.key)
    await party.reseal(n, "M", text.encode())
    await party.deliver()
    row = await party.row()
    assert (row["state"], row["why"]) == ("PARTIAL", "unsent")
    assert len(party.pacs.bytes) == 4


async def test_an_empty_study_is_no_complete_one(party: Party) -> None:
    spool = await party.sealed(*images(1))
    for path in spool.folder.iterdir():
        path.unlink()
    await party.s.execute("DELETE FROM packs")
    record = ChainWriter(party.cid, party.s.identity.key).record([], [], [], total=0)
    ct = seal_pack(party.key, party.cid, "M", 0, record.encode(), system_random)
    await party.s.execute(
        "INSERT INTO packs (cid, n, kind, size, hash) VALUES (?,0,'M',?,x'00')", party.cid, len(ct)
    )
    (spool.folder / "0").write_bytes(ct)
    await party.fetched(spool)
    await party.deliver()
    receipt = await party.receipt()
    assert (receipt.manifest, receipt.state) == (jws.digest(record), "PARTIAL")
    assert ((await party.row())["state"], (await party.row())["why"]) == ("PARTIAL", "unsent")
    assert party.pacs.seen == {}


# Packs that are damaged, or never come


async def test_a_damaged_pack_is_fetched_again(party: Party) -> None:
    spool = await party.study(*images(3))
    good = party.path(1).read_bytes()
    party.path(1).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):

        async def asked() -> bool:
            return bool(await party.r.rows("SELECT 1 FROM in_packs WHERE n=1 AND have=0 AND bad=1"))

        await eventually(asked)
        await party.fetched(spool, only=range(1, 2))
        party.prefetch.signal(party.cid).set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert (await party.row())["state"] == "COMPLETE"


@pytest.mark.parametrize("damage", [b"", b"short", bytes(2**16 + 40)], ids=["empty", "short", "zeros"])
async def test_a_pack_that_never_opens_is_the_end_with_an_alarm(party: Party, damage: bytes) -> None:
    await party.study(*images(3))
    last = max(r["n"] for r in await party.r.rows("SELECT n FROM in_packs"))
    party.path(last).write_bytes(damage)
    async with party.scu() as scu, running(party.delivery(scu).run()) as (task,):
        for times in (1, 2):

            async def asked(times: int = times) -> bool:
                return bool(await party.r.rows("SELECT 1 FROM in_packs WHERE have=0 AND bad=?", times))

            await eventually(asked)
            await party.r.execute("UPDATE in_packs SET have=1")
            party.prefetch.signal(party.cid).set()
        async with asyncio.timeout(PATIENCE):
            await task
    row = await party.row()
    assert (row["state"], row["why"]) == ("PARTIAL", "pack")
    assert await party.r.alarms(party.tid) == ["pack"]


async def test_a_manifest_that_never_ends(party: Party) -> None:
    """A week after the yes, over every restart in between, R says what it has."""
    spool = await party.sealed(*(noise(i) for i in range(1, 4)))
    await party.fetched(spool, only=range(4))
    party.r.clock.at += NO_END - 1
    await party.deliver()
    row = await party.row()
    assert (row["state"], row["why"]) == ("PARTIAL", "no-end")
    assert (await party.receipt()).state == "PARTIAL"
    assert len(party.pacs.bytes) >= 1


async def test_a_transfer_that_is_not_open_delivers_nothing(party: Party) -> None:
    await party.study(*images(2))
    await party.r.execute("UPDATE receives SET state='REVOKED'")
    await party.deliver()
    assert party.pacs.seen == {}
