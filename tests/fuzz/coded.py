"""Coded instances of a sender that lies, and data sets of a modality that our own encoder cannot expect.

Both end in native code (OpenJPH, Zstandard), so they run apart: what ends the process is a find.
"""

from __future__ import annotations

import struct
from functools import cache

from clients.gateway.codec import CodecError, codestream, decode, encode
from clients.gateway.codec.zstd import deflate
from tests.fuzz.files import SYNTAXES
from tests.fuzz.files import samples as files
from tests.fuzz.harness import Harness
from tests.image_kit import BIG, EXPLICIT, IMPLICIT, data_set, smooth

CODECS = ["ht1", "sh1", "zs1", "raw"]
_HEAD = struct.Struct(">BQ")
"""Of an input: the codec's number, the size of the data set as the sender announced it."""
_FRAMES = struct.Struct(">IIHHBBI")
_BEARABLE = 2**28
"""What a receiver takes on for one instance here (`delivery` has its own limit, by the disk)."""


@cache
def _images() -> list[bytes]:
    return [
        data_set(smooth((64, 48))), data_set(smooth((3, 40, 36, 3), "u1"), frames=3), data_set(smooth((48, 48),
        "<i2"), IMPLICIT),
        data_set(smooth((33, 90), "u1")),
    ]  # fmt: skip


@cache
def _bodies() -> list[bytes]:
    """Head and body of instances that were coded right, with each codec."""
    found = []
    syntaxes = [EXPLICIT, EXPLICIT, IMPLICIT, EXPLICIT, BIG, EXPLICIT]
    for data, syntax in zip(
        [*_images(), data_set(smooth((64, 48), ">u2"), BIG), b"report " * 300], syntaxes, strict=True
    ):
        coded = encode(data, syntax)
        found.append(_HEAD.pack(CODECS.index(coded.codec), len(data)) + coded.body)
    bomb = deflate(bytes(2**24))
    return [*found, _HEAD.pack(2, 2**24) + bomb, _HEAD.pack(3, 5) + b"hello"]


def _decode(data: bytes) -> None:
    """A body with the size that was announced for it: exactly so many bytes, or refused."""
    if len(data) < _HEAD.size:
        raise CodecError
    codec, original = _HEAD.unpack_from(data)
    if original > _BEARABLE:
        original %= _BEARABLE
    assert len(decode(CODECS[codec % 4], data[_HEAD.size :], original)) == original


@cache
def _streams() -> list[bytes]:
    """Codestreams with their rows, columns, samples and bits in front."""
    found = []
    for data in _images():
        body = encode(data, EXPLICIT if data is not _images()[2] else IMPLICIT).body
        _, count, rows, columns, colours, width, _ = _FRAMES.unpack_from(body)
        at = _FRAMES.size + 4 * count
        size = struct.unpack_from(">I", body, _FRAMES.size)[0]
        found.append(struct.pack(">HHBB", rows, columns, colours, width) + body[at : at + size])
    return found


def _stream(data: bytes) -> None:
    """A codestream whose main header was kept, so that what follows it reaches the decoder."""
    if len(data) < 7:
        raise CodecError
    rows, columns, colours, width = struct.unpack_from(">HHBB", data)
    stream = data[6:]
    frame = rows * columns * colours * width
    if not 0 < frame <= 2**22 or width not in (1, 2):
        raise CodecError
    stream = _repaired(stream)
    codestream.check(memoryview(stream), rows, columns, colours, 8 * width)
    rest = deflate(b"")
    head = _FRAMES.pack(0, 1, rows, columns, colours, width, len(rest)) + len(stream).to_bytes(4, "big")
    assert len(decode("ht1", head + stream + rest, frame)) == frame


def _repaired(stream: bytes) -> bytes:
    """The tile-part's length and the end mark put right: else nearly every mutant ends at `codestream.check`."""
    at = stream.find(b"\xff\x90\x00\x0a")
    if at < 0:
        return stream
    if not stream.endswith(b"\xff\xd9"):
        stream += b"\xff\xd9"
    return stream[: at + 6] + (len(stream) - at - 2).to_bytes(4, "big") + stream[at + 10 :]


def _encode(data: bytes) -> None:
    """Any data set of a modality: coded, and back to the same bytes."""
    syntax = SYNTAXES[data[0] % len(SYNTAXES)] if data else EXPLICIT
    coded = encode(data[1:], syntax)
    assert len(coded.body) <= len(data[1:])
    assert decode(coded.codec, coded.body, len(data) - 1 if data else 0) == data[1:]


def _data_sets() -> list[bytes]:
    made = [bytes([syntax]) + data for data, syntax in zip(_images(), (0, 0, 1, 0), strict=True)]
    return [*made, *(b"\0" + sample[300:] for sample in files()[:3])]


HARNESSES = [
    Harness(
        name="codec", run=_decode, samples=_bodies, family=(CodecError,), memory=2 * _BEARABLE + 2**28,
        seconds=6.0, apart=True, share=0.5
    ),
    Harness(name="codestream", run=_stream, samples=_streams, family=(CodecError,), memory=2**28, apart=True,
    share=0.5),
    Harness(name="encoder", run=_encode, samples=_data_sets, family=(), memory=2**28, apart=True, share=0.1),
]  # fmt: skip
