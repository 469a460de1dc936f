"""Images of which it is not known whether they arrived: the connection broke, no answer came, we crashed.

The PACS is asked by C-FIND before anything is sent again. What it has is stored, with the proof `find`; what it
does not have is sent. A PACS that does not answer queries gets the image again, which it takes as the same one;
that is noted in the ledger, in the audit log and at the inbox, because it may then have been sent twice. One
that breaks off while it is asked may be on its way down: it is asked again a few times first.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.receiving.ledger import Proof
from clients.gateway.store.database import Con, value
from transfer.ids import Tid

RESENT = "resent"
"""The note of an item that was sent again without an answer to whether that was needed."""

_BROKEN = ("pacs-lost", "dicom-child")
_BROKEN_MOST = 2
"""Times that a query may break off before that counts as an answer."""


class Answer(msgspec.Struct, frozen=True):
    """Whether the PACS has an instance: `mute` if it does not say, `away` if it cannot say now, and why."""

    kind: Literal["there", "absent", "mute", "away"]
    code: str = ""


class Question:
    """Whether the PACS has one instance."""

    def __init__(self, scu: StoreScu, header: InstanceHeader) -> None:
        self._scu, self._header = scu, header
        self._broken = 0

    async def ask(self) -> Answer:
        """Asks, and may be asked again."""
        h = self._header
        found = await self._scu.find(h.study_uid, h.series_uid, h.sop_uid)
        if found.there is not None:
            return Answer("there" if found.there else "absent")
        if found.code in _BROKEN:
            self._broken += 1
            return Answer("away" if self._broken <= _BROKEN_MOST else "mute", found.code)
        return Answer("away" if found.code == "pacs-down" else "mute", found.code)


def proof_of(con: Con, tid: Tid) -> Literal["find", "store"]:
    """What all that is stored rests on: the query, if every instance does; else the answers to C-STORE."""
    return "find" if _stored(con, tid, "find") and not _stored(con, tid, "store") else "store"


def account(con: Con, tid: Tid) -> str:
    """For the audit log: how many were found, and how many were sent again."""
    return f"found {_stored(con, tid, 'find')}, sent again {_resent(con, tid)}"


def sentence(con: Con, tid: bytes) -> str:
    """For staff, where something was sent again; else empty."""
    if n := _resent(con, tid):
        what = (
            "image that may have been there already was"
            if n == 1
            else "images that may have been there already were"
        )
        return f" The PACS did not answer queries: {n} {what} sent again."
    return ""


def _stored(con: Con, tid: bytes, proof: Proof) -> int:
    return int(
        value(con, "SELECT count(*) FROM ledger WHERE tid=? AND state='stored' AND proof=?", (tid, proof))
    )


def _resent(con: Con, tid: bytes) -> int:
    return int(value(con, "SELECT count(*) FROM ledger WHERE tid=? AND note=?", (tid, RESENT)))
