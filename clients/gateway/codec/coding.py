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

from collections.abc import Callable, Iterator

import msgspec

from clients.gateway.codec import frames, shuffle, zstd
from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.pixels import find

MAX_ORIGINAL = (1 << 32) - 1
"""Bytes of the largest data set that is coded, and the largest that any body may claim to be."""


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
    if len(data) > MAX_ORIGINAL:
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

    Takes `original` bytes, twice that for a moment with `sh1`, and what one image needs. The caller has
    made sure that `original` itself is bearable.
    """
    if codec not in _DECODERS or original < 0 or (original > MAX_ORIGINAL and codec != "raw"):
        raise CodecError
    try:
        return _DECODERS[codec](memoryview(body).toreadonly(), original)
    except CodecError:
        raise
    except Exception:
        # OpenJPH, Zstandard and numpy each have their own errors, and none has anything to tell a person
        raise CodecError from None


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
    yield "zs1", lambda: zstd.deflate(data)


def _proven(codec: str, attempt: Callable[[], bytes | None], data: bytes) -> bytes | None:
    """What `attempt` makes of `data`, if it decodes to the same bytes."""
    try:
        body = attempt()
        return body if body is not None and decode(codec, body, len(data)) == data else None
    except Exception:
        return None


def _raw(body: memoryview, original: int) -> bytes:
    if len(body) != original:
        raise CodecError
    return bytes(body)


_DECODERS: dict[str, Callable[[memoryview, int], bytes]] = {
    "ht1": frames.decode,
    "sh1": shuffle.decode,
    "zs1": zstd.inflate,
    "raw": _raw,
}
