"""The states of a transfer at its four parties, as tables (protocol s. 10).

Each table maps (state, event) to what follows: the next state, and the names of what must be on disk or on
its way before anybody hears of it. Whoever keeps a transfer calls `step` inside the transaction that
changes its row; an event that the table does not know in that state raises `StateError` and changes
nothing. Terminal states have no way out, so an end is never taken back.

S   PREPARING -> OFFERED -> RELEASED -> COMPLETE | PARTIAL
        |           |          `-----> REVOKED | DIVERTED (R keeps what it opened)
        `-> REVOKED `-> DENIED | EXPIRED | REVOKED | DIVERTED

R   SEEN -> OPENED -> COMPLETE | PARTIAL | REVOKED | DIVERTED
      `---> DENIED | EXPIRED | REVOKED | DIVERTED | DECLINED

P   lives in the page's memory: `transfer.door.PHONE` is its handshake, `PHONE_PAGES` what the person sees.

Relay   a mailbox is OPEN, then a TOMBSTONE, then gone; a pack is ABSENT, STORED, GONE.

`approve`, `attest` and `override` are three ways to one release, and the first decision counts: no way leads
from a person's no to any of them.

A child offer (protocol s. 7) is a transfer of its own in the same tables; `covered` releases it under its
parent's grant. `divert` ends the transfer that a child takes the place of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from transfer.errors import StateError


class Step(msgspec.Struct, frozen=True):
    """What follows an event: the next state and the effects that belong to the same transaction or its outbox."""

    to: str
    effects: tuple[str, ...] = ()


Table = Mapping[tuple[str, str], Step]

_END: Final = ("erase-keys", "close", "delete-packs", "tombstone")

SENDER: Final[Table] = {
    ("", "create"): Step("PREPARING", ("store-keys",)),
    ("PREPARING", "offer"): Step("OFFERED", ("hello", "queue-offer")),
    ("PREPARING", "stop"): Step("REVOKED", ("erase-keys", "delete-packs")),
    ("OFFERED", "approve"): Step("RELEASED", ("store-grant", "queue-release")),
    ("OFFERED", "attest"): Step("RELEASED", ("store-grant", "queue-release", "audit")),
    ("OFFERED", "override"): Step("RELEASED", ("store-grant", "queue-release", "audit")),
    ("OFFERED", "covered"): Step("RELEASED", ("store-grant", "queue-release")),
    ("OFFERED", "deny"): Step("DENIED", _END),
    ("OFFERED", "expire"): Step("EXPIRED", _END),
    ("OFFERED", "stop"): Step("REVOKED", _END),
    ("OFFERED", "divert"): Step("DIVERTED", _END),
    ("OFFERED", "declined"): Step("OFFERED", ("alarm", "ack")),
    ("OFFERED", "reopen"): Step("OFFERED", ("new-code", "hello", "audit")),
    ("OFFERED", "switch"): Step("OFFERED", ("tombstone", "new-code", "hello", "audit")),
    ("OFFERED", "run-out"): Step("OFFERED", ("tombstone", "erase-code")),
    ("RELEASED", "receipt-complete"): Step(
        "COMPLETE", ("store-receipt", "ack", "erase-keys", "delete-packs")
    ),
    ("RELEASED", "receipt-partial"): Step("PARTIAL", ("store-receipt", "ack", "erase-keys", "delete-packs")),
    ("RELEASED", "declined"): Step("PARTIAL", ("alarm", "ack", "erase-keys", "delete-packs")),
    ("RELEASED", "no-receipt"): Step("PARTIAL", ("alarm", "erase-keys", "delete-packs")),
    ("RELEASED", "stop"): Step("REVOKED", _END),
    ("RELEASED", "divert"): Step("DIVERTED", _END),
}
"""S. A new receipt after COMPLETE or PARTIAL is stored (the last counts) without an event: the state stays."""

RECEIVER: Final[Table] = {
    ("", "offer"): Step("SEEN", ("prefetch", "ack")),
    ("SEEN", "release"): Step("OPENED", ("store-used", "store-keys", "ack")),
    ("SEEN", "refuse"): Step("DECLINED", ("queue-close", "delete-prefetch")),
    ("SEEN", "close-DENIED"): Step("DENIED", ("delete-prefetch", "ack")),
    ("SEEN", "close-EXPIRED"): Step("EXPIRED", ("delete-prefetch", "ack")),
    ("SEEN", "close-REVOKED"): Step("REVOKED", ("delete-prefetch", "ack")),
    ("SEEN", "close-DIVERTED"): Step("DIVERTED", ("delete-prefetch", "ack")),
    ("SEEN", "expire"): Step("EXPIRED", ("delete-prefetch",)),
    ("OPENED", "delivered"): Step("COMPLETE", ("queue-receipt", "erase-keys", "delete-plain")),
    ("OPENED", "gave-up"): Step("PARTIAL", ("queue-receipt", "erase-keys", "delete-plain")),
    ("OPENED", "chain"): Step("PARTIAL", ("alarm", "queue-receipt", "erase-keys", "delete-plain")),
    ("OPENED", "close-REVOKED"): Step("REVOKED", ("queue-receipt", "erase-keys", "delete-plain", "ack")),
    ("OPENED", "close-DIVERTED"): Step("DIVERTED", ("queue-receipt", "erase-keys", "delete-plain", "ack")),
}

RELAY_MAILBOX: Final[Table] = {
    ("", "put"): Step("OPEN"),
    ("OPEN", "put"): Step("OPEN"),
    ("OPEN", "post"): Step("OPEN", ("raise-queue",)),
    ("OPEN", "tombstone"): Step("TOMBSTONE", ("drop-runs",)),
    ("TOMBSTONE", "tombstone"): Step("TOMBSTONE"),
    ("OPEN", "sweep"): Step("GONE"),
    ("TOMBSTONE", "sweep"): Step("GONE"),
}

RELAY_PACK: Final[Table] = {
    ("", "put"): Step("STORED", ("fsync",)),
    ("STORED", "put-same"): Step("STORED"),
    ("STORED", "delete"): Step("GONE"),
    ("STORED", "sweep"): Step("GONE"),
}

PHONE_PAGES: Final[Table] = {
    ("", "open"): Step("PIN"),
    ("PIN", "enter"): Step("WAITING"),
    ("WAITING", "asked"): Step("QUESTION"),
    ("WAITING", "decided"): Step("RECEIPT"),
    ("WAITING", "wrong"): Step("PIN"),
    ("WAITING", "locked"): Step("LOCKED"),
    ("WAITING", "untrusted"): Step("UNTRUSTED"),
    ("QUESTION", "answer"): Step("SENT"),
    ("SENT", "status"): Step("RECEIPT"),
    ("SENT", "refused"): Step("RECEIPT"),
    ("RECEIPT", "status"): Step("RECEIPT"),
    ("RECEIPT", "stop"): Step("SENT"),
}

OPEN_SENDER: Final = ("PREPARING", "OFFERED", "RELEASED")
OPEN_RECEIVER: Final = ("SEEN", "OPENED")
TERMINAL: Final = frozenset({"COMPLETE", "PARTIAL", "DENIED", "EXPIRED", "REVOKED", "DIVERTED", "DECLINED"})


def step(table: Table, state: str, event: str) -> Step:
    """What follows `event` in `state`. Raises `StateError`."""
    found = table.get((state, event))
    if found is None:
        raise StateError
    return found


def diagram(table: Table) -> str:
    """The table as a Mermaid state diagram (docs/spec)."""
    lines = ["stateDiagram-v2"]
    for (state, event), after in table.items():
        lines.append(f"    {state or '[*]'} --> {after.to}: {event}")
    ends = {s.to for s in table.values()} - {state for state, _ in table}
    lines += [f"    {end} --> [*]" for end in sorted(ends)]
    return "\n".join(lines)
