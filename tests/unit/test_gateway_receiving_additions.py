"""`clients.gateway.receiving.additions`: what an addition brings, whose it is, and which report is another edition."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from clients.gateway.clock import Signal
from clients.gateway.dicom.coercion import Change, Local
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.receiving.additions import (
    CHANGED,
    additions_of,
    changed_reports,
    contents_of,
    is_report,
    note_report,
)
from clients.gateway.receiving.identity import Identities, frozen_of
from clients.gateway.receiving.merging import IdentityChange, book, settle
from clients.gateway.store.database import Con, Database, one, rows
from tests.gateway_kit import DAY, NOW, Handset, StillClock, carry, houses
from tests.unit.test_gateway_receiving_identity import HEADER
from transfer.ids import Cid, Digest, SiteId, Tid
from transfer.messages import ItemEntry

PEER = SiteId(bytes(32))
FIRST, NEXT, LAST, OTHER = (Tid(bytes([n]) * 16) for n in range(1, 5))
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


async def receives(db: Database, tid: Tid, parent: Tid | None = None, state: str = "OPENED") -> None:
    def work(con: Con) -> None:
        con.execute(
            "INSERT INTO receives (tid, cid, peer, state, offer, created_at, exp, parent) VALUES (?,?,?,?,'',0,0,?)",
            (tid, Cid(tid), PEER, state, parent),
        )

    await db.run(work)


@pytest.mark.parametrize(
    ("uid", "is_one"),
    [
        (PDF, True), ("1.2.840.10008.5.1.4.1.1.104.2", True), ("1.2.840.10008.5.1.4.1.1.88.11", True),
        ("1.2.840.10008.5.1.4.1.1.88.59", False), ("1.2.840.10008.5.1.4.1.1.88.67", True),
        ("1.2.840.10008.5.1.4.1.1.2", False), ("1.2.840.10008.5.1.4.1.1.104.10", False),
    ],
)  # fmt: skip
def test_what_is_read_as_a_report(uid: str, is_one: bool) -> None:
    assert is_report(uid) == is_one


class Reports:
    """Reports as the delivery notes them."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def note(
        self, tid: Tid, no: int, title: str, uid: str = "", body: int = 0, series: str = "1.2.2"
    ) -> None:
        item = ItemEntry(
            no, 0, PDF, uid or f"2.25.{tid[0]}{no}", "1.2", "raw", 0, 1, 1, Digest(bytes([body]) * 32)
        )
        h = msgspec.structs.replace(HEADER, document_title=title, series_uid=series)
        await self.db.run(lambda con: note_report(con, tid, item, h, NOW))

    async def changed(self, *tids: Tid) -> list[int]:
        return [await self.db.run(lambda con, tid=tid: changed_reports(con, tid)) for tid in tids]  # type: ignore[misc]


async def test_another_edition_of_a_report_is_flagged_at_the_one_that_came_later(db: Database) -> None:
    """Whichever was restored first; the same again, and a report of another patient's study, is none."""
    for tid, parent in ((FIRST, None), (NEXT, FIRST), (LAST, FIRST), (OTHER, None)):
        await receives(db, tid, parent)
    reports = Reports(db)
    await reports.note(NEXT, 0, "CT head (corrected)")
    await reports.note(OTHER, 0, "CT head")
    assert await reports.changed(FIRST, NEXT, OTHER) == [0, 0, 0]
    for _ in range(2):  # as after a restart
        await reports.note(FIRST, 0, "CT Head (preliminary)", uid="2.25.1")
        await reports.note(FIRST, 1, "CT spine")
        await reports.note(LAST, 0, "CT head", uid="2.25.1")
    assert await reports.changed(FIRST, NEXT, LAST, OTHER) == [0, 1, 1, 0]
    alarms = await db.run(
        lambda con: [(bytes(r["tid"]), r["code"]) for r in rows(con, "SELECT * FROM alarms ORDER BY id")]
    )
    assert alarms == [(NEXT, CHANGED), (LAST, CHANGED)]
    assert (
        await db.run(lambda con: len(rows(con, "SELECT 1 FROM audit WHERE action='incoming.report-changed'")))
        == 2
    )


async def test_the_same_report_again_and_reports_without_a_title(db: Database) -> None:
    for tid, parent in ((FIRST, None), (NEXT, FIRST), (LAST, FIRST)):
        await receives(db, tid, parent)
    reports = Reports(db)
    await reports.note(FIRST, 0, "", uid="2.25.9", body=1)
    await reports.note(NEXT, 0, "", uid="2.25.9", body=1)
    await reports.note(NEXT, 1, "", uid="2.25.8", series="1.2.3")
    assert await reports.changed(NEXT) == [0]
    await reports.note(LAST, 0, "", uid="2.25.9", body=2)
    assert await reports.changed(LAST) == [1], "other bytes under its number"


async def test_what_it_brings_that_was_not_here(db: Database) -> None:
    await receives(db, FIRST)
    await receives(db, NEXT, FIRST)

    def fill(con: Con) -> None:
        for no, modality in enumerate(("CT", "DOC")):
            con.execute("INSERT INTO in_series VALUES (?,?,?,0,0,'',?)", (NEXT, no, f"2.25.{no}", modality))
        for no, (series, state, note) in enumerate(
            [(0, "stored", ""), (0, "stored", "had"), (0, "listed", ""), (1, "stored", "")]
        ):
            for to in ("A", "B"):
                con.execute(
                    "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, note, at)"
                    " VALUES (?,?,?,?,?,x'00',?,?,0)",
                    (to, f"2.25.{no}", NEXT, no, series, state, note),
                )

    await db.run(fill)

    async def said() -> str:
        def look(con: Con) -> str:
            row = one(con, "SELECT * FROM receives WHERE tid=?", (NEXT,))
            assert row is not None
            return contents_of(con, row)

        return await db.run(look)

    assert await said() == "2 images, 1 report"
    await db.run(lambda con: con.execute("UPDATE receives SET state='PARTIAL' WHERE tid=?", (NEXT,)))
    assert await said() == "1 image, 1 report"
    assert await db.run(lambda con: additions_of(con, FIRST)) == [NEXT.hex()]


class Filing:
    """Decides without waiting."""

    def __init__(self, db: Database, policy: str = "match") -> None:
        self.db, self.clock = db, StillClock()
        self.identities = Identities(db, self.clock, policy, "TRAUMATX", Signal(), wait=0)  # type: ignore[arg-type]

    async def number(self, tid: Tid, h: InstanceHeader = HEADER) -> str | None:
        """Under which number a transfer is filed; None: it waits."""
        frozen, _ = await self.db.run(lambda con: self.identities._decide(con, tid, PEER, h))
        if frozen is None:
            return None
        assert frozen.change is not None
        return frozen.change.local.patient_id

    async def choose(self, tid: Tid, number: str) -> None:
        await self.identities.choose(tid, Local(patient_id=number, issuer="H"), "drx")

    async def correct(self, tid: Tid, to: str, state: str = "waiting") -> None:
        change = IdentityChange(
            id=0, tid=tid, from_id="", from_issuer="", to_id=to, to_issuer="H2", to_name="", to_birth_date="",
            to_sex="", by="drx", at=NOW, state="waiting", note="",
        )  # fmt: skip

        def work(con: Con) -> None:
            book(con, change)
            if state != "waiting":
                newest = one(con, "SELECT max(id) AS id FROM identity_changes")
                assert newest is not None
                settle(con, newest["id"], state, "", NOW)  # type: ignore[arg-type]

        await self.db.run(work)


async def test_it_is_filed_as_its_parent_is_by_now(db: Database) -> None:
    """Nobody is asked twice; and what was corrected meanwhile is under the right number from the start."""
    await receives(db, FIRST)
    await receives(db, NEXT, FIRST)
    await receives(db, LAST, FIRST)
    filing = Filing(db)
    assert await filing.number(NEXT) is None, "its first image is here before the parent's"
    assert await filing.number(FIRST) is None
    await filing.choose(FIRST, "4711")
    assert await filing.number(FIRST) == "4711"
    assert await filing.number(NEXT) == "4711"
    await filing.correct(FIRST, "9", state="failed")
    await filing.correct(FIRST, "4712")
    assert await filing.number(LAST) == "4712"
    frozen = await db.run(lambda con: frozen_of(con, LAST))
    assert frozen is not None
    assert frozen.change == Change(
        local=Local(patient_id="4712", issuer="H2"),
        system="TRAUMATX",
        source="",
        at=frozen.change.at,  # type: ignore[union-attr]
    )
    assert frozen.sender is not None
    assert frozen.sender.is_other(msgspec.structs.replace(HEADER, patient_id="another"))


async def test_a_parent_that_ended_without_an_image_decides_nothing(db: Database) -> None:
    await receives(db, FIRST, state="PARTIAL")
    await receives(db, NEXT, FIRST)
    assert await Filing(db, "prefix").number(NEXT) is not None


async def test_a_parent_that_was_not_opened_has_no_addition(tmp_path: Path) -> None:
    """A sender that claims a yes which this site never saw: declined, with the code, and nothing is opened."""
    async with houses(tmp_path) as (s, r):
        study = await s.a_study()
        tid = await s.offers.create(study, r.site, "transfer", "clerk", add=DAY)
        await s.make_offer(tid, r)
        await carry(s, r)
        phone = await Handset.scan(s, tid)
        await phone.ask()
        await phone.decide()
        await s.execute("DELETE FROM outbox WHERE kind='queue'")  # the release never leaves
        await s.execute("UPDATE spools SET frozen=(SELECT max(id) FROM instances)")
        await s.adopt(s.file(SeriesInstanceUID="2.25.77"))
        await s.offers.follow_up()
        (child,) = [Tid(x["tid"]) for x in await s.rows("SELECT tid FROM sends WHERE parent=?", tid)]
        await s.make_offer(child, r)
        await carry(s, r)
        row, sent = await r.receive(child), await s.send(child)
        assert (row["state"], row["why"], row["parent"], row["k_sealed"]) == ("DECLINED", "hash", None, None)
        assert (sent["state"], sent["why"]) == ("PARTIAL", "hash")
        assert not await r.rows("SELECT 1 FROM used")
