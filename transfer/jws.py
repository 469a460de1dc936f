"""JWS compact, with the algorithm nailed down (RFC 7515 7.1, RFC 9864; protocol s. 2).

The header part must equal, byte for byte, ``b64({"alg":"Ed25519","typ":"tt1-NAME"})``: there is nothing to
negotiate, so there is nothing to confuse. Exactly three parts, all canonical base64url. The payload is handed
out only after the signature held. A hash of a message is SHA-256 over the whole compact text as received,
and names one copy: Ed25519 signatures made by Safari are randomised, so nobody re-serialises.

Signing and verifying go through libsodium, which refuses small-order keys (`cryptography` does not).
"""

from __future__ import annotations

from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import SigningKey, VerifyKey

from transfer.encoding import b64, sha256, unb64
from transfer.errors import HeaderError, SignatureError, SizeError
from transfer.ids import Digest


def header(name: str) -> str:
    """The one header part that a message called `name` may have."""
    return b64(b'{"alg":"Ed25519","typ":"tt1-' + name.encode("ascii") + b'"}')


def sign(name: str, payload: bytes, key: SigningKey) -> str:
    """The compact text of `payload` signed by `key`."""
    signed = f"{header(name)}.{b64(payload)}"
    return f"{signed}.{b64(key.sign(signed.encode('ascii')).signature)}"


def unverified_payload(name: str, compact: str, cap: int) -> bytes:
    """The payload *before* any signature was checked: only to learn which key to check it with."""
    return _parts(name, compact, cap)[1]


def verify(name: str, compact: str, public: bytes, cap: int) -> bytes:
    """The payload of `compact`, if `public` signed it as a message called `name`.

    Raises `SizeError` over `cap` bytes, `HeaderError` for any other form, `SignatureError`.
    """
    signed, payload, signature = _parts(name, compact, cap)
    try:
        VerifyKey(public).verify(signed.encode("ascii"), signature)
    except (BadSignatureError, CryptoError, ValueError, TypeError):
        raise SignatureError from None
    return payload


def digest(compact: str) -> Digest:
    """H over the whole text as received; `HeaderError` for what is no compact text (it may come inside a box)."""
    if not compact.isascii():
        raise HeaderError
    return Digest(sha256(compact.encode("ascii")))


def _parts(name: str, compact: str, cap: int) -> tuple[str, bytes, bytes]:
    if len(compact) > cap:
        raise SizeError
    if not compact.isascii():
        raise HeaderError
    parts = compact.split(".", 3)
    if len(parts) != 3 or parts[0] != header(name):
        raise HeaderError
    return f"{parts[0]}.{parts[1]}", unb64(parts[1]), unb64(parts[2], 64)
