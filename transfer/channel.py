"""The channel between a phone and S after the handshake (protocol s. 3).

AES-256-GCM, one key for each direction, nonce = a 96-bit counter from 0, AAD = "tt1/ch/" and the direction.
A gap, a repeat or a bad tag ends the run: the channel is dead after its first failure. S keeps a
`ChannelState` (sealed) on disk together with each box before it sends it, so that a counter is never used
for two texts.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from transfer.encoding import hkdf
from transfer.errors import SignatureError, SizeError
from transfer.mailbox import BODY_CAP

Direction = Literal["s2p", "p2s"]
_LABEL = b"tt1/ch/"
_ROOM = BODY_CAP * 3 // 4 - 128
"""Text that still fits one mailbox body as base64url, with the tag, `Tb` and the JSON around it."""


class ChannelState(msgspec.Struct, frozen=True):
    """All of a channel: its keys are secrets. `sent` and `received` count boxes."""

    out: Direction
    out_key: bytes
    in_key: bytes
    sent: int
    received: int

    def __repr__(self) -> str:
        return f"ChannelState({self.out}, sent={self.sent}, received={self.received})"


class Channel:
    """Seals what this side says, opens what the other says, in order."""

    def __init__(self, state: ChannelState) -> None:
        self.state = state
        self._dead = False

    @classmethod
    def derive(cls, isk: bytes, sid: bytes, out: Direction) -> Channel:
        """The channel of the side that sends in direction `out`."""
        into: Direction = "p2s" if out == "s2p" else "s2p"
        return cls(ChannelState(out, _key(isk, sid, out), _key(isk, sid, into), 0, 0))

    def seal(self, plain: bytes) -> bytes:
        """The next box. Raises `SizeError` where it would not fit a mailbox body."""
        if len(plain) > _ROOM:
            raise SizeError
        s = self.state
        box = AESGCM(s.out_key).encrypt(s.sent.to_bytes(12, "big"), plain, _LABEL + s.out.encode())
        self.state = msgspec.structs.replace(s, sent=s.sent + 1)
        return box

    def open(self, box: bytes) -> bytes:
        """The text of the other side's next box. Raises `SignatureError`, and from then on always."""
        s = self.state
        into = b"p2s" if s.out == "s2p" else b"s2p"
        try:
            if self._dead or len(box) < 16:
                raise InvalidTag
            plain = AESGCM(s.in_key).decrypt(s.received.to_bytes(12, "big"), box, _LABEL + into)
        except InvalidTag:
            self._dead = True
            raise SignatureError from None
        self.state = msgspec.structs.replace(s, received=s.received + 1)
        return plain


def _key(isk: bytes, sid: bytes, direction: str) -> bytes:
    return hkdf(isk, sid, _LABEL + direction.encode())


def check_code(isk: bytes, sid: bytes) -> str:
    """Four digits that both screens show. A help for people, not a proof (protocol s. 9)."""
    return f"{int.from_bytes(hkdf(isk, sid, b'tt1/code', 8), 'big') % 10000:04d}"
