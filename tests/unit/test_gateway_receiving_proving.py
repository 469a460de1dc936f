"""`clients.gateway.receiving.proving`: commitment, else a query, else the answer to the C-STORE; who is lost is sent
once more, and is a gap after that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from clients.gateway.clock import Signal
from clients.gateway.dicom.commitment import MOST, Report
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.statuses import CommitResult, FindResult, found, requested
from clients.gateway.receiving import proving as module
from clients.gateway.receiving.commitment import Commitments
from clients.gateway.receiving.ledger import Ledger, Proof, Result
from clients.gateway.receiving.proving import Prover
from clients.gateway.store.database import Con, Database, rows
from tests.gateway_kit import StillClock
from transfer.ids import Digest, Tid
from transfer.messages import ItemEntry

TID = Tid(b"t" * 16)
CT = "1.2.840.10008.5.1.4.1.1.2"
OK = requested(0, "")
Answers = Callable[["Pacs", str, list[str]], CommitResult]
"""What a PACS does with a request: a transaction and its SOP Instance UIDs."""


class Pacs:
    """A PACS behind the door: `has` are the instances that it finds, None where it answers no queries."""

    def __init__(self, answers: Answers, has: set[str] | None) -> None:
        self.answers, self.has = answers, has
        self.commitments = Commitments()
        self.asked: list[list[str]] = []
        self.queries: list[str] = []
        self.failure = "pacs-query"

    async def commit(self, transaction: str, references: list[Pair]) -> CommitResult:
        assert {sop_class for sop_class, _ in references} == {CT}
        uids = [uid for _, uid in references]
        self.asked.append(uids)
        return self.answers(self, transaction, uids)

    async def find(self, study: str, series: str, sop_uid: str) -> FindResult:
        assert (study, series) == ("1.1", "1.2")
        self.queries.append(sop_uid)
        if self.has is None:
            return found(None, self.failure, there=False)
        return found(0, "", there=sop_uid in self.has)


def reports(failed: dict[int, int] | None = None, silent: range = range(0)) -> Answers:
    """All are safe but the `failed` (number: reason), and those of which it does not speak."""

    def answer(pacs: Pacs, transaction: str, uids: list[str]) -> CommitResult:
        bad = {uid_of(no): reason for no, reason in (failed or {}).items()}
        mute = {uid_of(no) for no in silent}
        safe = [uid for uid in uids if uid not in bad and uid not in mute]
        pacs.commitments.report(Report(transaction, safe, [(u, bad[u]) for u in uids if u in bad]))
        return OK

    return answer


def refuses(status: int | None, trouble: str = "") -> Answers:
    return lambda pacs, transaction, uids: requested(status, trouble)


def uid_of(no: int) -> str:
    return f"1.2.{no}"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that lists what it has at once, and no pauses."""
    monkeypatch.setattr(module, "_LAG", 0.0)
    monkeypatch.setattr(module, "_PAUSE_FIRST", 0.0)


async def a_ledger(db: Database, count: int, proof: Proof = "store") -> Ledger:
    """All stored."""
    ledger = Ledger(TID, "PACS@here", db, StillClock(), Signal())
    items = [
        ItemEntry(no, 0, CT, uid_of(no), "1.2.840.10008.1.2", "raw", 0, 1, 1, Digest(bytes(32)))
        for no in range(count)
    ]
    await db.run(lambda con: ledger.list_items(con, items))
    await stored(ledger, range(count), proof)
    return ledger


async def stored(ledger: Ledger, numbers: range, proof: Proof = "store") -> None:
    for no in numbers:
        ledger.settle(Result(no, proof, 0, study_uid="1.1", series_uid="1.2"))
    await ledger.flush()


async def outcome(db: Database) -> dict[int, str]:
    """Proof of each stored item; note or state of the others."""

    def work(con: Con) -> dict[int, str]:
        found = rows(con, "SELECT no, state, proof, note FROM ledger WHERE tid=? ORDER BY no", (TID,))
        return {r["no"]: r["proof"] or r["note"] or r["state"] for r in found}

    return await db.run(work)


async def prove(db: Database, ledger: Ledger, pacs: Pacs, seconds: float = 30.0) -> bool:
    return await Prover(db, cast(Any, pacs), pacs.commitments, seconds).prove(ledger)


async def test_all_are_committed_in_batches_and_nothing_else_is_asked(db: Database) -> None:
    ledger, pacs = await a_ledger(db, MOST + 2), Pacs(reports(), None)
    assert await prove(db, ledger, pacs) is False
    assert set((await outcome(db)).values()) == {"commit"}
    assert ([len(x) for x in pacs.asked], pacs.queries) == ([MOST, 2], [])
    assert await prove(db, ledger, pacs) is False
    assert len(pacs.asked) == 2, "what is committed is not asked about again"


async def test_what_was_found_before_is_committed_too(db: Database) -> None:
    ledger, pacs = await a_ledger(db, 2, "find"), Pacs(reports(), None)
    await prove(db, ledger, pacs)
    assert await outcome(db) == {0: "commit", 1: "commit"}


@pytest.mark.parametrize("reason", [0x0112, 0x0119])
async def test_who_is_lost_is_sent_once_more_and_is_a_gap_after_that(db: Database, reason: int) -> None:
    ledger, pacs = await a_ledger(db, 3), Pacs(reports({1: reason}), {uid_of(1)})
    assert await prove(db, ledger, pacs) is True
    assert await outcome(db) == {0: "commit", 1: "listed", 2: "commit"}
    assert pacs.queries == [], "it has said so"
    await stored(ledger, range(1, 2))
    assert await prove(db, ledger, pacs) is False
    assert await outcome(db) == {0: "commit", 1: "lost", 2: "commit"}
    assert pacs.asked[1] == [uid_of(1)]


async def test_who_is_lost_and_sent_again_is_committed(db: Database) -> None:
    ledger, pacs = await a_ledger(db, 2), Pacs(reports({1: 0x0112}), None)
    assert await prove(db, ledger, pacs) is True
    pacs.answers = reports()
    await stored(ledger, range(1, 2))
    assert await prove(db, ledger, pacs) is False
    assert await outcome(db) == {0: "commit", 1: "commit"}


@pytest.mark.parametrize("reason", [0x0110, 0x0213, 0x0131, 0x0122, 0x0777])
async def test_a_reason_of_its_own_is_no_loss_while_it_finds_it(db: Database, reason: int) -> None:
    ledger, pacs = await a_ledger(db, 3), Pacs(reports({1: reason}), {uid_of(1)})
    assert await prove(db, ledger, pacs) is False
    assert await outcome(db) == {0: "commit", 1: "find", 2: "commit"}
    assert pacs.queries == [uid_of(1)]


@pytest.mark.parametrize(("reason", "then"), [(0x0110, "listed"), (0x0213, "listed"), (0x0122, "store")])
async def test_a_refusal_to_answer_for_it_and_no_queries(db: Database, reason: int, then: str) -> None:
    """Out of resources is not safe; a class that it does not commit is as safe as the C-STORE."""
    ledger, pacs = await a_ledger(db, 2), Pacs(reports({1: reason}), None)
    assert await prove(db, ledger, pacs) is (then == "listed")
    assert await outcome(db) == {0: "commit", 1: then}


async def test_who_is_not_spoken_of_is_asked_for(db: Database) -> None:
    ledger, pacs = await a_ledger(db, 6), Pacs(reports(silent=range(3, 6)), {uid_of(3), uid_of(5)})
    assert await prove(db, ledger, pacs) is True
    assert await outcome(db) == {0: "commit", 1: "commit", 2: "commit", 3: "find", 4: "listed", 5: "find"}


@pytest.mark.parametrize(
    ("status", "trouble"),
    [(0, "")]
    + [(s, "") for s in (0x0110, 0x0112, 0x0118, 0x0119, 0x0123, 0x0124, 0x0210, 0x0213, 0xC000)]
    + [(None, code) for code in ("pacs-commit", "pacs-late", "pacs-lost", "dicom-child")],
)
async def test_a_pacs_that_does_not_commit_is_asked_by_query_and_not_for_commitment_again(
    db: Database, status: int | None, trouble: str
) -> None:
    """It refuses with a status, goes silent or away, or takes the request and never reports."""
    ledger, pacs = await a_ledger(db, 3), Pacs(refuses(status, trouble), {uid_of(no) for no in range(3)})
    assert await prove(db, ledger, pacs, 0.05) is False
    assert await outcome(db) == dict.fromkeys(range(3), "find")
    before = len(pacs.asked)
    await db.run(lambda con: con.execute("UPDATE ledger SET proof='store'"))
    await prove(db, ledger, pacs, 0.05)
    assert len(pacs.asked) == before > 0


async def test_a_pacs_that_answers_nothing_keeps_the_answer_to_the_store(db: Database) -> None:
    ledger, pacs = await a_ledger(db, 3), Pacs(refuses(None, "pacs-commit"), None)
    assert await prove(db, ledger, pacs) is False
    assert await outcome(db) == dict.fromkeys(range(3), "store")
    assert len(pacs.queries) == 1, "it has shown that it does not answer"


async def test_a_pacs_that_breaks_off_queries_is_asked_a_few_times(db: Database) -> None:
    ledger, pacs = await a_ledger(db, 3), Pacs(refuses(None, "pacs-commit"), None)
    pacs.failure = "pacs-lost"
    assert await prove(db, ledger, pacs) is False
    assert (await outcome(db), len(pacs.queries)) == (dict.fromkeys(range(3), "store"), 3)


async def test_a_pacs_that_is_away_for_long_keeps_the_proof_it_has(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUERIES", 0.05)
    monkeypatch.setattr(module, "_PAUSE_FIRST", 0.01)
    ledger, pacs = await a_ledger(db, 3), Pacs(refuses(None, "pacs-down"), None)
    pacs.failure = "pacs-down"
    assert await prove(db, ledger, pacs, 0.05) is False
    assert await outcome(db) == dict.fromkeys(range(3), "store")


async def test_a_pacs_that_comes_back_in_time_commits(db: Database) -> None:
    tries = iter([refuses(None, "pacs-down"), refuses(None, "pacs-lost"), reports()])
    ledger = await a_ledger(db, 2)
    pacs = Pacs(lambda *given: next(tries)(*given), None)
    assert await prove(db, ledger, pacs) is False
    assert await outcome(db) == {0: "commit", 1: "commit"}


async def test_an_archive_that_lists_later_has_lost_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAG", 60.0)
    ledger = await a_ledger(db, 3)
    pacs = Pacs(refuses(None, "pacs-commit"), set())
    look = pacs.find

    async def find(study: str, series: str, sop_uid: str) -> FindResult:
        answer = await look(study, series, sop_uid)
        assert pacs.has is not None
        pacs.has.add(sop_uid)
        return answer

    monkeypatch.setattr(pacs, "find", find)
    assert await prove(db, ledger, pacs) is False
    assert await outcome(db) == dict.fromkeys(range(3), "find")


async def test_two_reports_and_one_about_others(db: Database) -> None:
    """The first counts, for what was asked; so an instance of another transfer is not proven by it."""

    def answer(pacs: Pacs, transaction: str, uids: list[str]) -> CommitResult:
        pacs.commitments.report(Report("2.25.1", uids, []))
        pacs.commitments.report(Report(transaction, [uids[0], "9.9.9"], [(uids[1], 0x0112), ("8.8", 0x0112)]))
        pacs.commitments.report(Report(transaction, uids, []))
        return OK

    ledger = await a_ledger(db, 2)
    assert await prove(db, ledger, Pacs(answer, None)) is True
    assert await outcome(db) == {0: "commit", 1: "listed"}


async def test_nobody_is_asked_where_that_is_the_policy(db: Database) -> None:
    ledger, pacs = await a_ledger(db, 2), Pacs(reports(), {uid_of(0)})
    assert await prove(db, ledger, pacs, 0.0) is False
    assert (pacs.asked, pacs.queries) == ([], [])
    assert await outcome(db) == {0: "store", 1: "store"}


async def test_rows_of_an_older_version_are_left_as_they_are(db: Database) -> None:
    """They have no class to be committed by, and no study to be asked for."""
    ledger, pacs = await a_ledger(db, 2), Pacs(reports(), set())
    await db.run(lambda con: con.execute("UPDATE ledger SET sop_class='', study_uid='' WHERE no=0"))
    assert await prove(db, ledger, pacs) is False
    assert await outcome(db) == {0: "store", 1: "commit"}


async def test_without_our_scp_nobody_can_report(db: Database) -> None:
    ledger, pacs = await a_ledger(db, 1), Pacs(reports(), {uid_of(0)})
    pacs.commitments = Commitments(heard=False)
    await prove(db, ledger, pacs)
    assert (pacs.asked, await outcome(db)) == ([], {0: "find"})
