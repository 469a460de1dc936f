from __future__ import annotations

import struct

import pytest

from clients.gateway.codec import shuffle
from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.pixels import Pixels
from clients.gateway.codec.zstd import inflate
from tests.image_kit import smooth

PIXELS = smooth((32, 32)).tobytes()
DATA = b"header" + PIXELS + b"tail"


def coded(width: int, length: int = len(PIXELS)) -> bytes:
    return shuffle.encode(DATA, Pixels(start=6, length=length, width=width, grid=None)) or b""


def decoded(body: bytes, original: int = len(DATA)) -> bytes:
    return b"".join(shuffle.parts(memoryview(body), original))


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("length", [2048, 2047, 2041, 9])
def test_round_trip(width: int, length: int) -> None:
    assert decoded(coded(width, length)) == DATA


def test_layout_is_the_one_of_the_specification() -> None:
    body = coded(2)
    assert struct.unpack_from(">IIB", body) == (6, 1024, 2)
    mixed = inflate(body[9:], len(DATA))
    assert mixed == b"header" + PIXELS[0::2] + PIXELS[1::2] + b"tail"


@pytest.mark.parametrize(("width", "length"), [(1, 2048), (2, 1), (8, 7), (3, 2048)])
def test_nothing_to_shuffle(width: int, length: int) -> None:
    assert coded(width, length) == b""


@pytest.mark.parametrize(
    "header",
    [(6, 1024, 1), (6, 1024, 3), (6, 0, 2), (11, 1024, 2), (6, 1027, 2), (0xFFFFFFFF, 0xFFFFFFFF, 8)],
)
def test_no_number_may_lie(header: tuple[int, int, int]) -> None:
    with pytest.raises(CodecError):
        decoded(struct.pack(">IIB", *header) + coded(2)[9:])


def test_another_length() -> None:
    for original in (len(DATA) - 1, len(DATA) + 1, 0):
        with pytest.raises(CodecError):
            decoded(coded(2), original)
    with pytest.raises(CodecError):
        decoded(b"\0" * 8)
