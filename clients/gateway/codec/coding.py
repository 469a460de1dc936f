"""An instance made small and brought back byte for byte.

What is coded is the *data set* as it crosses DIMSE: without preamble and file meta information, which belong
to a file and not to the instance (PS3.10 7). Its SHA-256 is the caller's to make and to check; this room only
promises that what `encode` returns has been through `decode` and came back equal.

The codec of each instance is the first of these that takes it, is proven by decoding, and makes it smaller;
only where that is not `ht1` on a natural image are the others tried as well, and the smallest one kept:

- `ht1` each image as a reversible HTJ2K codestream of its containers, the rest as Zstandard (`frames`);
- `sh1` byte-shuffled containers, all as Zstandard (`shuffle`): big-endian or truncated pixels, 32 bits, floats;
- `zs1` Zstandard of the data set (`zstd`): reports, plans, bitmaps, whatever could not be parsed;
- `raw` the data set: what is compressed already.

Nothing here can lose an instance: any exception and any difference only means the next codec. Decoding is
the other way about. It is fed by a peer, so every size is checked against `original` before memory is taken
or native code runs, and the one error is `CodecError`.

Both functions are pure and leave the GIL to others while they work: call them from worker threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from clients.gateway.codec import frames, shuffle, zstd
from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.pixels import find

MAX_ORIGINAL = (1 << 32) - 1
"""Bytes of the largest data set that is coded, and the largest that any body may claim to be."""


_ENCAPSULATED = "1.2.840.10008.1.2.4."
"""JPEG of every kind, and video: an image above `_LONG` bytes has nothing left that Zstandard could find."""
_LONG = 1 << 20
_NATURAL = 6
"""HTJ2K makes a CT two to five times smaller. More than this means drawn lines, a screen shot, few colours:
there a dictionary may do better still, and it is cheap to see."""


class Coded(msgspec.Struct, frozen=True):
    """An instance's data set, coded."""

    codec: str
    body: bytes


def encode(dataset: bytes | memoryview, syntax: str) -> Coded:
    """`dataset`, encoded in the transfer syntax `syntax`, as small as a fast codec makes it. Never fails."""
    data = bytes(dataset)
    best = Coded("raw", data)
    if not 0 < len(data) <= MAX_ORIGINAL:
        return best
    for codec, attempt in _attempts(data, syntax):
        body = _proven(codec, attempt, data)
        if body is not None and len(body) < len(best.body):
            best = Coded(codec, body)
        if best.codec == "ht1" and len(best.body) * _NATURAL > len(data):
            break
    return best


def decode(codec: str, body: bytes | memoryview, original: int) -> bytes:
    """The data set of exactly `original` bytes that `body` holds. Raises `CodecError`, and nothing else.

    Takes `original` bytes and what one image needs (twice `original` with `sh1`). The caller has made sure that
    `original` itself is bearable.
    """
    try:
        pieces = _pieces(codec, body, original)
        first = next(pieces)
        if len(first) == original:
            return bytes(first)
        # BytesIO hands its buffer out as bytes without another copy
        whole = io.BytesIO(bytes(original))
        whole.write(first)
        for piece in pieces:
            whole.write(piece)
        return whole.getvalue()
    except CodecError:
        raise
    except Exception:
        # OpenJPH, Zstandard and numpy each have their own errors, and none has anything to tell a person
        raise CodecError from None


def _pieces(codec: str, body: bytes | memoryview, original: int) -> Iterator[bytes | memoryview]:
    """The data set, piece by piece: exactly `original` bytes in all."""
    view = memoryview(body).toreadonly()
    if original < 0 or (original > MAX_ORIGINAL and codec != "raw"):
        raise CodecError
    if codec == "ht1":
        yield from frames.parts(view, original)
    elif codec == "sh1":
        yield from shuffle.parts(view, original)
    elif codec == "zs1":
        yield zstd.inflate(view, original)
    elif codec == "raw" and len(view) == original:
        yield view
    else:
        raise CodecError


def _attempts(data: bytes, syntax: str) -> Iterator[tuple[str, Callable[[], bytes | None]]]:
    """The codecs to try for this data set, best first."""
    try:
        pixels = find(data, syntax)
    except Exception:
        pixels = None
    if pixels:
        grid = pixels.grid
        if grid:
            yield "ht1", lambda: frames.encode(data, pixels.start, grid)
        yield "sh1", lambda: shuffle.encode(data, pixels)
    if len(data) < _LONG or not syntax.startswith(_ENCAPSULATED):
        yield "zs1", lambda: zstd.deflate(data)


def _proven(codec: str, attempt: Callable[[], bytes | None], data: bytes) -> bytes | None:
    """What `attempt` makes of `data`, if it decodes to the same bytes: compared piece by piece, none is kept."""
    try:
        body = attempt()
        if body is None:
            return None
        at, whole = 0, np.frombuffer(data, np.uint8)
        for piece in _pieces(codec, body, len(data)):
            if not np.array_equal(np.asarray(memoryview(piece)), whole[at : at + len(piece)]):
                return None
            at += len(piece)
        return body if at == len(data) else None
    except Exception:
        return None
