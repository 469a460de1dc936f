"""`clients.gateway.store.retention`: thirty days after its end a transfer is nobody's, and still a transfer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.store.retention import REMEMBER, forget
from tests.gateway_kit import NOW, House, StillClock, houses
from transfer.ids import Tid


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    async with houses(tmp_path, clock=StillClock()) as pair:
        yield pair


async def a_receive(s: House, r: House, state: str, ended_at: int) -> Tid:
    """A transfer at R as a delivery leaves it."""
    tid = await s.offer_to(r)
    await r.hear((await s.send(tid))["offer"], s)
    await r.execute(
        "UPDATE receives SET state=?, ended_at=?, patient_name='DOE, JANE', birth_date='1970-01-02', what='CT, Trauma'"
        " WHERE tid=?", state, ended_at, tid,
    )  # fmt: skip
    cid = (await r.receive(tid))["cid"]
    await r.execute("INSERT INTO in_records VALUES (?,0,0,'the text of a record')", cid)
    await r.execute("INSERT INTO in_series (cid, no, uid, want, closed) VALUES (?,0,'2.25.777',1,1)", cid)
    await r.execute(
        "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at)"
        " VALUES ('P','2.25.778',?,0,0,x'00','stored',0)",
        tid,
    )  # fmt: skip
    await r.execute("INSERT INTO presented VALUES (?,CAST('what the sender says' AS BLOB),0)", tid)
    await r.execute(
        "INSERT INTO identities VALUES (?,CAST('her number in this hospital' AS BLOB),'gateway',0)", tid
    )
    await r.execute(
        "INSERT INTO identity_changes (tid, from_id, from_issuer, to_id, to_issuer, to_name, to_birth_date, to_sex,"
        " by, at) VALUES (?,'a','b','her true number, as it turned out','','','','','x',0)", tid,
    )  # fmt: skip
    return tid


async def run(house: House, at: int) -> tuple[bool, list[str]]:
    return await house.db.run(lambda con: forget(con, at))


async def test_names_and_uids_go_and_the_transfer_stays(both: tuple[House, House]) -> None:
    s, r = both
    tid = await a_receive(s, r, "COMPLETE", NOW)
    secrets = (
        b"DOE, JANE1970-01-02", b"the text of a record", b"what the sender says", b"her number in this hospital",
        b"her true number, as it turned out",
    )  # fmt: skip
    assert await run(r, NOW + REMEMBER) == (False, [])
    assert (await r.receive(tid))["patient_name"] == "DOE, JANE"
    assert r.on_disk(secrets[0])
    assert r.on_disk(secrets[1])
    erased, files = await run(r, NOW + REMEMBER + 1)
    assert (erased, files) == (True, [])
    await r.db.scrub()
    row = await r.receive(tid)
    assert (row["patient_name"], row["birth_date"], row["what"]) == ("", "", "")
    assert (row["state"], row["offer"] is not None, row["ended_at"]) == ("COMPLETE", True, NOW)
    for table in ("ledger", "in_records", "in_series", "presented", "identities", "identity_changes"):
        assert await r.rows(f"SELECT * FROM {table}") == []
    assert r.on_disk(*secrets) == []
    assert await r.actions(tid.hex()) == ["incoming.offer"]
    assert await run(r, NOW + REMEMBER + 2) == (False, [])


@pytest.mark.parametrize("state", ["SEEN", "OPENED"])
async def test_what_is_open_is_never_forgotten(both: tuple[House, House], state: str) -> None:
    s, r = both
    tid = await a_receive(s, r, state, 0)
    await run(r, NOW + 10 * REMEMBER)
    assert (await r.receive(tid))["patient_name"] == "DOE, JANE"


async def test_at_the_sender_the_words_for_the_patient_go(both: tuple[House, House]) -> None:
    s, r = both
    tid = await s.offer_to(r)
    await s.offers.stop(tid, "clerk")
    assert await run(s, NOW + REMEMBER) == (False, [])
    assert await run(s, NOW + REMEMBER + 1) == (True, [])
    row = await s.send(tid)
    assert row["summary"] is None
    assert row["offer"] is not None
    assert await s.actions(tid.hex()) != []


async def test_refused_files_are_named_for_deletion_once(both: tuple[House, House]) -> None:
    s, _ = both
    bad = s.file()
    bad.write_bytes(b"x")
    await s.adopt(bad)
    assert await run(s, NOW + REMEMBER) == (False, [])
    assert (await run(s, NOW + REMEMBER + 1))[1] == [bad.name]
    assert (await run(s, NOW + REMEMBER + 1))[1] == []
