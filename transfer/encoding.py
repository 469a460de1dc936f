"""The few encodings that every message is made of.

`b64` is base64url without padding and canonical: a text that would not re-encode to itself is refused, so
that two texts never mean the same bytes (RFC 4648 3.5). `lv` is the length-value form of
draft-irtf-cfrg-cpace-21 (LEB128 length). Numbers are big-endian.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from transfer.errors import HeaderError


def b64(data: bytes) -> str:
    """base64url text of `data`, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64(text: str, size: int | None = None) -> bytes:
    """The bytes of a canonical base64url text; `size`, if given, must be their number.

    Raises `HeaderError` for any other text.
    """
    try:
        raw = text.encode("ascii")
        data = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    except (ValueError, binascii.Error):
        raise HeaderError from None
    if b64(data) != text or (size is not None and len(data) != size):
        raise HeaderError
    return data


def leb128(n: int) -> bytes:
    """Unsigned LEB128 of a length."""
    out = bytearray()
    while True:
        n, low = n >> 7, n & 0x7F
        out.append(low | (0x80 if n else 0))
        if not n:
            return bytes(out)


def lv(data: bytes) -> bytes:
    """`data` behind its LEB128 length (draft-irtf-cfrg-cpace-21, `prepend_len`)."""
    return leb128(len(data)) + data


def be32(n: int) -> bytes:
    """Four bytes, big-endian."""
    return n.to_bytes(4, "big")


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the concatenation of `parts` (32 bytes)."""
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.digest()


def hkdf(ikm: bytes, salt: bytes, info: bytes, n: int = 32) -> bytes:
    """HKDF-SHA256, extract and expand (RFC 5869), `n` bytes."""
    return HKDF(algorithm=SHA256(), length=n, salt=salt, info=info).derive(ikm)


def same(a: bytes, b: bytes) -> bool:
    """Equality in constant time for equal lengths."""
    return hmac.compare_digest(a, b)
