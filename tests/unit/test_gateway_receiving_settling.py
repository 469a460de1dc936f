"""`clients.gateway.receiving.settling`: what the ledger's proofs and notes say to staff, to S and in the audit log."""

from __future__ import annotations

from typing import Any, cast

import pytest

from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.dicom.statuses import TROUBLES, FindResult, found
from clients.gateway.receiving.settling import Question, account, proof_of, sentence, weaker
from clients.gateway.store.database import Database
from transfer.ids import Tid

TID, OTHER = Tid(b"t" * 16), Tid(b"o" * 16)
HEADER = InstanceHeader(
    sop_class="1.2",
    sop_uid="1.2.3",
    syntax="1.2",
    study_uid="1.2.1",
    series_uid="1.2.2",
    data_offset=0,
    size=1,
)


async def rows(db: Database, tid: Tid, *found: tuple[str, str, str]) -> None:
    """State, proof and note of each item."""
    await db.run(
        lambda con: con.executemany(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, proof, note)"
            " VALUES ('PACS@here',?,?,?,0,x'00',?,0,?,?)",
            [(f"1.2.{no}", tid, no, *row) for no, row in enumerate(found)],
        )
    )


STORED, FOUND, AGAIN = ("stored", "store", ""), ("stored", "find", ""), ("stored", "store", "resent")
FAILED, CONFLICT = ("failed", "", "refused"), ("failed", "", "uid-conflict")
SAFE, HAD = ("stored", "commit", ""), ("stored", "find", "had")


@pytest.mark.parametrize(
    ("ledger", "proof", "words", "line"),
    [
        ([], "store", "", "found 0, sent again 0"),
        ([STORED, STORED], "store", "", "found 0, sent again 0"),
        ([FOUND, FOUND, FAILED], "find", "", "found 2, sent again 0"),
        ([FOUND, STORED], "store", "", "found 1, sent again 0"),
        ([FAILED], "store", "", "found 0, sent again 0"),
        ([SAFE, SAFE, FAILED], "commit", "", "found 0, sent again 0, committed 2"),
        ([SAFE, FOUND], "find", "", "found 1, sent again 0, committed 1"),
        ([SAFE, FOUND, STORED], "store", "", "found 1, sent again 0, committed 1"),
        (
            [HAD, SAFE], "find", " 1 image was in the PACS before and was not sent again.",
            "found 1, sent again 0, committed 1, had before 1",
        ),
        (
            [HAD, HAD, CONFLICT], "find", " 2 images were in the PACS before and were not sent again.",
            "found 2, sent again 0, had before 2, conflicts 1",
        ),
        (
            [STORED, AGAIN], "store",
            " The PACS did not answer queries: 1 image that may have been there already was sent again.",
            "found 0, sent again 1",
        ),
        (
            [FOUND, AGAIN, AGAIN], "store",
            " The PACS did not answer queries: 2 images that may have been there already were sent again.",
            "found 1, sent again 2",
        ),
    ],
)  # fmt: skip
async def test_what_is_said(
    db: Database, ledger: list[tuple[str, str, str]], proof: str, words: str, line: str
) -> None:
    await rows(db, OTHER, FOUND, AGAIN)
    await rows(db, TID, *ledger)
    assert await db.run(lambda con: proof_of(con, TID)) == proof
    assert await db.run(lambda con: sentence(con, TID)) == words
    assert await db.run(lambda con: account(con, TID)) == line


async def test_what_was_lost_and_sent_again_is_said(db: Database) -> None:
    await rows(db, TID, SAFE, SAFE, FAILED)
    await db.run(lambda con: con.execute("UPDATE ledger SET lost=1 WHERE no IN (0, 2)"))
    assert await db.run(lambda con: sentence(con, TID)) == (
        " The PACS was sent 1 image that it had taken and lost a second time."
    )
    assert (await db.run(lambda con: account(con, TID))).endswith("committed 2, lost 2")


@pytest.mark.parametrize(
    ("ledger", "named"),
    [
        ([SAFE, FOUND, STORED, CONFLICT], [(1, "find"), (2, "store"), (3, "uid-conflict")]),
        ([FOUND, STORED, FAILED], [(1, "store"), (2, "refused")]),
        ([STORED, STORED, FAILED], [(2, "refused")]),
        ([STORED, ("listed", "", "")], [(1, "listed")]),
        ([SAFE, SAFE], []),
        ([], []),
    ],
)
async def test_who_has_less_than_the_others(
    db: Database, ledger: list[tuple[str, str, str]], named: list[tuple[int, str]]
) -> None:
    await rows(db, OTHER, FOUND, FAILED)
    await rows(db, TID, *ledger)
    found = await db.run(lambda con: weaker(con, TID, 100))
    assert found == [(no, 0, f"1.2.{no}", why) for no, why in named]
    assert await db.run(lambda con: weaker(con, TID, 1)) == found[:1]


class Says:
    """A PACS that says one thing."""

    def __init__(self, answer: FindResult) -> None:
        self.answer = answer

    async def find(self, study: str, series: str, sop_uid: str) -> FindResult:
        assert (study, series, sop_uid) == ("1.2.1", "1.2.2", "1.2.3")
        return self.answer


async def asked(answer: FindResult, times: int = 1) -> list[str]:
    question = Question(cast(Any, Says(answer)), HEADER)
    return [(await question.ask()).kind for _ in range(times)]


@pytest.mark.parametrize(
    ("status", "there", "answer"),
    [(0x0000, True, "there"), (0x0000, False, "absent"), (0xA700, True, "mute"), (0xC001, False, "mute")],
)
async def test_an_answer_counts_if_it_is_one(status: int, there: bool, answer: str) -> None:
    assert await asked(found(status, "", there=there)) == [answer]


async def test_only_a_pacs_that_is_away_is_waited_for() -> None:
    """Whatever else keeps it from answering would keep it from being sent to for ever."""
    for code in TROUBLES.keys() - {"pacs-down", "pacs-lost", "dicom-child"}:
        assert await asked(found(None, code, there=False)) == ["mute"]
    assert await asked(found(None, "pacs-down", there=False), 9) == ["away"] * 9
    for code in ("pacs-lost", "dicom-child"):
        assert await asked(found(None, code, there=False), 4) == ["away", "away", "mute", "mute"]
