"""The bodies that a phone and S leave for each other in a mailbox (protocol s. 3).

    slot 0  S -> all    Hello or Tombstone        slot 4  S -> P   Answer or Refusal
    slot 1  P -> S      Start                     slot 5  P -> S   Sealed (a grant, or a wish to stop)
    slot 2  S -> P      Point                     slot 6  S -> P   Sealed (the state)
    slot 3  P -> S      Proof

Slots 1 to 4 hold one message; 5 and 6 hold a short list, since a person may say "stop" later and the state
moves on. Each body is JSON with base64url values, at most 16 KiB. The relay stores them without reading.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from transfer.errors import SizeError
from transfer.ids import BlobKey, Digest, Fixed, PublicKey, RunId, SiteId, Tid
from transfer.messages import Time, decode

BODY_CAP = 16384
"""Bytes of one body."""
SUMMARY_CAP = 4096
PHONE_SLOTS = (1, 3, 5)
SITE_SLOTS = (2, 4, 6)
SLOT_CAPS = {1: 1, 2: 1, 3: 1, 4: 1, 5: 8, 6: 32}
"""How many messages a slot of one run may hold."""


class Point32(Fixed):
    """A Curve25519 point, or a MAC of that size."""

    SIZE = 32


class Tag64(Fixed):
    """A CPace confirmation tag (HMAC-SHA-512)."""

    SIZE = 64


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Version 1."""

    v: Literal[1]


class Hello(Body, frozen=True, forbid_unknown_fields=True):
    """m0: which offer waits here, and whose it is."""

    tid: Tid
    s: SiteId
    exp: Time
    """0: the code lets nobody in any more, while somebody whom it let in may still answer."""


class Tombstone(Body, frozen=True, forbid_unknown_fields=True):
    """m0 after the end: a late scan gets a page of its own."""

    ended: Annotated[str, Meta(max_length=16)]


class Start(Body, frozen=True, forbid_unknown_fields=True):
    """m1: the phone's point, its fresh signing key, and the proof that it holds q (empty at the voice door)."""

    nP: RunId
    Ya: Point32
    vP: PublicKey
    gate: BlobKey


class Point(Body, frozen=True, forbid_unknown_fields=True):
    """m2: S's point, and which offer it speaks of."""

    Yb: Point32
    hO: Digest


class Proof(Body, frozen=True, forbid_unknown_fields=True):
    """m3: the phone's confirmation; costs a try."""

    Ta: Tag64


class Answer(Body, frozen=True, forbid_unknown_fields=True):
    """m4: S's confirmation and the question, sealed."""

    Tb: Tag64
    box: BlobKey


class Refusal(Body, frozen=True, forbid_unknown_fields=True):
    """Instead of m4: wrong PIN. It cannot be authenticated before Tb, and the page says so in its words."""

    error: Literal["wrong", "locked"]
    left: Annotated[int, Meta(ge=0, le=100)]


class Sealed(Body, frozen=True, forbid_unknown_fields=True):
    """m5 and m6: one box of the channel."""

    box: BlobKey


class Decided(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was decided for this offer, and when (S's clock)."""

    d: Literal["approve", "deny", "staff"]
    at: Time


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in m4's box: the offer, what it means in words, and the hash's salt."""

    offer: str
    summary: str
    salt: BlobKey
    state: str
    decided: Decided | None
    now: Time


class Stop(Body, frozen=True, forbid_unknown_fields=True):
    """In m5's box instead of a grant: the person asks to stop sharing."""

    stop: Literal[True]


class Status(Body, frozen=True, forbid_unknown_fields=True):
    """What is in m6's box: the state, since when; why the last m5 was refused, if it was; S's short receipt code."""

    state: str
    at: Time
    refused: str
    decided: Decided | None
    code: Annotated[str, Meta(max_length=16)]


B = TypeVar("B", bound=Body)


def read_body(data: bytes, kind: type[B]) -> B:
    """One body from the relay. Raises `SizeError` over its cap, before anything is parsed, else as `decode`."""
    if len(data) > BODY_CAP:
        raise SizeError
    return decode(data, kind)
