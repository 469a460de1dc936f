"""`clients.gateway.receiving.remarks`: the PACS's notes, transcoding, and gaps by destination, in words."""

from __future__ import annotations

import pytest

from clients.gateway.receiving import remarks
from clients.gateway.store.database import Con, Database

TID = b"t" * 16
Row = tuple[str, str, int | None, str]
"""Destination, state, status, transfer syntax."""


@pytest.mark.parametrize(
    ("ledger", "words", "line"),
    [
        ([("P@h:1", "stored", 0, ""), ("P@h:1", "stored", None, ""), ("P@h:1", "listed", None, "")], "", ""),
        ([("P@h:1", "failed", 0xA900, "")], "", ""),
        (
            [("P@h:1", "stored", 0xB000, ""), ("P@h:1", "stored", 0xB000, ""), ("P@h:1", "stored", 0xB007, "")],
            " 2 images were stored, but the PACS changed some of its elements (status B000). 1 image was stored, but"
            " the PACS found its data set not to be what its class says (status B007).",
            ", status B000 2, status B007 1",
        ),
        (
            [("P@h:1", "stored", 0x0111, "")],
            " 1 image was stored, but the PACS made a note that its log explains (status 0111).",
            ", status 0111 1",
        ),
        (
            [("P@h:1", "stored", 0, "1.2.840.10008.1.2.1")],
            " 1 image was stored in the transfer syntax Explicit VR Little Endian, without loss: the PACS refuses its"
            " own.",
            ", transcoded 1 to 1.2.840.10008.1.2.1",
        ),
        (
            [("P@h:1", "stored", 0, ""), ("NEURO@h:2", "failed", 0xA900, ""), ("NEURO@h:2", "failed", None, "")],
            " Missing at NEURO: 2.",
            ", missing at NEURO@h:2 2",
        ),
    ],
    ids=["as usual", "one destination's gap", "notes", "another note", "transcoded", "one of two destinations"],
)  # fmt: skip
async def test_what_is_said(db: Database, ledger: list[Row], words: str, line: str) -> None:
    def fill(con: Con) -> None:
        con.executemany(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, status, syntax)"
            " VALUES (?,?,?,?,0,x'00',?,0,?,?)",
            [
                (to, f"1.2.{no}", TID, no, state, status, syntax)
                for no, (to, state, status, syntax) in enumerate(ledger)
            ],
        )

    await db.run(fill)
    assert await db.run(lambda con: remarks.sentence(con, TID)) == words
    assert await db.run(lambda con: remarks.account(con, TID)) == line
