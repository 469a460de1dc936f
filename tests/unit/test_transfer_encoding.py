from __future__ import annotations

import pytest

from tests.transfer_kit import refused
from transfer.encoding import b64, be32, hkdf, leb128, lv, same, sha256, unb64
from transfer.errors import HeaderError


def test_base64url_has_no_padding_and_its_own_alphabet() -> None:
    assert b64(b"\xfb\xff\xfe") == "-__-"
    assert b64(b"\xff") == "_w"
    assert unb64("_w") == b"\xff"
    assert unb64("") == b""


@pytest.mark.parametrize(
    "text",
    [
        "_w==", "_w=", "=", "+/+/", "_x", "_", "AAAAA", " _w", "_w ", "_w\n", "_\nw", "_w\x00", "_w.", "é", "\ud800",
        "ＡＡ", "%41%41",
    ],
)  # fmt: skip
def test_only_one_text_stands_for_given_bytes(text: str) -> None:
    """Padding, the other alphabet, spare bits, white space, dropped characters: RFC 4648 3.5 leaves all of it open."""
    with refused(HeaderError):
        unb64(text)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32])
def test_a_size_is_exact(size: int) -> None:
    assert unb64(b64(bytes(16)), 16) == bytes(16)
    with refused(HeaderError):
        unb64(b64(bytes(16)), size)


def test_leb128_at_the_edges() -> None:
    assert leb128(0) == b"\x00"
    assert leb128(127) == b"\x7f"
    assert leb128(128) == b"\x80\x01"
    assert leb128(16384) == b"\x80\x80\x01"
    assert lv(bytes(128)) == b"\x80\x01" + bytes(128)


def test_numbers_are_big_endian() -> None:
    assert be32(1) == b"\x00\x00\x00\x01"
    with pytest.raises(OverflowError):
        be32(2**32)
    with pytest.raises(OverflowError):
        be32(-1)


def test_sha256_of_parts_is_that_of_the_whole() -> None:
    assert sha256(b"a", b"", b"bc") == sha256(b"abc")
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_hkdf_is_the_one_of_rfc_5869() -> None:
    """Appendix A.1 and A.3 (no salt, no info)."""
    okm = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex().startswith("3cb25f25faacd57a90434f64d0362f2a")
    assert hkdf(b"\x0b" * 22, b"", b"", 42).hex().startswith("8da4e775a563c18f715f802a063c5a31")


def test_same_compares_bytes() -> None:
    assert same(b"abc", b"abc")
    assert not same(b"abc", b"abd")
    assert not same(b"abc", b"abcd")
