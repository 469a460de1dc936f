from __future__ import annotations

import tracemalloc

import pytest
import zstandard

from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.zstd import deflate, inflate

DATA = b"a study, a series, an instance " * 1000


@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(1 << 20)])
def test_round_trip(data: bytes) -> None:
    assert inflate(deflate(data), len(data)) == data
    assert inflate(memoryview(deflate(data)), len(data)) == data


@pytest.mark.parametrize("size", [0, len(DATA) - 1, len(DATA) + 1, 1 << 62])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(CodecError):
        inflate(deflate(DATA), size)


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28))
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            inflate(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_hides_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(DATA)
    with pytest.raises(CodecError):
        inflate(frame, len(DATA))


def test_a_size_that_lies_is_refused() -> None:
    frame = bytearray(deflate(DATA))
    frame[5] ^= 0x01  # content size, two bytes after magic and descriptor
    claimed = zstandard.get_frame_parameters(bytes(frame)).content_size
    assert claimed != len(DATA)
    with pytest.raises(CodecError):
        inflate(bytes(frame), claimed)


def test_what_follows_a_frame_is_refused() -> None:
    for tail in (b"\0", deflate(b""), b"\x50\x2a\x4d\x18\x01\0\0\0x"):
        with pytest.raises(CodecError):
            inflate(deflate(DATA) + tail, len(DATA))


def test_a_dictionary_is_refused() -> None:
    raw = zstandard.ZstdCompressionDict(DATA[:500], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    trained = zstandard.train_dictionary(2000, [DATA[i : i + 400] for i in range(0, 20000, 97)])
    for dictionary in (raw, trained):
        frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(DATA)
        try:
            assert inflate(frame, len(DATA)) == DATA
        except CodecError:
            continue
        assert dictionary is raw  # a raw prefix that was not used leaves no trace


def test_every_cut_is_refused() -> None:
    frame = deflate(DATA)
    for end in range(len(frame)):
        with pytest.raises(CodecError):
            inflate(frame[:end], len(DATA))
