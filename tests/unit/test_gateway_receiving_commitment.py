"""`clients.gateway.receiving.commitment`: a report counts once, for what was asked, if it comes in time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from clients.gateway.dicom.commitment import MOST, Report
from clients.gateway.dicom.contexts import Pair
from clients.gateway.dicom.statuses import CommitResult, requested
from clients.gateway.receiving import commitment as module
from clients.gateway.receiving.commitment import Answered, Commitments

CT = "1.2.840.10008.5.1.4.1.1.2"


class Pacs:
    """Takes requests, and says what a test wants of each."""

    def __init__(self, room: Commitments, *says: object) -> None:
        self.room, self.says = room, list(says)
        self.asked: list[tuple[str, list[Pair]]] = []

    async def commit(self, transaction: str, references: list[Pair]) -> CommitResult:
        self.asked.append((transaction, references))
        say = self.says.pop(0) if self.says else None
        if isinstance(say, CommitResult):
            return say
        if callable(say):
            say(transaction, [uid for _, uid in references])
        return requested(0, "")


def refs(n: int) -> list[Pair]:
    return [(CT, f"1.2.{i}") for i in range(n)]


async def ask(room: Commitments, pacs: Pacs, n: int, seconds: float = 30.0) -> Answered:
    return await room.ask(pacs, refs(n), seconds)  # type: ignore[arg-type]


async def test_all_safe_and_some_lost() -> None:
    room = Commitments()
    pacs = Pacs(
        room,
        lambda t, uids: room.report(Report(t, uids, [])),
        lambda t, uids: room.report(Report(t, uids[1:], [(uids[0], 0x0112)])),
    )
    found = await ask(room, pacs, MOST + 10)
    assert [len(r) for _, r in pacs.asked] == [MOST, 10]
    assert pacs.asked[0][0] != pacs.asked[1][0]
    assert (len(found.safe), found.lost, found.why) == (MOST + 9, {f"1.2.{MOST}": 0x0112}, "")


async def test_what_nobody_asked_about_is_dropped() -> None:
    room = Commitments()

    def odd(transaction: str, uids: list[str]) -> None:
        room.report(Report("2.25.1", uids, []))  # of nobody's transaction
        room.report(Report(transaction, [uids[0], "9.9.9"], [("8.8.8", 1), (uids[0], 1)]))
        room.report(Report(transaction, [], [(uids[0], 0x0112)]))  # again, and otherwise

    found = await ask(room, Pacs(room, odd), 2)
    assert (found.safe, found.lost, found.why) == ({"1.2.0"}, {}, "")


async def test_a_report_that_comes_later_than_the_answer() -> None:
    room = Commitments()
    loop = asyncio.get_running_loop()
    pacs = Pacs(room, lambda t, uids: loop.call_soon(loop.call_soon, room.report, Report(t, uids, [])))
    assert len((await ask(room, pacs, 3)).safe) == 3


async def test_a_pacs_that_never_reports() -> None:
    room = Commitments()
    pacs = Pacs(room)
    found = await ask(room, pacs, 3, seconds=0.0)
    assert (found.safe, found.why) == (frozenset(), "pacs-late")
    room.report(Report(pacs.asked[0][0], ["1.2.0"], []))  # too late: no error, no effect
    assert room._open == {}


@pytest.mark.parametrize(
    ("status", "trouble", "code"),
    [(0x0122, "", "pacs-commit"), (None, "pacs-commit", "pacs-commit"), (None, "pacs-down", "pacs-down")],
)
async def test_a_pacs_that_cannot(status: int | None, trouble: str, code: str) -> None:
    room = Commitments()
    found = await ask(room, Pacs(room, requested(status, trouble)), 3)
    assert (found.safe, found.lost, found.why) == (frozenset(), {}, code)


async def test_what_was_answered_before_a_failure_stays() -> None:
    room = Commitments()
    pacs = Pacs(room, lambda t, uids: room.report(Report(t, uids, [])), requested(None, "pacs-lost"))
    found = await ask(room, pacs, MOST + 1)
    assert (len(found.safe), found.why) == (MOST, "pacs-lost")


async def test_a_pacs_that_gave_no_report_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an hour, or for a minute where it has reported before; the others are asked."""
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    room, safe = Commitments(), Answered(frozenset({"1.2"}), {})
    late = Answered(frozenset(), {}, "pacs-late")
    assert room.may_ask("NEW@there")
    room.learn("NEW@there", late)
    room.learn("OLD@there", safe)
    assert (room.may_ask("NEW@there"), room.may_ask("OLD@there")) == (False, True)
    room.learn("OLD@there", late)
    assert not room.may_ask("OLD@there")
    now[0] += 60.0
    assert (room.may_ask("NEW@there"), room.may_ask("OLD@there")) == (False, True)
    now[0] += 3540.0
    assert room.may_ask("NEW@there")


def test_without_our_scp_there_is_nobody_to_report_to() -> None:
    assert not Commitments(heard=False).may_ask("PACS@here")
