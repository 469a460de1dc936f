from __future__ import annotations

import struct

import pytest

from clients.gateway.codec import frames
from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.pixels import Grid
from tests.image_kit import smooth

GRID = Grid(count=2, rows=64, columns=48, samples=1, width=2, signed=False)
DATA = b"header" + smooth((2, 64, 48)).tobytes() + b"tail"
BODY = frames.encode(DATA, 6, GRID) or b""


def decoded(body: bytes, original: int = len(DATA)) -> bytes:
    return b"".join(frames.parts(memoryview(body), original))


def refused(body: bytes, original: int = len(DATA)) -> None:
    with pytest.raises(CodecError):
        decoded(body, original)


def patched(offset: int, form: str, value: int) -> bytes:
    body = bytearray(BODY)
    struct.pack_into(form, body, offset, value)
    return bytes(body)


def test_round_trip() -> None:
    assert decoded(BODY) == DATA


def test_layout_is_the_one_of_the_specification() -> None:
    start, count, rows, columns, samples, width, rest = struct.unpack_from(">IIHHBBI", BODY)
    assert (start, count, rows, columns, samples, width) == (6, 2, 64, 48, 1, 2)
    lengths = struct.unpack_from(">2I", BODY, 18)
    assert 26 + sum(lengths) + rest == len(BODY)
    assert BODY[26:30] == b"\xff\x4f\xff\x51"
    assert BODY[len(BODY) - rest :][:4] == b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize("original", [0, 1, len(DATA) - 1, len(DATA) + 1, 1 << 31])
def test_the_announced_length_must_fit(original: int) -> None:
    refused(BODY, original)


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0, ">I", 1 << 31),  # start beyond the end
        (0, ">I", 20),  # images beyond the end
        (4, ">I", 0),
        (4, ">I", 1),
        (4, ">I", 3),
        (4, ">I", 0xFFFFFFFF),
        (8, ">H", 0),
        (8, ">H", 63),
        (8, ">H", 31),
        (10, ">H", 0xFFFF),
        (12, ">B", 0),
        (12, ">B", 2),
        (12, ">B", 3),
        (13, ">B", 0),
        (13, ">B", 1),
        (13, ">B", 4),
        (14, ">I", 0),
        (14, ">I", 0xFFFFFFFF),
        (18, ">I", 0),
        (18, ">I", 0xFFFFFFFF),
    ],
)
def test_no_number_of_the_header_may_lie(offset: int, form: str, value: int) -> None:
    refused(patched(offset, form, value))


def test_every_cut_is_refused() -> None:
    for end in range(0, len(BODY), 7):
        refused(BODY[:end])
    refused(BODY + b"\0")


def test_an_image_that_is_too_large_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", GRID.frame - 1)
    assert frames.encode(DATA, 6, GRID) is None
    refused(BODY)


def test_an_image_that_is_too_narrow_is_left_to_others() -> None:
    narrow = Grid(count=1, rows=31, columns=4000, samples=1, width=1, signed=False)
    assert frames.encode(bytes(narrow.size), 0, narrow) is None
