from __future__ import annotations

import base64

import pytest
from nacl.signing import SigningKey

from tests.transfer_kit import OTHER, R, S, flip, refused
from transfer import jws
from transfer.encoding import b64, sha256
from transfer.errors import HeaderError, SignatureError, SizeError

CAP = 512
BODY = b'{"v":1}'
TEXT = jws.sign("ack", BODY, S.key)

SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
"""The eight points of order 1, 2, 4 and 8 on edwards25519, one of them not canonical."""


def test_what_was_signed_comes_back() -> None:
    assert jws.verify("ack", TEXT, S.site, CAP) == BODY
    assert jws.unverified_payload("ack", TEXT, CAP) == BODY


def test_the_header_is_these_bytes() -> None:
    head = TEXT.split(".")[0]
    assert head == jws.header("ack")
    assert base64.urlsafe_b64decode(head + "==") == b'{"alg":"Ed25519","typ":"tt1-ack"}'


@pytest.mark.parametrize(
    "head",
    [
        b'{"alg":"none","typ":"tt1-ack"}',
        b'{"alg":"EdDSA","typ":"tt1-ack"}',
        b'{"alg":"HS256","typ":"tt1-ack"}',
        b'{"typ":"tt1-ack","alg":"Ed25519"}',
        b'{"alg":"Ed25519", "typ":"tt1-ack"}',
        b'{"alg":"Ed25519","typ":"tt1-ack","kid":"x"}',
        b'{"alg":"Ed25519","typ":"tt1-ack"} ',
        b'{"alg":"Ed25519","typ":"tt1-ACK"}',
        b'{"alg":"Ed25519","typ":"tt2-ack"}',
        b'{"alg":"Ed25519","typ":"tt1-offer"}',
        b'{"alg":"Ed25519"}',
        b"",
    ],
)
def test_no_other_header_is_read_even_under_a_good_signature(head: bytes) -> None:
    text = f"{b64(head)}.{b64(BODY)}"
    text += "." + b64(S.key.sign(text.encode()).signature)
    with refused(HeaderError):
        jws.verify("ack", text, S.site, CAP)


def test_there_are_exactly_three_parts() -> None:
    head, body, signature = TEXT.split(".")
    for text in (
        "",
        ".",
        "..",
        "...",
        head,
        f"{head}.{body}",
        f"{TEXT}.",
        f".{TEXT}",
        f"{TEXT}.AA",
        f"{head}..{signature}.",
    ):
        with refused(HeaderError):
            jws.verify("ack", text, S.site, CAP)


@pytest.mark.parametrize("tail", ["=", "==", " ", "\n", "\x00", "\r\n", "é", "\ud800"])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_part_is_canonical(part: int, tail: str) -> None:
    parts = TEXT.split(".")
    parts[part] += tail
    with refused(HeaderError):
        jws.verify("ack", ".".join(parts), S.site, CAP)


def test_spare_bits_of_the_signature_are_refused() -> None:
    """64 bytes end in two characters of which the last has four spare bits: 16 texts, one of them ours."""
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(TEXT[-1])
    assert last % 16 == 0
    for spare in range(1, 16):
        other = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last + spare]
        with refused(HeaderError):
            jws.verify("ack", TEXT[:-1] + other, S.site, CAP)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_a_signature_has_64_bytes(size: int) -> None:
    with refused(HeaderError):
        jws.verify("ack", TEXT.rpartition(".")[0] + "." + b64(bytes(size)), S.site, CAP)


def test_the_cap_counts_the_whole_text_and_comes_first() -> None:
    assert jws.verify("ack", TEXT, S.site, len(TEXT)) == BODY
    with refused(SizeError):
        jws.verify("ack", TEXT, S.site, len(TEXT) - 1)
    with refused(SizeError):
        jws.verify("ack", "é" * (CAP + 1), S.site, CAP)
    with refused(SizeError):
        jws.unverified_payload("ack", TEXT, len(TEXT) - 1)


def test_another_key_does_not_verify() -> None:
    for other in (R.site, OTHER.site, flip(S.site)):
        with refused(SignatureError):
            jws.verify("ack", TEXT, other, CAP)


def test_every_bit_of_body_and_signature_counts() -> None:
    head, body, signature = TEXT.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    for bit in range(512):
        with refused(SignatureError):
            jws.verify("ack", f"{head}.{body}.{b64(flip(raw, bit))}", S.site, CAP)
    for bit in range(8 * len(BODY)):
        with refused(SignatureError):
            jws.verify("ack", f"{head}.{b64(flip(BODY, bit))}.{signature}", S.site, CAP)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_small_order_key_signs_nothing(point: str) -> None:
    """Under such a key R = identity and s = 0 would verify for about any message (RFC 8032 8.4 leaves it open)."""
    head, body, _ = TEXT.split(".")
    identity = b"\x01" + bytes(31)
    for signature in (identity + bytes(32), bytes(64), bytes.fromhex(point) + bytes(32)):
        with refused(SignatureError):
            jws.verify("ack", f"{head}.{body}.{b64(signature)}", bytes.fromhex(point), CAP)


def test_a_scalar_beyond_the_order_is_refused() -> None:
    """s + L is the same signature in another form (RFC 8032 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    head, body, signature = TEXT.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    s = int.from_bytes(raw[32:], "little") + order
    with refused(SignatureError):
        jws.verify("ack", f"{head}.{body}.{b64(raw[:32] + s.to_bytes(32, 'little'))}", S.site, CAP)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_size_verifies_nothing(public: bytes) -> None:
    with refused(SignatureError):
        jws.verify("ack", TEXT, public, CAP)


def test_a_hash_names_one_copy() -> None:
    """Signatures may be randomised, so two good copies of one message have two hashes."""
    assert jws.digest(TEXT) == sha256(TEXT.encode())
    assert jws.digest(TEXT) != jws.digest(jws.sign("ack", BODY, SigningKey(bytes(32))))


@pytest.mark.parametrize("text", ["é", "\ud800", TEXT + "\xa0"])
def test_only_ascii_has_a_hash(text: str) -> None:
    with refused(HeaderError):
        jws.digest(text)
