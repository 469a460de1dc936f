"""Lines of the audit log, and what each means to others.

The log's own words (`transfer.approve`, `incoming.opened`) are for this program and its staff. FHIR and DICOM code an
event with the same controlled terms (PS3.16 CID 400 and its children, which FHIR's audit-event-type and -sub-type take
over): `meaning` translates, by the action's first words. What no row knows is an Application Activity.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from clients.gateway.store.database import Con, rows

_PAGE = 1000
NOTE = "transfer.note"
"""What staff noted about who answered (`sending.notes`)."""
STOP_REQUEST = "transfer.stop-request"
"""Who asked staff to stop sharing, and why (`sending.notes`)."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log; `hash` chains it to the one before."""

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    detail: str
    hash: bytes

    @property
    def failed(self) -> bool:
        """What was tried was not done."""
        return self.action.endswith(("-refused", "-stopped"))

    @property
    def when(self) -> str:
        """RFC 3339, in UTC; also FHIR's `instant` and DICOM's EventDateTime."""
        return instant(self.at)


class Code(msgspec.Struct, frozen=True):
    """A term of the DICOM Controlled Terminology (PS3.16 Annex D)."""

    value: str
    meaning: str


class Meaning(msgspec.Struct, frozen=True):
    """An event for others: what it is, what was done (FHIR AuditEvent.action: create, read, update, delete,
    execute), and with which reason (`TREAT`, `ETREAT`, or none: HL7 v3 ActReason).
    """

    event: Code
    kind: Code | None
    action: Literal["C", "R", "U", "D", "E"]
    purpose: Literal["", "TREAT", "ETREAT"] = ""


APPLICATION = Code("110100", "Application Activity")
LOG_USED = Code("110101", "Audit Log Used")
BEGIN_TRANSFER = Code("110102", "Begin Transferring DICOM Instances")
ACCESSED = Code("110103", "DICOM Instances Accessed")
TRANSFERRED = Code("110104", "DICOM Instances Transferred")
DELETED = Code("110105", "DICOM Study Deleted")
EXPORT = Code("110106", "Export")
IMPORT = Code("110107", "Import")
QUERY = Code("110112", "Query")
ALERT = Code("110113", "Security Alert")
AUTHENTICATION = Code("110114", "User Authentication")
LOGIN = Code("110122", "Login")
LOGOUT = Code("110123", "Logout")
EMERGENCY_STARTED = Code("110127", "Emergency Override Started")
ROLES_CHANGED = Code("110136", "User security Attributes Changed")
CONFIGURATION = Code("110131", "Software Configuration")

_TABLE: tuple[tuple[str, Meaning], ...] = (
    ("transfer.override", Meaning(ALERT, EMERGENCY_STARTED, "E", "ETREAT")),
    ("transfer.attest", Meaning(ALERT, EMERGENCY_STARTED, "E", "ETREAT")),
    ("transfer.offer", Meaning(EXPORT, BEGIN_TRANSFER, "R", "TREAT")),
    ("transfer.create", Meaning(EXPORT, None, "R", "TREAT")),
    ("transfer.", Meaning(EXPORT, None, "E", "TREAT")),
    ("incoming.override", Meaning(ALERT, EMERGENCY_STARTED, "E", "ETREAT")),
    ("incoming.attest", Meaning(ALERT, EMERGENCY_STARTED, "E", "ETREAT")),
    ("incoming.opened", Meaning(IMPORT, BEGIN_TRANSFER, "C", "TREAT")),
    ("incoming.", Meaning(IMPORT, None, "E", "TREAT")),
    ("receipt.", Meaning(TRANSFERRED, None, "C", "TREAT")),
    ("study.import", Meaning(IMPORT, None, "C")),
    ("study.forget", Meaning(DELETED, None, "D")),
    ("study.", Meaning(ACCESSED, None, "U")),
    ("peer.", Meaning(ALERT, CONFIGURATION, "U")),
    ("user.", Meaning(ALERT, ROLES_CHANGED, "U")),
    ("page:sign-in", Meaning(AUTHENTICATION, LOGIN, "E")),
    ("page:sign-out", Meaning(AUTHENTICATION, LOGOUT, "E")),
    ("page:view-audit", Meaning(LOG_USED, None, "R")),
    ("page:export-audit", Meaning(LOG_USED, None, "R")),
    ("audit.", Meaning(LOG_USED, None, "R")),
    ("page:view-", Meaning(ACCESSED, None, "R")),
    ("page:search", Meaning(QUERY, None, "E")),
)


def meaning(line: Line) -> Meaning:
    """What a line is to others: the first row whose words it begins with."""
    for begins, found in _TABLE:
        if line.action.startswith(begins):
            return found
    return Meaning(APPLICATION, None, "E")


def instant(at: int) -> str:
    """Unix seconds as RFC 3339, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def every_line(con: Con, after: int = 0, subject: str = "") -> Iterator[Line]:
    """All lines behind number `after`, oldest first; of one subject where one is given."""
    while found := lines(con, after, _PAGE, subject):
        yield from found
        after = found[-1].seq


def lines(con: Con, after: int = 0, limit: int = _PAGE, subject: str = "") -> list[Line]:
    """The first of them."""
    found = rows(
        con,
        "SELECT * FROM audit WHERE seq>? AND (?='' OR subject=?) ORDER BY seq LIMIT ?",
        (after, subject, subject, limit),
    )
    return [
        Line(
            seq=r["seq"], at=r["at"], actor=r["actor"], action=r["action"], subject=r["subject"],
            detail=r["detail"], hash=bytes(r["hash"]),
        )
        for r in found
    ]  # fmt: skip
