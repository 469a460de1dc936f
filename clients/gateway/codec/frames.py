"""`ht1`: each image as a reversible HTJ2K codestream, and every other byte of the data set beside them.

    ht1 = start 4 ‖ count 4 ‖ rows 2 ‖ columns 2 ‖ samples 1 ‖ width 1 ‖ rest 4
          ‖ length 4 (count times) ‖ codestream (count times) ‖ zstd(before ‖ after)

From `start` on the data set holds `count` images of `rows` x `columns` pixels of `samples` (1 or 3) containers
of `width` bytes (1 or 2, little-endian). `length` is the size of each codestream, `rest` that of the
Zstandard frame of what lies before and after the images: header, odd pad byte, trailing elements. Numbers
are big-endian; the parts fill the body exactly.

What is coded is the *container*, all 8 or 16 bits of it: overlays in unused bits (PS3.5 8.1.2, as retired),
padding values, garbage above Bits Stored come back as they were. A signed pixel is handed over as a signed
number; its bytes are the same and its neighbours are near. Colour-by-pixel is coded as three components
with the reversible colour transform, whatever the photometric interpretation: it is only a transform.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from clients.gateway.codec import codestream
from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.openjph import decode_image, encode_image
from clients.gateway.codec.pixels import Grid
from clients.gateway.codec.zstd import deflate, inflate

MAX_FRAME = 1 << 26
"""Bytes of the largest image (64 MiB; a mammogram has 46): the encoder takes some four times as much."""
MIN_SIDE = 32
"""A narrower image is not worth a codestream's 150 bytes of headers, nor are a million of them the time."""
_HEADER = struct.Struct(">IIHHBBI")


def encode(dataset: bytes, start: int, grid: Grid) -> bytes | None:
    """`dataset`, whose images begin at `start`, as `ht1`; None where they are too small or too large for it."""
    if min(grid.rows, grid.columns) < MIN_SIDE or grid.frame > MAX_FRAME:
        return None
    dtype = np.dtype(f"<{'i' if grid.signed else 'u'}{grid.width}")
    shape = _shape(grid.rows, grid.columns, grid.samples)
    images = [
        encode_image(
            np.frombuffer(dataset, dtype, grid.frame // grid.width, start + i * grid.frame).reshape(shape)
        )
        for i in range(grid.count)
    ]
    rest = deflate(dataset[:start] + dataset[start + grid.size :])
    header = _HEADER.pack(start, grid.count, grid.rows, grid.columns, grid.samples, grid.width, len(rest))
    return b"".join((header, struct.pack(f">{grid.count}I", *map(len, images)), *images, rest))


def parts(body: memoryview, original: int) -> Iterator[memoryview]:
    """The data set of `original` bytes, piece by piece, an image in memory at a time.

    Raises `CodecError` before the first piece for numbers that do not fit, and `CodecError` or whatever OpenJPH
    raises for an image.
    """
    if len(body) < _HEADER.size:
        raise CodecError
    start, count, rows, columns, samples, width, rest = _HEADER.unpack_from(body)
    if samples not in (1, 3) or width not in (1, 2) or not count or min(rows, columns) < MIN_SIDE:
        raise CodecError
    frame = rows * columns * samples * width
    at = _HEADER.size + 4 * count
    if frame > MAX_FRAME or start + count * frame > original or at > len(body):
        raise CodecError
    lengths = struct.unpack_from(f">{count}I", body, _HEADER.size)
    if at + sum(lengths) + rest != len(body):
        raise CodecError
    verbatim = memoryview(inflate(body[len(body) - rest :], original - count * frame))
    yield verbatim[:start]
    for length in lengths:
        stream = body[at : at + length]
        signed = codestream.check(stream, rows, columns, samples, 8 * width)
        image = np.empty(_shape(rows, columns, samples), f"<{'i' if signed else 'u'}{width}")
        decode_image(bytes(stream), image)
        yield image.data.cast("B")
        at += length
    yield verbatim[start:]


def _shape(rows: int, columns: int, samples: int) -> tuple[int, ...]:
    return (rows, columns) if samples == 1 else (rows, columns, samples)
