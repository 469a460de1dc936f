"""`sh1`: the pixels' containers taken apart byte by byte, then the whole data set as one Zstandard frame.

    sh1 = start 4 ‖ count 4 ‖ width 1 ‖ zstd(before ‖ planes ‖ after)

From `start` on the data set holds `count` containers of `width` bytes. Plane `i` is byte `i` of each of them,
in their order: high bytes, which barely change from pixel to pixel, come to lie side by side. Numbers are
big-endian; `planes` has `count * width` bytes, so the frame's content is as long as the data set.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from clients.gateway.codec.errors import CodecError
from clients.gateway.codec.pixels import Pixels
from clients.gateway.codec.zstd import deflate, inflate

_HEADER = struct.Struct(">IIB")
_WIDTHS = (2, 4, 8)


def encode(dataset: bytes, pixels: Pixels) -> bytes | None:
    """`dataset` as `sh1`, or None where there is nothing to shuffle."""
    start, width = pixels.start, pixels.width
    count = pixels.length // width
    if width not in _WIDTHS or not count:
        return None
    mixed = np.frombuffer(dataset, np.uint8).copy()
    containers = np.frombuffer(dataset, np.uint8, count * width, start).reshape(count, width)
    mixed[start : start + count * width].reshape(width, count)[:] = containers.T
    return _HEADER.pack(start, count, width) + deflate(mixed.data)


def parts(body: memoryview, original: int) -> Iterator[memoryview]:
    """The data set of `original` bytes, in three pieces. Raises `CodecError`."""
    if len(body) < _HEADER.size:
        raise CodecError
    start, count, width = _HEADER.unpack_from(body)
    if width not in _WIDTHS or not count or start + count * width > original:
        raise CodecError
    mixed = memoryview(inflate(body[_HEADER.size :], original))
    end = start + count * width
    planes = np.frombuffer(mixed, np.uint8, count * width, start).reshape(width, count)
    yield mixed[:start]
    yield np.ascontiguousarray(planes.T).data.cast("B")
    yield mixed[end:]
