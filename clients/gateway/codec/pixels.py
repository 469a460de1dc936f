"""Where the pixels lie in an encoded data set, and in which containers (PS3.3 C.7.6.3, PS3.5 8).

Nothing is interpreted: the byte range and the width of its containers is all that a codec needs. Elements
are walked with pydicom's own reader, for a data set may hold the four bytes of the Pixel Data tag anywhere
(an icon image, a private element), and Implicit VR is common.

Only native pixels are found (PS3.5 8.2): encapsulated ones are compressed already, and a deflated data set
has no element that could be found without inflating it.
"""

from __future__ import annotations

import io
from typing import Literal

import msgspec
from pydicom.filereader import data_element_generator

Order = Literal["little", "big"]

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_SYNTAXES = {
    # transfer syntax: (implicit VR, little-endian)
    IMPLICIT_LITTLE: (True, True),
    EXPLICIT_LITTLE: (False, True),
    EXPLICIT_BIG: (False, False),
}

SAMPLES = 0x00280002
PLANAR = 0x00280006
FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_ALLOCATED = 0x00280100
REPRESENTATION = 0x00280103
_FLOAT_PIXELS, _DOUBLE_PIXELS, _PIXELS = 0x7FE00008, 0x7FE00009, 0x7FE00010
_BITS = {8: 1, 16: 2, 32: 4, 64: 8}
_WIDTHS = {_FLOAT_PIXELS: 4, _DOUBLE_PIXELS: 8}
_WANTED = frozenset({SAMPLES, PLANAR, FRAMES, ROWS, COLUMNS, BITS_ALLOCATED, REPRESENTATION})
_UNDEFINED = 0xFFFFFFFF
_SHORT_VALUE = 16
"""No wanted value is longer: the longest is Number of Frames, an IS of at most 12 characters."""


class Grid(msgspec.Struct, frozen=True):
    """Images that an image codec can take: `count` of `rows` x `columns` x `samples`, `width` bytes each."""

    count: int
    rows: int
    columns: int
    samples: int
    """1, or 3 for colour-by-pixel. Colour-by-plane (PS3.3 C.7.6.3.1.3) is three images of 1."""
    width: int
    signed: bool

    @property
    def frame(self) -> int:
        """Bytes of one image."""
        return self.rows * self.columns * self.samples * self.width

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return self.count * self.frame


class Pixels(msgspec.Struct, frozen=True):
    """The value of the pixel data element: `length` bytes from `start` on, in containers of `width` bytes."""

    start: int
    length: int
    width: int
    grid: Grid | None
    """None where the pixels are no whole images of 8 or 16-bit containers in little-endian order."""


def find(dataset: bytes, syntax: str) -> Pixels | None:
    """The pixels of `dataset`, or None where there are none that can be told apart from the rest.

    Whatever pydicom raises for a malformed data set passes through: the caller falls back.
    """
    if syntax not in _SYNTAXES:
        return None
    implicit, little = _SYNTAXES[syntax]
    stream = io.BytesIO(dataset)
    order: Order = "little" if little else "big"
    fields = _fields(stream, implicit, little)
    # The generator has stopped in front of the element, or at the end
    at = stream.tell()
    tag = int.from_bytes(dataset[at : at + 2], order) << 16 | int.from_bytes(dataset[at + 2 : at + 4], order)
    if tag not in (_FLOAT_PIXELS, _DOUBLE_PIXELS, _PIXELS):
        return None
    # Tag, then a length of 4 (PS3.5 7.1.3), or VR, 2 reserved bytes and a length of 4 (PS3.5 7.1.2: OB, OW, OF, OD)
    start = at + (8 if implicit else 12)
    length = int.from_bytes(dataset[start - 4 : start], order)
    if start > len(dataset) or length in (0, _UNDEFINED):
        return None
    length = min(length, len(dataset) - start)
    width = _WIDTHS.get(tag) or _BITS.get(_short(fields, BITS_ALLOCATED, order, 0))
    if width is None:
        return None
    grid = _grid(fields, length, width) if little and tag == _PIXELS and width <= 2 else None
    return Pixels(start=start, length=length, width=width, grid=grid)


def _fields(stream: io.BytesIO, implicit: bool, little: bool) -> dict[int, bytes]:
    """The wanted elements in front of the pixels, which are left unread."""

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        # int() for speed: a tag of pydicom compares in Python
        return int(tag) >= _FLOAT_PIXELS

    elements = data_element_generator(stream, implicit, little, stop_when=at_pixels, specific_tags=[*_WANTED])
    return {
        int(element.tag): element.value
        for element in elements
        if isinstance(element.value, bytes) and len(element.value) <= _SHORT_VALUE
    }


def _short(fields: dict[int, bytes], tag: int, order: Order, default: int) -> int:
    """An US value (PS3.5 6.2), `default` where it is absent; 0 is no valid answer to any question asked here."""
    value = fields.get(tag)
    if value is None:
        return default
    return int.from_bytes(value, order) if len(value) == 2 else 0


def _grid(fields: dict[int, bytes], length: int, width: int) -> Grid | None:
    """The images within `length` bytes of pixels; None for any shape but whole images of 1 or 3 samples."""
    samples = _short(fields, SAMPLES, "little", 1)
    count = int(fields.get(FRAMES, b"1").strip(b" \0") or b"1")
    if samples not in (1, 3) or count < 1:
        return None
    if samples == 3 and _short(fields, PLANAR, "little", 0) == 1:
        count, samples = count * 3, 1
    grid = Grid(
        count=count,
        rows=_short(fields, ROWS, "little", 0),
        columns=_short(fields, COLUMNS, "little", 0),
        samples=samples,
        width=width,
        signed=_short(fields, REPRESENTATION, "little", 0) == 1,
    )
    return grid if 0 < grid.size <= length else None
