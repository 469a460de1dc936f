"""Sealed packs: fixed sizes, one key for each, a random nonce (protocol s. 6).

    plain = len32 ‖ body ‖ zeros up to a bucket (2^16 ... 2^22)
    ct    = nonce 24 ‖ XChaCha20-Poly1305(key_n, plain, aad = "tt1/pack" ‖ cid ‖ kind ‖ n32) ‖ tag 16

The relay learns number, kind and bucket of a pack. A pack is encrypted once and kept: the random nonce
makes a second encryption harmless all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from transfer.encoding import be32, hkdf
from transfer.errors import PackError
from transfer.ids import Cid, ContentKey

Kind = Literal["D", "M"]
BUCKETS: Final[tuple[int, ...]] = tuple(1 << i for i in range(16, 23))
OVERHEAD = 24 + 16
LENGTH = 4
SIZES = frozenset(b + OVERHEAD for b in BUCKETS)
"""The sizes that a ciphertext may have, in bytes."""
_LABEL = b"tt1/pack"


def capacity(bucket: int) -> int:
    """Body bytes that fill a bucket exactly."""
    return bucket - LENGTH


def bucket_for(n: int) -> int:
    """The smallest bucket for `n` body bytes. Raises `PackError` where none is large enough."""
    for bucket in BUCKETS:
        if n <= capacity(bucket):
            return bucket
    raise PackError


def _key(k: ContentKey, cid: Cid, kind: Kind, n: int) -> bytes:
    return hkdf(k, cid, _LABEL + kind.encode() + be32(n))


def _aad(cid: Cid, kind: Kind, n: int) -> bytes:
    return _LABEL + cid + kind.encode() + be32(n)


def seal_pack(
    k: ContentKey, cid: Cid, kind: Kind, n: int, body: bytes, random: Callable[[int], bytes]
) -> bytes:
    """The ciphertext of pack `n`, in the smallest bucket that holds `body`."""
    plain = b"".join((be32(len(body)), body, bytes(bucket_for(len(body)) - LENGTH - len(body))))
    return bytes(Aead(_key(k, cid, kind, n)).encrypt(plain, _aad(cid, kind, n), random(24)))


def open_pack(k: ContentKey, cid: Cid, kind: Kind, n: int, ct: bytes) -> bytes:
    """The body of pack `n`. Raises `PackError` for a wrong size, tag, length or padding."""
    if len(ct) not in SIZES:
        raise PackError
    try:
        plain = Aead(_key(k, cid, kind, n)).decrypt(bytes(ct), _aad(cid, kind, n))
    except (CryptoError, ValueError):
        raise PackError from None
    end = LENGTH + int.from_bytes(plain[:LENGTH], "big")
    if end > len(plain) or plain.count(0, end) != len(plain) - end:
        raise PackError
    return plain[LENGTH:end]
