"""Images of which it is not known whether they arrived: the connection broke, no answer came, we crashed.

The PACS is asked by C-FIND before anything is sent again. What it has is stored, with the proof `find`; what it
does not have is sent. A PACS that does not answer queries gets the image again, which it takes as the same one;
that is noted in the ledger, in the audit log and at the inbox, because it may then have been sent twice. One
that breaks off while it is asked may be on its way down: it is asked again a few times first.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from clients.gateway.dicom.scu import StoreScu
from clients.gateway.receiving.ledger import Proof
from clients.gateway.store.database import Con, rows, value
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


class Named(Protocol):
    """An instance by its three UIDs."""

    @property
    def study_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def sop_uid(self) -> str: ...


class Question:
    """Whether the PACS has one instance."""

    def __init__(self, scu: StoreScu, named: Named) -> None:
        self._scu, self._named = scu, named
        self._broken = 0

    async def ask(self) -> Answer:
        """Asks, and may be asked again."""
        x = self._named
        found = await self._scu.find(x.study_uid, x.series_uid, x.sop_uid)
        if found.there is not None:
            return Answer("there" if found.there else "absent")
        if found.code in _BROKEN:
            self._broken += 1
            return Answer("away" if self._broken <= _BROKEN_MOST else "mute", found.code)
        return Answer("away" if found.code == "pacs-down" else "mute", found.code)


def proof_of(con: Con, tid: Tid) -> Literal["commit", "find", "store"]:
    """What all that is stored rests on: the weakest proof that any of it has."""
    if _stored(con, tid, "store") or not _count(con, tid, "state='stored'"):
        return "store"
    return "find" if _stored(con, tid, "find") else "commit"


def account(con: Con, tid: Tid) -> str:
    """For the audit log: how many were found, and how many were sent again; and what else is not as usual."""
    rare = {
        "committed": _stored(con, tid, "commit"),
        "had before": _count(con, tid, "note='had'"),
        "lost": _count(con, tid, "lost>0"),
        "conflicts": _count(con, tid, "note='uid-conflict'"),
    }
    words = [f"found {_stored(con, tid, 'find')}", f"sent again {_resent(con, tid)}"]
    return ", ".join(words + [f"{word} {n}" for word, n in rare.items() if n])


def sentence(con: Con, tid: bytes) -> str:
    """For staff, where something was not as usual; else empty."""
    said = ""
    if n := _resent(con, tid):
        what = "image that may have been there already was" if n == 1 else (
            "images that may have been there already were"
        )  # fmt: skip
        said += f" The PACS did not answer queries: {n} {what} sent again."
    if n := _count(con, tid, "note='had'"):
        what = "image was in the PACS before and was" if n == 1 else "images were in the PACS before and were"
        said += f" {n} {what} not sent again."
    if n := _count(con, tid, "lost>0 AND state='stored'"):
        what = "image that it had taken and lost" if n == 1 else "images that it had taken and lost"
        said += f" The PACS was sent {n} {what} a second time."
    return said


def weaker(con: Con, tid: bytes, most: int) -> list[tuple[int, int, str, str]]:
    """(number, series, SOP Instance UID, why) of images with less proof than the best that this PACS gave, and of
    those that are missing; `most` of them. Why is a proof, or the code of a gap.
    """
    best = next((p for p in ("commit", "find") if _stored(con, tid, p)), "store")
    found = rows(
        con,
        "SELECT no, series, sop_uid, state, proof, note FROM ledger WHERE tid=? AND (state<>'stored' OR proof<>?)"
        " ORDER BY no LIMIT ?",
        (tid, best, most),
    )
    return [(r["no"], r["series"], r["sop_uid"], r["proof"] or r["note"] or r["state"]) for r in found]


def _stored(con: Con, tid: bytes, proof: Proof) -> int:
    return _count(con, tid, f"state='stored' AND proof='{proof}'")


def _resent(con: Con, tid: bytes) -> int:
    return _count(con, tid, f"note='{RESENT}'")


def _count(con: Con, tid: bytes, what: str) -> int:
    """Rows of a transfer for which a condition of ours holds."""
    return int(value(con, f"SELECT count(*) FROM ledger WHERE tid=? AND {what}", (tid,)))
