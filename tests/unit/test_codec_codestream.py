from __future__ import annotations

import struct

import numpy as np
import pytest

from clients.gateway.codec.codestream import check
from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.openjph import encode_image
from tests.image_kit import smooth

STREAM = encode_image(smooth((64, 48)))
COLOUR = encode_image(smooth((64, 48, 3), "u1"))


def refused(stream: bytes, rows: int = 64, columns: int = 48, samples: int = 1, bits: int = 16) -> None:
    with pytest.raises(CodecError):
        check(memoryview(stream), rows, columns, samples, bits)


def at(marker: bytes, stream: bytes = STREAM) -> int:
    return stream.index(marker)


def with_segment(marker: bytes, body: bytes) -> bytes:
    """`STREAM` with one more segment in front of its tile-part."""
    sot = at(b"\xff\x90\x00\x0a")
    return STREAM[:sot] + marker + struct.pack(">H", len(body) + 2) + body + STREAM[sot:]


def test_what_the_encoder_writes_is_the_profile() -> None:
    assert check(memoryview(STREAM), 64, 48, 1, 16) is False
    assert check(memoryview(encode_image(smooth((64, 48), "<i2"))), 64, 48, 1, 16) is True
    assert check(memoryview(COLOUR), 64, 48, 3, 8) is False
    assert check(memoryview(encode_image(smooth((33, 900), "u1"))), 33, 900, 1, 8) is False
    flat = encode_image(np.full((64, 48), 65535, "<u2"))
    assert check(memoryview(flat), 64, 48, 1, 16) is False


@pytest.mark.parametrize(
    "announced", [(63, 48, 1, 16), (48, 64, 1, 16), (64, 48, 3, 16), (64, 48, 1, 8), (65535, 65535, 1, 16)]
)
def test_another_size_than_announced(announced: tuple[int, int, int, int]) -> None:
    refused(STREAM, *announced)


@pytest.mark.parametrize("offset", range(4, 4 + 41))
def test_no_byte_of_siz_may_change(offset: int) -> None:
    changed = bytearray(STREAM)
    changed[offset] ^= 0x01
    refused(bytes(changed))


@pytest.mark.parametrize("offset", range(2, 14))
def test_no_byte_of_cod_may_change_but_the_progression(offset: int) -> None:
    changed = bytearray(STREAM)
    changed[at(b"\xff\x52\x00\x0c") + offset] ^= 0x40
    refused(bytes(changed))


def test_the_tile_part_ends_with_the_stream() -> None:
    refused(STREAM[:-1])
    refused(STREAM + b"\0")
    refused(STREAM[:-2] + b"\xff\xd8")
    for offset in range(4, 12):
        changed = bytearray(STREAM)
        changed[at(b"\xff\x90\x00\x0a") + offset] ^= 0x02
        refused(bytes(changed))


@pytest.mark.parametrize(
    "marker",
    [b"\xff\x53", b"\xff\x5d", b"\xff\x5e", b"\xff\x5f", b"\xff\x60", b"\xff\x55", b"\xff\x57", b"\0\0"],
)
def test_other_segments_are_refused(marker: bytes) -> None:
    refused(with_segment(marker, bytes(10)))


def test_a_segment_twice_or_missing() -> None:
    cod = at(b"\xff\x52\x00\x0c")
    refused(with_segment(b"\xff\x52", STREAM[cod + 4 : cod + 14]))
    refused(STREAM[:cod] + STREAM[cod + 14 :])


def test_a_comment_is_allowed_and_many_are_not() -> None:
    assert check(memoryview(with_segment(b"\xff\x64", b"\0\1hello")), 64, 48, 1, 16) is False
    stream = STREAM
    sot = at(b"\xff\x90\x00\x0a")
    refused(stream[:sot] + b"\xff\x64\x00\x04\0\1" * 40 + stream[sot:])


def test_every_cut_is_refused() -> None:
    for end in range(len(STREAM)):
        refused(STREAM[:end])
