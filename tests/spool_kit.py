"""Studies that are sealed into packs for the gateway's tests, and what R must make of those packs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from clients.gateway import codec
from clients.gateway.clock import system_random
from clients.gateway.sending.packer import Packer
from tests.gateway_kit import PATIENCE, House, an_instance
from transfer.ids import Cid, ContentKey, SiteId, Tid
from transfer.manifest import Chain
from transfer.messages import ItemEntry, Manifest
from transfer.packs import BUCKETS, open_pack
from transfer.stream import Assembler

SMALL = BUCKETS[0]


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    """The coders of a gateway. A test that wants them imports it."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Spool:
    """A study that is being sealed at one house."""

    def __init__(self, house: House, study: str, tid: Tid, cid: Cid, workers: ThreadPoolExecutor) -> None:
        self.house, self.study, self.tid, self.cid, self._workers = house, study, tid, cid, workers
        self.folder = house.folder / "spool" / cid.hex()

    def packer(self, bucket: Callable[[], int] = lambda: SMALL, db: Any = None) -> Packer:
        h = self.house
        return Packer(
            cid=self.cid, study=self.study, db=db or h.db, vault=h.vault, identity=h.identity, random=system_random,
            incoming=h.studies.incoming, spool=h.folder / "spool", workers=self._workers, arrived=h.arrived,
            packed=h.packed, bucket=bucket, clock=h.clock,
        )  # fmt: skip

    async def pack(self, **options: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.packer(**options).run()

    async def value(self, sql: str) -> Any:
        return await self.house.value(sql, self.cid)

    async def kinds(self) -> str:
        return "".join(
            r[0] for r in await self.house.rows("SELECT kind FROM packs WHERE cid=? ORDER BY n", self.cid)
        )


class Restored:
    """What R makes of a spool: every check of R, in R's order, on the files that S would upload."""

    def __init__(self, spool: Spool) -> None:
        self.records: list[Manifest] = []
        self.items: list[ItemEntry] = []
        self._spool = spool

    async def read(self) -> Restored:
        house, cid = self._spool.house, self._spool.cid
        key = ContentKey(
            house.vault.open(
                "content-key", await self._spool.value("SELECT k_sealed FROM spools WHERE cid=?")
            )
        )
        chain, stream, hashes = Chain(cid, house.site), Assembler(), {}
        rows = await house.rows("SELECT n, kind, size, hash FROM packs WHERE cid=? ORDER BY n", cid)
        assert [r["n"] for r in rows] == list(range(len(rows))), "a pack number is missing"
        for row in rows:
            ct = (self._spool.folder / str(row["n"])).read_bytes()
            assert (len(ct), hashlib.sha256(ct).digest()) == (row["size"], row["hash"])
            body = open_pack(key, cid, row["kind"], row["n"], ct)
            if row["kind"] == "D":
                hashes[row["n"]] = hashlib.sha256(ct).digest()
                stream.add(body)
                continue
            record = chain.add(body.decode())
            self.records.append(record)
            for pack in record.packs:
                assert hashes.pop(pack.n) == pack.hash
            for item in record.items:
                data = codec.decode(item.codec, stream.take(item.offset, item.length), item.original)
                assert hashlib.sha256(data).digest() == item.hash
                self.items.append(item)
        assert chain.ended
        assert hashes == {}, "a pack that no record lists"
        assert chain.total == len(self.items)
        self.chain = chain
        return self

    async def complete(self) -> Restored:
        """Everything that arrived is there, once."""
        await self.read()
        house = self._spool.house
        there = await house.rows(
            "SELECT sop_uid, hash FROM instances WHERE study=? ORDER BY sop_uid", self._spool.study
        )
        assert sorted((i.sop_uid, bytes(i.hash)) for i in self.items) == [
            (r["sop_uid"], r["hash"]) for r in there
        ]
        return self


def noise(number: int, side: int = 200, **changes: object) -> Dataset:
    """An image that no codec makes smaller: over one pack of the smallest bucket."""
    pixels = np.random.default_rng(number).integers(0, 2**16, (side, side), "<u2")
    return an_instance(InstanceNumber=number, Rows=side, Columns=side, PixelData=pixels.tobytes(), **changes)


async def spool_of(house: House, workers: ThreadPoolExecutor, *images: Dataset, close: bool = True) -> Spool:
    adopted = await house.adopt(*map(house.file, images))
    (study,) = {a.study for a in adopted}
    assert {a.code for a in adopted} == {""}
    if close:
        await house.studies.close(study, "test")
    tid = await house.offers.create(study, SiteId(b"r" * 32), "transfer", "clerk")
    cid = Cid((await house.send(tid))["cid"])
    return Spool(house, study, tid, cid, workers)
