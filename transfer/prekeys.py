"""Pre-keys: the hybrid keys of R that releases are sealed to (protocol s. 1, 5).

MLKEM768-X25519 (HPKE KEM 0x647a): a release stays secret if either half holds. A pre-key is offered for 72
hours, a new one each day, and its private half is deleted 48 hours after it ran out: that deletion is the
forward secrecy.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from nacl.signing import SigningKey

from transfer.encoding import sha256
from transfer.errors import ClockError, ExpiredError, HashError, NotForMeError
from transfer.ids import BlobKey, Kid, SiteId
from transfer.messages import Prekey, open_message, sign_message

LIFE = 72 * 3600
RENEW = 24 * 3600
DELETE_AFTER = 48 * 3600
_ML = 1184
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class PrekeyPair(msgspec.Struct, frozen=True):
    """A private pre-key as it is stored: 64-byte ML-KEM seed and 32-byte X25519 scalar. Secret."""

    seed: bytes
    scalar: bytes

    def __repr__(self) -> str:
        return "PrekeyPair(...)"

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> PrekeyPair:
        """A fresh pair from `random(n)` bytes."""
        return cls(random(64), random(32))

    @property
    def public(self) -> BlobKey:
        """ML-KEM public key (1184 bytes) then X25519 public key (32)."""
        ml = MLKEM768PrivateKey.from_seed_bytes(self.seed).public_key().public_bytes_raw()
        return BlobKey(ml + X25519PrivateKey.from_private_bytes(self.scalar).public_key().public_bytes_raw())

    @property
    def kid(self) -> Kid:
        """The id: first 8 bytes of the public half's hash."""
        return kid_of(self.public)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """HPKE base mode open (RFC 9180 6.1). Raises `HashError` where it does not open."""
        private = MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(self.seed), X25519PrivateKey.from_private_bytes(self.scalar)
        )
        try:
            return bytes(_SUITE.decrypt(sealed, private, info))
        except (InvalidTag, ValueError):
            raise HashError from None

    def publish(self, key: SigningKey, now: int) -> str:
        """The signed pre-key message, valid from now."""
        return sign_message(
            Prekey(
                v=1, kid=self.kid, site=SiteId(key.verify_key.encode()), pk=self.public,
                nbf=now, exp=now + LIFE,
            ),
            key,
        )  # fmt: skip


def kid_of(public: bytes) -> Kid:
    """kid = H(pk)[:8]."""
    return Kid(sha256(public)[:8])


def read_prekey(compact: str, *, site: SiteId, now: int) -> Prekey:
    """A pre-key that the pinned `site` signed and that may be used now. Raises a `PeerError`."""
    message = open_message(Prekey, compact, site)
    if message.site != site:
        raise NotForMeError
    if len(message.pk) != _ML + 32 or kid_of(message.pk) != message.kid:
        raise HashError
    if message.nbf > now + 600:
        raise ClockError
    if message.exp <= now or message.exp > message.nbf + LIFE:
        raise ExpiredError
    return message


def seal_to(public: bytes, plain: bytes, info: bytes) -> bytes:
    """HPKE base mode seal (RFC 9180 6.1) to a pre-key's public half; everything bound goes into `info`.

    Raises `HashError` where that half is no key, or one of small order.
    """
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:_ML]), X25519PublicKey.from_public_bytes(public[_ML:])
        )
        return bytes(_SUITE.encrypt(plain, key, info))
    except ValueError:
        raise HashError from None
