"""A receiver that has opened a transfer, with all its packs on disk, and a PACS that counts what it is sent."""

from __future__ import annotations

import asyncio
import hashlib
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
from clients.gateway.receiving.commitment import Commitments
from clients.gateway.receiving.delivery import Delivery
from clients.gateway.receiving.destinations import Destinations, Pacs
from clients.gateway.receiving.holdings import Holdings
from clients.gateway.receiving.identity import Identities, Policy
from clients.gateway.receiving.prefetch import Prefetch
from clients.gateway.receiving.transcoding import Transcoder
from tests.dicom_kit import free_port
from tests.gateway_kit import PATIENCE, Handset, House, an_instance, carry, houses
from tests.spool_kit import Spool
from transfer.ids import Cid, ContentKey, Tid
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
async def party(tmp_path: Path, workers: ThreadPoolExecutor) -> AsyncIterator[Party]:
    async with houses(tmp_path) as (s, r):
        made = Party(s, r, workers)
        made.pacs.start()
        yield made
        await made.transcoder.stop()
        await asyncio.to_thread(made.pacs.stop)


def images(count: int) -> list[Any]:
    return [an_instance(InstanceNumber=i) for i in range(1, count + 1)]


async def change_an_item(party: Party, no: int, **changes: Any) -> None:
    """The sender signs something else about one item of its last record."""
    n, record = (await party.records())[-1]
    items = [msgspec.structs.replace(i, **changes) if i.no == no else i for i in record.items]
    assert items != record.items
    text = sign_message(msgspec.structs.replace(record, items=items), party.s.identity.key)
    await party.reseal(n, "M", text.encode())
