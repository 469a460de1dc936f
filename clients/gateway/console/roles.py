"""Who of the staff may do what: one table, read by every page and every button.

A role is given by `trauma-transfer user add`. A page that somebody may not open is not linked for them, and is
refused when they type its address; both ask this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CLERK: Final = "clerk"
CLINICIAN: Final = "clinician"
PACS_ADMIN: Final = "pacs-admin"
PRIVACY_OFFICER: Final = "privacy-officer"
ROLES: Final = (CLERK, CLINICIAN, PACS_ADMIN, PRIVACY_OFFICER)

PERMISSIONS: Final[Mapping[str, frozenset[str]]] = {
    "desk.read": frozenset({CLERK, CLINICIAN, PACS_ADMIN}),
    "study.close": frozenset({CLERK, PACS_ADMIN}),
    "study.report": frozenset({CLERK, CLINICIAN, PACS_ADMIN}),
    "archive.find": frozenset({CLERK, PACS_ADMIN}),
    "transfer.send": frozenset({CLERK, PACS_ADMIN}),
    "transfer.stop": frozenset({CLERK, PACS_ADMIN}),
    "transfer.reopen": frozenset({CLERK, PACS_ADMIN}),
    "transfer.note": frozenset({CLERK, CLINICIAN, PACS_ADMIN}),
    "transfer.door": frozenset({CLERK, PACS_ADMIN}),
    "transfer.code": frozenset({CLERK, PACS_ADMIN}),
    "transfer.decide": frozenset({CLINICIAN}),
    "transfer.again": frozenset({CLERK, CLINICIAN, PACS_ADMIN}),
    "transfer.read": frozenset({CLERK, CLINICIAN, PACS_ADMIN, PRIVACY_OFFICER}),
    "sent.read": frozenset({CLERK, CLINICIAN, PACS_ADMIN, PRIVACY_OFFICER}),
    "inbox.read": frozenset({CLINICIAN, PACS_ADMIN, PRIVACY_OFFICER}),
    "identity.choose": frozenset({CLINICIAN, PACS_ADMIN}),
    "sites.read": frozenset({PACS_ADMIN}),
    "audit.read": frozenset({PACS_ADMIN, PRIVACY_OFFICER}),
    "audit.export": frozenset({PRIVACY_OFFICER}),
    "status.read": frozenset({CLERK, CLINICIAN, PACS_ADMIN, PRIVACY_OFFICER}),
    "session.end": frozenset({CLERK, CLINICIAN, PACS_ADMIN, PRIVACY_OFFICER}),
}
"""`transfer.code`: see the QR and the PIN. `transfer.decide`: attest or override in a patient's place, where the
ladder offers it. `transfer.again`: ask once more after a no. `transfer.read` opens the page of a transfer at all; which
of the two kinds it may show is then `sent.read` or `inbox.read`. `identity.choose`: say whose images a received study
is, and search the worklist for it. The privacy officer reads what was done, and cannot do it."""

HOME: Final[Mapping[str, str]] = {
    CLERK: "/desk",
    CLINICIAN: "/inbox",
    PACS_ADMIN: "/desk",
    PRIVACY_OFFICER: "/audit",
}
"""Where a person lands after the sign-in."""


def may(role: str, permission: str) -> bool:
    """Whether `role` has `permission`. An unknown role has none; an unknown permission is a mistake here."""
    return role in PERMISSIONS[permission]


def title(role: str) -> str:
    """The role as people read it."""
    return {PACS_ADMIN: "PACS administrator", PRIVACY_OFFICER: "privacy officer"}.get(role, role)
