"""`clients.gateway.auditing.packet`: the paper for the chart says what is so, read back from the PDF."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from pypdf import PdfReader

from clients.gateway.auditing.packet import packet
from clients.gateway.auditing.record import Record, record_of
from tests.auditing_kit import decided
from tests.gateway_kit import houses

AT = 1_790_000_000


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with houses(tmp_path) as (s, r):
        tid = await decided(s, r, by="proxy", name="Ana <b>Ruiz</b>", rel="parent")
        yield await s.db.run(lambda con: record_of(con, s.vault, tid))


def text_of(pdf: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages).split())


async def test_who_said_what_and_when(record: Record) -> None:
    text = text_of(packet(record, "Valley ED", AT))
    assert record.tid in text
    assert "approved by Ana <b>Ruiz</b> (parent)" in text, "mark-up of others is text"
    assert "Patient ID P1" in text
    assert "transfer.approve" in text
    for digest in record.digests.values():
        assert digest in text
    assert "Without the patient's yes" not in text


async def test_what_staff_noted_is_beside_the_decision(record: Record) -> None:
    line = msgspec.structs.replace(
        record.lines[0], action="transfer.note", actor="desk1", detail="minor; basis: custody"
    )
    text = text_of(packet(msgspec.structs.replace(record, lines=[line]), "Valley ED", AT))
    assert "Noted minor; basis: custody (desk1, " in text
    assert "Asked to stop" not in text
    late = msgspec.structs.replace(line, action="transfer.stop-asked", detail="")
    text = text_of(packet(msgspec.structs.replace(record, lines=[late]), "Valley ED", AT))
    assert ", after the end" in text


async def test_no_name_turns_the_paper_round(record: Record) -> None:
    assert record.decision is not None
    names = msgspec.structs.replace(record, peer="\u202eabc\u202c Ward\u200b 3\x07")
    assert "abc Ward 3" in text_of(packet(names, "Valley ED", AT))


async def test_what_staff_decided_is_in_red(record: Record) -> None:
    assert record.decision is not None
    staff = msgspec.structs.replace(
        record, decision=msgspec.structs.replace(record.decision, rung="override")
    )
    assert "Without the patient's yes: emergency override." in text_of(packet(staff, "X", AT))


async def test_a_long_story_fits(record: Record) -> None:
    long = msgspec.structs.replace(record, lines=record.lines[:1] * 700)
    text = text_of(packet(long, "Spital Zürich", AT))
    assert "200 more lines are in the audit log" in text
    assert "Zürich" in text


async def test_a_letter_without_a_font_does_not_lose_the_rest(record: Record) -> None:
    text = text_of(packet(msgspec.structs.replace(record, peer="Łódź 東京 Centre"), "Spital Zürich", AT))
    assert "Centre" in text
    assert "Zürich" in text
    assert "東" not in text
