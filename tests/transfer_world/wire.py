"""What goes over the wire, and the relay as a heap of everything that was ever sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from transfer.ids import Cid, Mailbox, RunId
from transfer.packs import Kind


class Letter(NamedTuple):
    """One body in a mailbox."""

    slot: int
    mb: Mailbox
    run: RunId
    body: bytes


class Post(NamedTuple):
    """One message in a site's queue."""

    to: str
    text: str


class Pack(NamedTuple):
    """One ciphertext as the relay lists it."""

    cid: Cid
    n: int
    kind: Kind
    ct: bytes


@dataclass
class Relay:
    """Everything that ever went over the wire, in the order in which it came."""

    letters: list[Letter] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)
    hellos: list[tuple[Mailbox, bytes]] = field(default_factory=list)
