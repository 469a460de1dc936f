"""What a person reads before they decide, and the salted hash by which the offer is bound to it (protocol s. 2).

The relay sees the hash only. The salt is required: without it the relay would guess a name and a birth year
offline (models A24, A25).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from transfer.encoding import sha256
from transfer.errors import HeaderError, SizeError
from transfer.ids import Digest
from transfer.messages import Reason, Time, decode, encode

CAP = 2048
SALT_SIZE = 16
Line = Annotated[str, Meta(max_length=120)]


class Declined(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A no that this study has had before, in a transfer of its own: final there, and said here (protocol s. 10)."""

    at: Time
    by: Literal["patient", "proxy"]


class Summary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The question in facts. `person` is initials and birth year, or "unknown"; never a promise of a count."""

    person: Annotated[str, Meta(max_length=40)]
    from_: Line
    to: Line
    what: Line
    why: Reason
    until: Time
    alt: Annotated[list[Line], Meta(max_length=4)]
    add: Annotated[int, Meta(ge=0, le=7 * 86400)]
    call: Annotated[str, Meta(max_length=80)]
    """Whom to call with a question: a ward and its number, or empty."""
    declined: Declined | None
    """The newest no to sending this study, or none."""


def make_summary(summary: Summary) -> str:
    """The JSON string that travels. Raises `SizeError` over 2 KiB, `HeaderError` for words that no phone would take."""
    try:
        text = encode(summary).decode()
    except UnicodeEncodeError:
        raise HeaderError from None
    read_summary(text)  # else the fault would show only when the person has scanned and typed
    return text


def read_summary(text: str) -> Summary:
    """The summary of a JSON string. Raises a `PeerError`."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise HeaderError from None
    if len(data) > CAP:
        raise SizeError
    return decode(data, Summary)


def summary_hash(salt: bytes, text: str) -> Digest:
    """`sum` of the offer."""
    return Digest(sha256(salt, text.encode()))
