"""Lossless compressed pixels as native ones, frame by frame (PS3.5 8.2, A.4).

For a PACS that refuses a study's transfer syntax: RLE, lossless JPEG, JPEG-LS, JPEG 2000 and HTJ2K, and no lossy one.
A frame is decoded by imagecodecs, where there are two decoders of a format by both, and has to come out the same. What
a codestream says of its size is held against the data set's before a decoder sees it: a few bytes may claim gigabytes.

Everything that is not clear is refused: a codestream whose sign or size is not the data set's, a JP2 file in the place
of a codestream, subsampled components. The samples lie as Planar Configuration says (PS3.3 C.7.6.3.1.3), which stays.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import imagecodecs
import msgspec
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames

from clients.gateway.errors import GatewayError

RLE, ENCAPSULATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.98"
_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = "1.2.840.10008.1.2.4.80"
_J2K = "1.2.840.10008.1.2.4.90"
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202")
LOSSLESS = frozenset({RLE, ENCAPSULATED, *_JPEG, _JPEG_LS, _J2K, *_HTJ2K})
"""Compressed transfer syntaxes whose pixels can be had as they were before, and nothing in them is lossy by name."""
MAX_FRAME, MAX_PIXELS = 2**28, 2**30
"""Bytes of one native frame, and of all of an instance."""
_SOF3, _SOF55 = 0xC3, 0xF7
_END = b"\xff\xd9"
"""EOI and EOC, of all of these formats; a pad byte may follow. Of a codestream that was cut off OpenJPH makes an image,
and CharLS takes a quarter of a minute to see it.
"""
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_SEGMENTS = 1000

Image = NDArray[Any]


class RecodeError(GatewayError):
    """The PACS refuses this transfer syntax, and the image has no other form without loss. Have the PACS allow it."""

    code = "pacs-syntax"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What the data set says of its pixels (PS3.3 C.7.6.3)."""

    frames: int
    rows: int
    columns: int
    samples: int
    width: int
    """Bytes of a container: Bits Allocated / 8."""
    signed: bool
    planar: bool

    @property
    def frame(self) -> int:
        """Bytes of one native frame."""
        return self.rows * self.columns * self.samples * self.width

    def check(self) -> None:
        """Raises `RecodeError` for what is not decoded here."""
        ok = self.samples in (1, 3) and self.width in (1, 2, 4) and self.frames >= 1
        if not ok or not 0 < self.frame <= MAX_FRAME or self.frame * self.frames > MAX_PIXELS:
            raise RecodeError


def native_frames(value: bytes, syntax: str, shape: Shape) -> Iterator[bytes]:
    """Each frame of an encapsulated pixel data `value` (the items, without the element's head), as native bytes.

    Raises `RecodeError`.
    """
    shape.check()
    count = 0
    try:
        for coded in generate_frames(value, number_of_frames=shape.frames):
            count += 1
            if count > shape.frames:
                break
            yield _native(coded, syntax, shape)
    except (ValueError, TypeError, IndexError, RuntimeError, OverflowError, struct.error, MemoryError):
        # pydicom and imagecodecs have no one error for what is no frame; theirs derive from these
        raise RecodeError from None
    if count != shape.frames:
        raise RecodeError


def _native(coded: bytes, syntax: str, shape: Shape) -> bytes:
    if syntax == ENCAPSULATED:
        return _exact(coded[: shape.frame] if len(coded) - shape.frame in (0, 1) else b"", shape)
    if syntax == RLE:
        return _planes(_rle(coded, shape), shape)
    decoded = [decode(coded) for decode in _decoders(coded, syntax, shape)]
    images = [_fit(np.asarray(image), shape) for image in decoded]
    if any(image != images[0] for image in images[1:]):
        raise RecodeError
    return images[0]


def _decoders(coded: bytes, syntax: str, shape: Shape) -> tuple[Callable[[bytes], Image], ...]:
    """Who decodes `coded`, whose head has been looked at."""
    if syntax in _JPEG:
        _check_jpeg(coded, _SOF3, shape)
        return imagecodecs.jpegsof3_decode, imagecodecs.ljpeg_decode
    if syntax == _JPEG_LS:
        _check_jpeg(coded, _SOF55, shape)
        return (imagecodecs.jpegls_decode,)
    if syntax == _J2K or syntax in _HTJ2K:
        _check_jpeg2000(coded, shape)
        return (imagecodecs.jpeg2k_decode if syntax == _J2K else imagecodecs.htj2k_decode,)
    raise RecodeError


def _fit(image: Image, shape: Shape) -> bytes:
    """A decoded image in the data set's containers. A value that needs more of them is refused."""
    expected = (shape.rows, shape.columns) + ((3,) if shape.samples == 3 else ())
    if image.shape != expected or image.dtype.kind not in "iu" or image.dtype.itemsize > shape.width:
        raise RecodeError
    kind = image.dtype.kind  # a JPEG's samples are the containers' bits, whatever their sign
    wide = image.astype(f"<{kind}{shape.width}")
    if shape.samples == 3 and shape.planar:
        wide = np.moveaxis(wide, 2, 0)
    return wide.tobytes()


def _rle(coded: bytes, shape: Shape) -> Image:
    """PS3.5 annex G: a byte plane for each byte of each sample; decoded, a plane of containers for each sample."""
    (segments,) = struct.unpack_from("<L", coded)
    if segments != shape.samples * shape.width or len(coded) < 64:
        raise RecodeError
    kind = np.dtype(f"<u{shape.width}")
    found = imagecodecs.dicomrle_decode(coded, kind, out=bytearray(shape.frame))
    return np.frombuffer(_exact(bytes(found), shape), kind).reshape(shape.samples, shape.rows, shape.columns)


def _planes(planes: Image, shape: Shape) -> bytes:
    """Planes of samples, as Planar Configuration wants them."""
    return planes.tobytes() if shape.planar or shape.samples == 1 else np.moveaxis(planes, 0, 2).tobytes()


def _exact(frame: bytes, shape: Shape) -> bytes:
    if len(frame) != shape.frame:
        raise RecodeError
    return frame


def _check_jpeg(coded: bytes, frame_header: int, shape: Shape) -> None:
    """The frame header (ITU-T T.81 B.2.2; JPEG-LS: T.87 C.2.2) says what the data set says."""
    at = 2
    if coded[:2] != b"\xff\xd8" or _END not in coded[-3:]:
        raise RecodeError
    for _ in range(_MAX_SEGMENTS):
        if coded[at] != 0xFF:
            raise RecodeError
        marker = coded[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in _NO_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", coded, at + 2)
        if marker == frame_header:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", coded, at + 4)
            sampling = {coded[at + 11 + 3 * i] for i in range(samples)}
            if (rows, columns, samples) != (shape.rows, shape.columns, shape.samples):
                raise RecodeError
            if bits > 8 * shape.width or len(sampling) != 1:
                raise RecodeError
            return
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xCC):  # another process than the syntax says
            break
        at += 2 + length
    raise RecodeError


def _check_jpeg2000(coded: bytes, shape: Shape) -> None:
    """SIZ (ITU-T T.800 A.5.1): at the origin, not subsampled, of the data set's size and sign."""
    if coded[:4] != b"\xff\x4f\xff\x51" or _END not in coded[-3:]:
        raise RecodeError
    _, _, columns, rows, x, y = struct.unpack_from(">HHLLLL", coded, 4)
    (samples,) = struct.unpack_from(">H", coded, 40)
    if (rows, columns, x, y, samples) != (shape.rows, shape.columns, 0, 0, shape.samples):
        raise RecodeError
    for i in range(samples):
        depth, dx, dy = coded[42 + 3 * i : 45 + 3 * i]
        bits, signed = (depth & 0x7F) + 1, bool(depth & 0x80)
        if bits > 8 * shape.width or signed != shape.signed or (dx, dy) != (1, 1):
            raise RecodeError
