"""Ids and keys as types of their own, so that one is never taken for another (protocol s. 1).

Each is a `bytes` of fixed length. On the wire it is canonical base64url text; in a URL path, lower-case hex.
"""

from __future__ import annotations

from typing import ClassVar, Self, TypeVar

from transfer.encoding import b64, unb64
from transfer.errors import HeaderError


class Fixed(bytes):
    """Bytes of one length. Raises `HeaderError` for any other length."""

    SIZE: ClassVar[int] = 0

    def __new__(cls, data: bytes) -> Self:
        if len(data) != cls.SIZE:
            raise HeaderError
        return super().__new__(cls, data)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From base64url text; `HeaderError` if it is not canonical or not of this length."""
        return cls(unb64(text, cls.SIZE))

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """From lower-case hex, as URL paths carry it."""
        try:
            data = bytes.fromhex(text)
        except ValueError:
            raise HeaderError from None
        if data.hex() != text:
            raise HeaderError
        return cls(data)

    @property
    def text(self) -> str:
        """base64url text, as messages carry it."""
        return b64(self)

    def __str__(self) -> str:
        return self.text


class SiteId(Fixed):
    """A site's Ed25519 identity key (public half)."""

    SIZE = 32


class PublicKey(Fixed):
    """Any other Ed25519 public key: the phone's `vP`."""

    SIZE = 32


class Digest(Fixed):
    """A SHA-256."""

    SIZE = 32


class Kid(Fixed):
    """The id of a pre-key: the first 8 bytes of its hash."""

    SIZE = 8


class Tid(Fixed):
    """One offer to one destination, with one end state."""

    SIZE = 16


class Cid(Fixed):
    """One content key and one spool of ciphertext; several offers may name it."""

    SIZE = 16


class RunId(Fixed):
    """`nP`: one run of the handshake, made by the phone."""

    SIZE = 16


class Nonce(Fixed):
    """The id of one signed request (`jti`)."""

    SIZE = 16


class MailboxId(Fixed):
    """The name of a mailbox at the QR doors; derived from q, never a piece of it."""

    SIZE = 16

    @property
    def name(self) -> str:
        """As URL paths carry it."""
        return self.hex()


class Nameplate(Fixed):
    """The name of a mailbox at the voice door: seven ASCII digits, random, public, and said before the code."""

    SIZE = 7

    def __new__(cls, data: bytes) -> Self:
        if not data.isdigit():
            raise HeaderError
        return super().__new__(cls, data)

    @property
    def name(self) -> str:
        """As URL paths carry it."""
        return self.decode("ascii")


Mailbox = MailboxId | Nameplate


def read_mailbox(name: str) -> Mailbox:
    """A mailbox's name as URL paths carry it: 32 hex digits or 7 decimal ones. Raises `HeaderError`."""
    if len(name) == Nameplate.SIZE and name.isascii():
        return Nameplate(name.encode("ascii"))
    return MailboxId.from_hex(name)


def stored_mailbox(data: bytes) -> Mailbox:
    """A mailbox's name as a database keeps it: its 16 bytes, or its 7 digits. Raises `HeaderError`."""
    return Nameplate(data) if len(data) == Nameplate.SIZE else MailboxId(data)


class ContentKey(Fixed):
    """`K`: opens one study. Never leaves S but inside a release; never shown."""

    SIZE = 32

    def __repr__(self) -> str:
        return "ContentKey(...)"

    def __str__(self) -> str:
        return "ContentKey(...)"


class BlobKey(bytes):
    """Bytes of any length that messages carry as base64url text (a pre-key's public half, a sealed box)."""

    @property
    def text(self) -> str:
        """base64url text."""
        return b64(self)


F = TypeVar("F", bound=Fixed)
