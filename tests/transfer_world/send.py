"""One transfer on S's disk: its row, the codes of its doors, and the runs of phones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from transfer import tries
from transfer.channel import ChannelState
from transfer.door import Pointed
from transfer.ids import BlobKey, Cid, ContentKey, Digest, Mailbox, PublicKey, RunId, Tid
from transfer.links import Q_SIZE, VOICE_DIGITS, Door, mailbox_of, make_nameplate, make_pin
from transfer.mailbox import Decided
from transfer.messages import ReleaseType
from transfer.release import NO_RUN


class Code(NamedTuple):
    """What opens a door."""

    door: Door
    q: bytes
    pin: str
    mb: Mailbox
    exp: int
    """When it stops beginning runs; 0: with the offer."""


def make_code(door: Door, random: Callable[[int], bytes], until: int, q: bytes = b"") -> Code:
    """A fresh one; at the scan door with the phone's `q`, at the voice door for no longer than `until`."""
    if door == "voice":
        return Code(door, b"", make_pin(random, VOICE_DIGITS), make_nameplate(random), until)
    q = q or random(Q_SIZE)
    return Code(door, q, make_pin(random), mailbox_of(q), 0)


@dataclass
class Run:
    """One run of the handshake."""

    vp: PublicKey
    mb: Mailbox
    at: int
    state: tries.RunState = "open"
    kept: tuple[Pointed, bytes] | None = None
    """Between the try and its comparison: what the one m3 that it was spent on is compared with."""
    m4: bytes | None = None
    channel: ChannelState | None = None
    wishes: list[bytes] = field(default_factory=list)
    told: str = ""


@dataclass
class Send:
    """One transfer."""

    tid: Tid
    cid: Cid
    key: ContentKey | None
    items: list[bytes]
    to: str = "R"
    alt: tuple[str, ...] = ()
    add: int = 0
    root: Tid | None = None
    kind: Literal["divert", "add"] | None = None
    replaces: Tid | None = None
    state: str = ""
    offer: str = ""
    summary: str = ""
    salt: BlobKey = field(default_factory=lambda: BlobKey(b""))
    prekey: str = ""
    exp: int = 0
    reopens: int = 0
    codes: list[Code] = field(default_factory=list)
    """Every one that it had; the last is the one that counts."""
    shut: bool = False
    """Nobody comes in by the last one either."""
    runs: dict[RunId, Run] = field(default_factory=dict)
    decided: Decided | None = None
    released_at: int = 0
    ended_at: int = 0
    grant: str = ""
    type: ReleaseType = "patient"
    vp: PublicKey = NO_RUN
    release: str = ""
    receipt: str = ""
    manifests: set[Digest] = field(default_factory=set)

    @property
    def code(self) -> Code:
        return self.codes[-1]

    @property
    def voice(self) -> bool:
        return any(code.door == "voice" for code in self.codes)

    @property
    def spent(self) -> int:
        return sum(run.state == "spent" for run in self.runs.values())

    def left(self, *, voice: bool = False) -> int:
        """Tries; `voice`: if the voice door were used."""
        return tries.left(self.spent, self.reopens, voice=voice or self.voice)
