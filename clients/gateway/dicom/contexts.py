"""Presentation contexts (PS3.8 7.1.1.13): which pairs of SOP class and transfer syntax an association may carry.

The SCP takes every storage class in every transfer syntax that is known here, in the one that the peer
prefers. The SCU proposes one context for each pair that the study has, and nothing else: so a PACS can only
accept the syntax that the bytes are in. A request holds 128 contexts; pairs beyond that go on another
association.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from pydicom.uid import UID, AllTransferSyntaxes

from clients.gateway.dicom.structure import EXPLICIT_LITTLE, IMPLICIT_LITTLE

Pair = tuple[str, str]
"""(SOP class, transfer syntax)."""
MAX_CONTEXTS = 128
"""Presentation context ids are the odd numbers up to 255 (PS3.8 9.3.2.2)."""
SYNTAXES = frozenset(map(str, AllTransferSyntaxes)) | {
    f"1.2.840.10008.1.2.{rest}"
    for rest in (
        "1.98", "4.52", "4.53", "4.54", "4.55", "4.56", "4.58", "4.59", "4.60", "4.61", "4.62", "4.63", "4.64",
        "4.65", "4.66", "4.94", "4.95", "4.110", "4.111", "4.112", "8.1",
    )
}  # fmt: skip
"""pydicom's, and what it leaves out: retired JPEG processes, JPIP, JPEG XL, deflated frames. All are Explicit VR Little
Endian around the pixels, save Implicit VR and Big Endian (PS3.5 10, A)."""


def preferred(syntaxes: Iterable[str]) -> str:
    """The first of a peer's transfer syntaxes that is known here, or ""."""
    return next((s for s in map(str, syntaxes) if s in SYNTAXES), "")


def is_storage(sop_class: str) -> bool:
    """Whether instances of a class are stored. One that PS3.6 does not name, private or newer, may be."""
    uid = UID(sop_class)
    if uid.name in (uid, ""):
        return True
    return uid.type == "SOP Class" and "Storage" in uid.name and not uid.name.startswith("Storage Commitment")


def plain(syntaxes: Iterable[str]) -> str:
    """The transfer syntax for a message that holds no image (PS3.5 10.1), or ""."""
    offered = set(map(str, syntaxes))
    return next((s for s in (IMPLICIT_LITTLE, EXPLICIT_LITTLE) if s in offered), "")


class Plan:
    """The pairs of one study, in groups that each fit one association. A pair keeps its group. Threads may share it."""

    def __init__(self, limit: int = MAX_CONTEXTS) -> None:
        self._limit = limit
        self._group: dict[Pair, int] = {}
        self._groups: list[list[Pair]] = [[]]
        self._lock = threading.Lock()

    def add(self, pair: Pair) -> int:
        """The group of `pair`, which is taken up if it is new."""
        with self._lock:
            if pair not in self._group:
                if len(self._groups[-1]) >= self._limit:
                    self._groups.append([])
                self._groups[-1].append(pair)
                self._group[pair] = len(self._groups) - 1
            return self._group[pair]

    def contexts(self, group: int) -> tuple[Pair, ...]:
        """What the association of `group` proposes."""
        with self._lock:
            return tuple(self._groups[group])
