"""`clients.gateway.sending.notes`: one line of the log, found again with its transfer and in its record."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.auditing.record import record_of
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.sending import notes
from clients.gateway.store import audit
from clients.gateway.views import NoteView
from tests.gateway_kit import NOW, houses
from transfer.ids import Tid


def test_what_a_line_says() -> None:
    assert notes.words_of(True, "", "") == "minor"
    assert (
        notes.words_of(False, " Spanish\u200b ", "has  custody\n")
        == "interpreter: Spanish; basis: has custody"
    )
    assert len(notes.words_of(True, "x" * 40, "y" * 200)) > 240


@pytest.mark.parametrize(
    "given", [(False, "", "\u202e "), (True, "x" * 41, ""), (True, "", "x" * 201), (True, "x" * 10_000, "")]
)
def test_a_note_says_something_in_few_letters(given: tuple[bool, str, str]) -> None:
    with pytest.raises(notes.NoteError):
        notes.words_of(*given)


def test_who_asked_to_stop_and_why() -> None:
    assert notes.asked("parent", " called\u200b at  14:10 ") == "asked to stop by parent: called at 14:10"


@pytest.mark.parametrize("given", [("self", "x"), ("", "x"), ("patient", "\u200b "), ("patient", "x" * 201)])
def test_a_wish_to_stop_names_who_and_why(given: tuple[str, str]) -> None:
    with pytest.raises(notes.StopRequestError):
        notes.asked(*given)


async def test_a_note_is_in_the_log_and_in_the_record(tmp_path: Path) -> None:
    async with houses(tmp_path) as (s, r):
        tid, other = await s.offer_to(r), await s.offer_to(r)

        async def note(words: str, of: Tid = tid) -> None:
            await s.db.run(lambda con: notes.add(con, of, words, "clerk", NOW))

        await note("minor")
        await note("interpreter: Spanish", other)
        await note("basis: has custody")
        found = await s.db.run(lambda con: notes.notes_of(con, tid))
        assert found == [NoteView(at=NOW, by="clerk", text=t) for t in ("minor", "basis: has custody")]
        await s.offers.stop_asked(other, notes.asked("patient", "at the desk"), "clerk")
        asked = await s.db.run(lambda con: notes.notes_of(con, other))
        assert [n.text for n in asked] == ["interpreter: Spanish", "asked to stop by patient: at the desk"]
        record = await s.db.run(lambda con: record_of(con, s.vault, tid))
        assert [n.detail for n in record.lines if n.action == "transfer.note"] == [
            "minor",
            "basis: has custody",
        ]
        assert await s.db.run(audit.verify) == 0
        with pytest.raises(AbsentError):
            await note("minor", Tid(bytes(16)))
        for _ in range(notes.MOST - 2):
            await note("minor")
        with pytest.raises(GatewayError, match="note-limit"):
            await note("minor")
