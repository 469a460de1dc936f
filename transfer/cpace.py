"""CPACE-X25519-SHA512, initiator-responder (draft-irtf-cfrg-cpace-21).

A password-authenticated key exchange: two people who know the same low-entropy `prs` end with the same key,
and anybody else learns nothing on which a guess can be tested offline. Scalar multiplication is libsodium's
(it refuses low-order points); the map to a generator (Elligator2, draft appendix A.3 and RFC 9380 6.7.1) is
ours. The map runs on Python integers and is not constant-time, which the draft asks for: see
docs/security/threat-model.md, "Timing of the map", for what bounds it.
"""

from __future__ import annotations

import hashlib
import hmac

import nacl.exceptions
from nacl.bindings import crypto_scalarmult

from transfer.encoding import lv
from transfer.errors import HeaderError

_P = 2**255 - 19
_A = 486662
_BLOCK = 128
"""Input block of SHA-512 in bytes: the password fills the first one alone (draft 7.1)."""
DSI = b"CPace255"


def generator_string(prs: bytes, ci: bytes, sid: bytes) -> bytes:
    """Draft 7.1 `generator_string`."""
    pad = max(0, _BLOCK - 1 - len(lv(prs)) - len(lv(DSI)))
    return b"".join(map(lv, (DSI, prs, bytes(pad), ci, sid)))


def generator(prs: bytes, ci: bytes, sid: bytes) -> bytes:
    """The point that both sides derive from the password: 32 bytes, u-coordinate (draft 7.2)."""
    digest = hashlib.sha512(generator_string(prs, ci, sid)).digest()[:32]
    return _elligator2(digest)


def _elligator2(data: bytes) -> bytes:
    r = int.from_bytes(data, "little") & (2**255 - 1)
    v = -_A * pow(1 + 2 * r * r, -1, _P) % _P
    square = pow(v**3 + _A * v * v + v, (_P - 1) // 2, _P) in (0, 1)
    return (v if square else (-v - _A) % _P).to_bytes(32, "little")


def multiply(scalar: bytes, point: bytes) -> bytes:
    """X25519 (RFC 7748 5). Raises `HeaderError` where the result is the neutral element (low-order point)."""
    try:
        return crypto_scalarmult(scalar, point)
    except nacl.exceptions.RuntimeError:
        raise HeaderError from None


def isk(sid: bytes, k: bytes, ya: bytes, ada: bytes, yb: bytes, adb: bytes) -> bytes:
    """The intermediate session key, 64 bytes (draft 6.2, ordered transcript)."""
    transcript = lv(ya) + lv(ada) + lv(yb) + lv(adb)
    return hashlib.sha512(lv(DSI + b"_ISK") + lv(sid) + lv(k) + transcript).digest()


def tag(sid: bytes, key: bytes, y: bytes, ad: bytes) -> bytes:
    """One side's key-confirmation tag over its own message, 64 bytes (draft 10.4)."""
    mac_key = hashlib.sha512(b"CPaceMac" + sid + key).digest()
    return hmac.new(mac_key, lv(y) + lv(ad), hashlib.sha512).digest()
