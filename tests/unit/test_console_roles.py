from __future__ import annotations

from clients.gateway.console.app import ACTIONS, PAGES
from clients.gateway.console.roles import HOME, PERMISSIONS, ROLES, may, title

TABLE = {
    #                   clerk  clinician pacs-admin privacy-officer
    "desk.read":        (True,  True,  True,  False),
    "study.close":      (True,  False, True,  False),
    "archive.find":     (True,  False, True,  False),
    "transfer.send":    (True,  False, True,  False),
    "transfer.stop":    (True,  False, True,  False),
    "transfer.reopen":  (True,  False, True,  False),
    "transfer.note":    (True,  True,  True,  False),
    "transfer.door":    (True,  False, True,  False),
    "transfer.code":    (True,  False, True,  False),
    "transfer.decide":  (False, True,  False, False),
    "transfer.again":   (True,  True,  True,  False),
    "transfer.read":    (True,  True,  True,  True),
    "sent.read":        (True,  True,  True,  True),
    "inbox.read":       (False, True,  True,  True),
    "identity.choose":  (False, True,  True,  False),
    "sites.read":       (False, False, True,  False),
    "audit.read":       (False, False, True,  True),
    "audit.export":     (False, False, False, True),
    "status.read":      (True,  True,  True,  True),
    "session.end":      (True,  True,  True,  True),
    "study.report":     (True,  True,  True,  False),
}  # fmt: skip


def test_the_whole_table() -> None:
    assert set(PERMISSIONS) == set(TABLE)
    for permission, expected in TABLE.items():
        assert tuple(may(role, permission) for role in ROLES) == expected, permission


def test_an_unknown_role_may_nothing() -> None:
    assert not any(may(role, p) for p in PERMISSIONS for role in ("", "root", "Clerk"))


def test_every_address_needs_a_permission_and_every_role_lands_on_a_page_it_may_open() -> None:
    needed = {path: permission for path, permission, _ in PAGES}
    assert set(needed.values()) | {p for _, p, _, _ in ACTIONS} <= set(PERMISSIONS)
    for role in ROLES:
        assert may(role, needed[HOME[role]])
        assert title(role)
