"""A data set in another transfer syntax, with the same content: the last resort where a PACS refuses the study's own.

    deflated        -> Explicit VR Little Endian, by inflating it (PS3.5 A.5)
    compressed      -> Explicit VR Little Endian: the pixel data element decoded (`pixels`), every other byte as it was
    uncompressed    -> Explicit or Implicit VR Little Endian, element by element (PS3.5 7.1, A.1-A.3)

A change of transfer syntax without loss makes no new image: the SOP Instance UID stays (PS3.3 C.7.6.1.1.2: DERIVED is
what pixel values were changed of; PS3.3 C.12.1.1.6). Of the attributes one follows the pixels: YBR_RCT is RGB once the
transform of JPEG 2000 is undone (PS3.3 C.7.6.3.1.2). Where an image was lossy once, Lossy Image Compression says so
before and after.

Values are moved and never read; only the width of their words counts, in Big Endian. Text in odd character sets,
numbers that are none and private elements arrive as they were. An element of which the implicit form does not say the
VR becomes UN (PS3.5 6.2.2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
from pydicom.datadict import dictionary_VR

from clients.gateway.dicom.part10 import LONG_VRS
from clients.gateway.dicom.pixels import LOSSLESS, RecodeError, Shape, native_frames
from clients.gateway.dicom.structure import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    find_spans,
    inflate,
)

_UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
TARGETS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
"""What is offered to a PACS instead, in this order: every one has to take the second (PS3.5 10.1)."""
_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_ROWS, _COLUMNS, _ALLOCATED, _REPRESENTATION = 0x00280010, 0x00280011, 0x00280100, 0x00280103
_OFFSETS, _LENGTHS, _PIXELS = 0x7FE00001, 0x7FE00002, 0x7FE00010
_GROUPS = (0x00280000, 0x7FE00000)
"""Group lengths: retired (PS3.5 7.2), and wrong once a group has changed."""
_WANTED = frozenset(
    {
        _SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS, _COLUMNS, _ALLOCATED, _REPRESENTATION, _OFFSETS, _LENGTHS,
        _PIXELS, *_GROUPS,
    }
)  # fmt: skip
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_WORDS = {
    b"US": 2, b"SS": 2, b"OW": 2, b"AT": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"OL": 4, b"OF": 4, b"FD": 8, b"OD": 8,
    b"SV": 8, b"UV": 8, b"OV": 8,
}  # fmt: skip
_MAX_DEPTH = 64


def can_recode(syntax: str) -> bool:
    """Whether a data set in `syntax` has another form that loses nothing."""
    return syntax in LOSSLESS or syntax in _UNCOMPRESSED or syntax == DEFLATED_LITTLE


def recode(data: bytes, syntax: str, target: str) -> Iterator[bytes]:
    """The pieces of `data` in the transfer syntax `target`, one of `TARGETS`. Raises `RecodeError`, `IntakeError`."""
    if syntax == DEFLATED_LITTLE:
        data, syntax = bytes(inflate(lambda at, n: data[at : at + n], 0, len(data))), EXPLICIT_LITTLE
    if syntax in LOSSLESS:
        if target == EXPLICIT_LITTLE:
            yield from _decompressed(data, syntax)
            return
        data, syntax = b"".join(_decompressed(data, syntax)), EXPLICIT_LITTLE
    if syntax not in _UNCOMPRESSED or target not in TARGETS:
        raise RecodeError
    if syntax == target:
        yield data
    else:
        yield from converted(data, syntax, target)


def check(data: bytes, syntax: str, written: bytes, target: str) -> None:
    """That `written` in `target` is `data`, read anew, pixel by pixel. Raises `RecodeError`, `IntakeError`."""
    if syntax == DEFLATED_LITTLE:
        data, syntax = bytes(inflate(lambda at, n: data[at : at + n], 0, len(data))), EXPLICIT_LITTLE
    if syntax in LOSSLESS:
        _check_pixels(data, syntax, written, target)
    elif b"".join(_plainly(data, syntax)) != b"".join(_plainly(written, target)):
        raise RecodeError


def _check_pixels(data: bytes, syntax: str, written: bytes, target: str) -> None:
    spans = find_spans(data, syntax, _WANTED)
    pixels = spans[_PIXELS]
    if not pixels.is_there:
        return
    values = {tag: data[s.value : s.end] for tag, s in spans.items() if tag != _PIXELS and s.is_there}
    at = find_spans(written, target, frozenset({_PIXELS}))[_PIXELS].value
    for frame in native_frames(data[pixels.value : pixels.end], syntax, _shape(values)):
        if written[at : at + len(frame)] != frame:
            raise RecodeError
        at += len(frame)


def _plainly(data: bytes, syntax: str) -> Iterator[bytes]:
    """In Implicit VR Little Endian with undefined lengths, whatever it was in."""
    if syntax == IMPLICIT_LITTLE:  # by the other form, so that its sequences are written alike
        data, syntax = b"".join(converted(data, syntax, EXPLICIT_LITTLE)), EXPLICIT_LITTLE
    return converted(data, syntax, IMPLICIT_LITTLE)


# Compressed


def _decompressed(data: bytes, syntax: str) -> Iterator[bytes]:
    """The data set with native pixels; all else is passed on as it stands."""
    spans = find_spans(data, syntax, _WANTED)
    if not spans[_PIXELS].is_there:
        yield data  # a report in a syntax for images
        return
    values = {tag: data[s.value : s.end] for tag, s in spans.items() if tag != _PIXELS and s.is_there}
    shape = _shape(values)
    pixels = spans[_PIXELS]
    if data[pixels.value - 4 : pixels.value] != b"\xff" * 4:
        raise RecodeError  # native pixels under a compressed syntax
    at = 0
    for tag in sorted((*_GROUPS, _PHOTOMETRIC, _OFFSETS, _LENGTHS)):
        span = spans[tag]
        yield data[at : span.start]
        at = span.end
        if tag == _PHOTOMETRIC and span.is_there:
            yield _photometric(data[span.start : span.end], values[tag])
    yield data[at : pixels.start]
    size = shape.frame * shape.frames
    vr = b"OB" if shape.width == 1 else b"OW"
    yield struct.pack("<HH2sHL", _PIXELS >> 16, _PIXELS & 0xFFFF, vr, 0, size + size % 2)
    yield from native_frames(data[pixels.value : pixels.end], syntax, shape)
    yield b"\0" * (size % 2) + data[pixels.end :]


def _photometric(element: bytes, value: bytes) -> bytes:
    text = value.strip(b" \0")
    if text == b"YBR_ICT":
        raise RecodeError  # the transform that loses
    if text != b"YBR_RCT":
        return element
    return struct.pack("<HH2sH", _PHOTOMETRIC >> 16, _PHOTOMETRIC & 0xFFFF, b"CS", 4) + b"RGB "


def _shape(values: dict[int, bytes]) -> Shape:
    def number(tag: int, default: int = 0) -> int:
        value = values.get(tag)
        return default if value is None else int.from_bytes(value[:2], "little")

    allocated = number(_ALLOCATED)
    if allocated % 8:
        raise RecodeError
    try:
        frames = int(values.get(_FRAMES, b"1").strip(b" \0") or b"1")
    except ValueError:
        raise RecodeError from None
    shape = Shape(
        frames=frames, rows=number(_ROWS), columns=number(_COLUMNS), samples=number(_SAMPLES, 1), width=allocated // 8,
        signed=number(_REPRESENTATION) == 1, planar=number(_PLANAR) == 1,
    )  # fmt: skip
    shape.check()
    return shape


# Uncompressed


class _Element(msgspec.Struct, frozen=True):
    tag: int
    vr: bytes
    length: int
    value: int
    """Where it begins."""


class _Scope(msgspec.Struct, frozen=True):
    """What elements of a data set mean that do not say it themselves (PS3.5 annex H): it holds in its items too."""

    signed: bool = False
    allocated: int = 0


def converted(data: bytes, syntax: str, target: str) -> Iterator[bytes]:
    """An uncompressed data set, element by element. Raises `RecodeError`."""
    try:
        yield from _Conversion(data, syntax, target).data_set(0, len(data), _Scope(), 0)
    except (struct.error, IndexError):
        raise RecodeError from None


class _Conversion:
    """From one of the uncompressed transfer syntaxes to a little-endian one."""

    def __init__(self, data: bytes, syntax: str, target: str) -> None:
        self._data = data
        self._big, self._to_implicit = syntax == EXPLICIT_BIG, target == IMPLICIT_LITTLE
        self._from_implicit = syntax == IMPLICIT_LITTLE
        order = ">" if self._big else "<"
        self._head = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "L").unpack_from

    def data_set(self, at: int, end: int, scope: _Scope, depth: int) -> Iterator[bytes]:
        """The elements up to `end`; in an item of undefined length (`end` 0) up to its mark."""
        if depth > _MAX_DEPTH:
            raise RecodeError
        while not end or end - at >= 8:
            element = self._element(at)
            if element.tag == _ITEM_END and not end:
                return
            if element.tag >> 16 == 0xFFFE:
                raise RecodeError
            at = self._end(element, depth)
            scope = self._seen(element, scope)
            if not element.tag & 0xFFFF:  # a group length: retired (PS3.5 7.2), and wrong from here on
                continue
            yield from self._written(element, at, scope, depth)
        if at != end and self._data[at:end].strip(b"\0"):
            raise RecodeError

    def _element(self, at: int) -> _Element:
        group, number = self._head(self._data, at)
        tag: int = group << 16 | number
        if group == 0xFFFE or self._from_implicit:
            return _Element(tag, b"", self._long(self._data, at + 4)[0], at + 8)
        vr = self._data[at + 4 : at + 6]
        if not b"AA" <= vr <= b"ZZ":
            raise RecodeError  # implicit among explicit elements: readers differ on what it is
        if vr in LONG_VRS:
            return _Element(tag, vr, self._long(self._data, at + 8)[0], at + 12)
        return _Element(tag, vr, self._short(self._data, at + 6)[0], at + 8)

    def _end(self, element: _Element, depth: int) -> int:
        """Where the element behind `element` begins."""
        if element.length != _UNDEFINED:
            if element.value + element.length > len(self._data):
                raise RecodeError
            return element.value + element.length
        return self._sequence_end(element.value, depth)

    def _sequence_end(self, at: int, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise RecodeError
        while True:
            item = self._element(at)
            if item.tag == _SEQUENCE_END:
                return item.value
            if item.tag != _ITEM:
                raise RecodeError
            at = item.value + item.length if item.length != _UNDEFINED else self._item_end(item.value, depth)

    def _item_end(self, at: int, depth: int) -> int:
        while True:
            element = self._element(at)
            if element.tag == _ITEM_END:
                return element.value
            if element.tag >> 16 == 0xFFFE:
                raise RecodeError
            at = self._end(element, depth + 1)

    def _seen(self, element: _Element, scope: _Scope) -> _Scope:
        if element.tag == _REPRESENTATION and element.length == 2:
            signed = self._short(self._data, element.value)[0] == 1
            return msgspec.structs.replace(scope, signed=signed)
        if element.tag == _ALLOCATED and element.length == 2:
            return msgspec.structs.replace(scope, allocated=self._short(self._data, element.value)[0])
        return scope

    def _written(self, element: _Element, end: int, scope: _Scope, depth: int) -> Iterator[bytes]:
        vr = element.vr or self._vr(element, scope)
        if vr == b"SQ":
            yield self._headed(element.tag, vr, _UNDEFINED)
            yield from self._items(element.value, end, element.length == _UNDEFINED, scope, depth)
            yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
            return
        if element.length == _UNDEFINED:
            raise RecodeError  # fragments, or a sequence of which nobody says how it is written
        value = self._data[element.value : end]
        if self._big and vr == b"OW" and element.tag == _PIXELS and scope.allocated > 16:
            raise RecodeError  # writers differ on what order these are in
        if self._big and (width := _WORDS.get(vr)):
            value = _swapped(value, width)
        yield self._headed(element.tag, vr, len(value))
        yield value

    def _items(self, at: int, end: int, marked: bool, scope: _Scope, depth: int) -> Iterator[bytes]:
        """The items of a sequence, with undefined lengths: theirs would change."""
        while at < end:
            item = self._element(at)
            if item.tag == _SEQUENCE_END and marked:
                return
            if item.tag != _ITEM:
                raise RecodeError
            yield struct.pack("<HHL", 0xFFFE, 0xE000, _UNDEFINED)
            if item.length == _UNDEFINED:
                yield from self.data_set(item.value, 0, scope, depth + 1)
                at = self._item_end(item.value, depth)
            else:
                at = item.value + item.length
                if at > end:
                    raise RecodeError
                yield from self.data_set(item.value, at, scope, depth + 1)
            yield struct.pack("<HHL", 0xFFFE, 0xE00D, 0)

    def _headed(self, tag: int, vr: bytes, length: int) -> bytes:
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if self._to_implicit:
            return head + struct.pack("<L", length)
        if vr not in LONG_VRS and length > 0xFFFE:
            vr = b"UN"  # PS3.5 6.2.2: too long for its own form
        if vr in LONG_VRS:
            return head + vr + struct.pack("<HL", 0, length)
        return head + vr + struct.pack("<H", length)

    def _vr(self, element: _Element, scope: _Scope) -> bytes:
        """What the implicit form leaves out (PS3.6; PS3.5 annex A.1)."""
        group, number = element.tag >> 16, element.tag & 0xFFFF
        if group % 2:
            creator = 0x10 <= number <= 0xFF
            return b"SQ" if element.length == _UNDEFINED else b"LO" if creator else b"UN"
        try:
            vr: str = dictionary_VR(element.tag)
        except KeyError:
            return b"SQ" if element.length == _UNDEFINED else b"UN"
        if "OW" in vr:
            return b"OW"
        if vr == "US or SS":
            return b"SS" if scope.signed else b"US"
        return vr.encode("ascii")


def _swapped(value: bytes, width: int) -> bytes:
    if len(value) % width:
        raise RecodeError
    out = bytearray(len(value))
    for i in range(width):
        out[i::width] = value[width - 1 - i :: width]
    return bytes(out)
