"""The query SCU (PS3.4 C.4.1): whether the PACS has one instance, asked where it is not known if a C-STORE arrived.

Study Root, level IMAGE, by the three UIDs that name an instance: single values, no wildcard, no list, so that
any PACS with C-FIND understands it. The identifier is in Implicit VR Little Endian, which every peer takes
(PS3.5 10.1). An answer counts if it names the very SOP Instance UID, whatever else it says; others are passed
over, and their number and time are bounded. A PACS that refuses the model, falls silent or aborts does not
answer queries, and is not asked again for a while: those who wait are told at once, and send again.
"""

from __future__ import annotations

import struct
import time
import traceback
from collections.abc import Callable

import msgspec

from clients.gateway.dicom.asker import Asker
from clients.gateway.dicom.courier import Caller, NoAssociationError
from clients.gateway.dicom.header import SOP_INSTANCE
from clients.gateway.dicom.part10 import is_uid, text_of_uid
from clients.gateway.dicom.race import PENDING, SoleReader
from clients.gateway.dicom.scu import Done, Find
from clients.gateway.dicom.structure import IMPLICIT_LITTLE, read_elements
from clients.gateway.errors import IntakeError

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND."""
_LEVEL, _AVAILABILITY, _STUDY, _SERIES = 0x00080052, 0x00080056, 0x0020000D, 0x0020000E
_READ = frozenset({SOP_INSTANCE, _AVAILABILITY})
_MOST = 4096
"""Answers to one query. One is right; a PACS that knows no image level may name a whole series."""
_REST = 60.0
"""Seconds that a PACS which does not answer queries is not asked again."""


class Job(msgspec.Struct, frozen=True):
    """What to ask, and since when it waits."""

    what: Find
    at: float


class Finder(Asker[Job]):
    """Asks one PACS. `tell` gets a `Done` for each job."""

    def __init__(self, caller: Caller, idle: float, tell: Callable[[Done], None]) -> None:
        super().__init__(caller, (STUDY_ROOT, IMPLICIT_LITTLE), idle)
        self._tell = tell
        self._mute: tuple[float, str] = (0.0, "")
        """Until when all that began to wait shares an answer, and which."""

    def ask(self, what: Find) -> None:
        """Adds a job."""
        self.put(Job(what, time.monotonic()))

    def answer(self, job: Job) -> None:
        """Asks; every job is answered, whatever goes wrong here."""
        self._tell(self._find(job.what, job.at))

    def _find(self, what: Find, at: float) -> Done:
        until, code = self._mute
        if at <= until:
            return Done(what.id, None, code)
        if not (is_uid(what.study) and is_uid(what.series) and is_uid(what.sop_uid)):
            return Done(what.id, None, "pacs-query")
        try:
            return self.over(lambda assoc, context: self._query(assoc, context, what))
        except NoAssociationError as why:
            return self._no(what, "pacs-query" if why.code == "pacs-context" else why.code)
        except Exception:
            traceback.print_exc()  # to the owner, who logs where and what kind
            self.drop()
            return Done(what.id, None, "dicom-child")

    def _query(self, assoc: SoleReader, context: int, what: Find) -> Done | None:
        """One query; None if its end never came, or not within bounds."""
        found = False
        asked = encode_identifier(what.study, what.series, what.sop_uid)
        for n, (status, identifier) in enumerate(assoc.find(context, STUDY_ROOT, asked)):
            if status not in PENDING:
                return Done(what.id, status, found=found)
            found = found or names(identifier, what.sop_uid)
            if n >= _MOST:
                break
        return None

    def _no(self, what: Find, code: str) -> Done:
        """No answer, also for those who wait already; and for a while, where it costs time to be told so."""
        lasts = code not in ("pacs-down", "pacs-lost")
        self._mute = (time.monotonic() + (_REST if lasts else 0.0), code)
        return Done(what.id, None, code)


def encode_identifier(study: str, series: str, sop_uid: str) -> bytes:
    """The query's data set, in Implicit VR Little Endian. The three are valid UIDs."""
    return b"".join(
        struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in (
            (SOP_INSTANCE, _even(sop_uid, b"\0")),
            (_LEVEL, _even("IMAGE", b" ")),
            (_STUDY, _even(study, b"\0")),
            (_SERIES, _even(series, b"\0")),
        )
    )


def names(identifier: bytes, sop_uid: str) -> bool:
    """Whether an answer says that the PACS has `sop_uid`, and can get at it (PS3.3 C.4.23.1.1). Any bytes are taken."""
    try:
        found = read_elements(
            lambda at, n: identifier[at : at + n], 0, len(identifier), IMPLICIT_LITTLE, _READ
        )
    except IntakeError:
        return False
    available = found.get(_AVAILABILITY, b"").strip(b" \0") != b"UNAVAILABLE"
    return available and text_of_uid(found.get(SOP_INSTANCE, b"")) == sop_uid


def _even(text: str, pad: bytes) -> bytes:
    value = text.encode("ascii")
    return value + pad * (len(value) % 2)
