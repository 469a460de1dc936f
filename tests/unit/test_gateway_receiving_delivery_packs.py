"""`clients.gateway.receiving.delivery`: forged records, items that do not restore, damaged packs."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from clients.gateway.clock import system_random
from clients.gateway.receiving import delivery as module
from clients.gateway.receiving.inbox import NO_END
from tests.delivery_kit import Party, change_an_item, images, party
from tests.gateway_kit import PATIENCE, carry, eventually, running
from tests.spool_kit import noise, workers
from transfer import jws
from transfer.ids import Cid, Digest
from transfer.manifest import ChainWriter
from transfer.messages import sign_message
from transfer.packs import open_pack, seal_pack

__all__ = ["party", "workers"]


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
