"""The elements of a data set (PS3.5 7), walked from end to end without loading or interpreting a value.

A data set that ends in the middle of an element, or opens a sequence and never closes it, looks whole to a
reader that stops at the pixels, and to one that believes what it is told. It is refused here, before anyone
calls it stored. A walk costs about a microsecond for each element; a value is passed over by its length, so a
gigabyte of pixels costs one step. Elements inside a sequence of defined length are passed over with it.

What real writers do is let be: private transfer-syntax slips inside sequences (an element without a VR among
those with one), VRs that are not in the standard, zeros after the last element.
"""

from __future__ import annotations

import struct
import threading
import zlib

import msgspec

from clients.gateway.dicom.part10 import LONG_VRS, Read
from clients.gateway.dicom.refusals import refuse
from clients.gateway.errors import IntakeError

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
DEFLATED = frozenset({DEFLATED_LITTLE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Transfer syntaxes whose whole data set is deflated (PS3.5 A.5, A.7, A.15)."""
MAX_INFLATED = 2**26
"""A deflated data set larger than this is not opened: 300 KB can hold 70 MB, and a PACS has been ended that way."""
_INFLATING = threading.Lock()
"""One at a time: twenty senders of twenty bombs take the memory of one."""
_PIECE = 2**20
_MAX_VALUE = 2**16
_MAX_ELEMENTS = 4_000_000
_MAX_DEPTH = 64
_WINDOW = 2**16
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = 0x7FE00010
_PAST_ALL = 2**32
_FRAGMENTED = frozenset({b"OB", b"OW"})


class Span(msgspec.Struct, frozen=True):
    """Where a top-level element stands in a data set: its head, its value, and its end. All three are the same for one
    that is not there: where it belongs.
    """

    start: int
    value: int
    end: int

    @property
    def is_there(self) -> bool:
        """Whether there is such an element."""
        return self.end > self.start


def find_spans(data: bytes, syntax: str, tags: frozenset[int]) -> dict[int, Span]:
    """Where each of `tags` stands at the top level of a data set that is not deflated, or where it belongs (PS3.5 7.1:
    by ascending tag). Raises `IntakeError`.
    """
    walk = _Walk(lambda at, n: data[at : at + n], len(data), big=syntax == EXPLICIT_BIG, wanted=tags)
    walk.missing = sorted(tags)
    walk.data_set(0, implicit=syntax == IMPLICIT_LITTLE, depth=0)
    return walk.spans


def read_elements(read: Read, start: int, size: int, syntax: str, wanted: frozenset[int]) -> dict[int, bytes]:
    """The values of the `wanted` top-level tags of the data set from `start` to `size`, each cut at 64 KiB.

    Raises `IntakeError`: `dicom-truncated`, `dicom-structure`, `dicom-too-many`, `dicom-deflate`.
    """
    if start >= size:
        raise refuse("dicom-truncated")
    if syntax not in DEFLATED:
        return _walked(read, start, size, syntax, wanted)
    with _INFLATING:
        data = inflate(read, start, size)
        return _walked(lambda at, n: bytes(data[at : at + n]), 0, len(data), syntax, wanted)


def _walked(read: Read, start: int, size: int, syntax: str, wanted: frozenset[int]) -> dict[int, bytes]:
    walk = _Walk(read, size, big=syntax == EXPLICIT_BIG, wanted=wanted)
    walk.data_set(start, implicit=syntax == IMPLICIT_LITTLE, depth=0)
    return walk.found


def inflate(read: Read, start: int, size: int) -> bytearray:
    """A deflated data set, inflated (RFC 1951, no zlib header). Raises `IntakeError`."""
    inflater, data = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    try:
        while start < size and not inflater.eof:
            chunk = read(start, _WINDOW)
            start += len(chunk)
            if not chunk:
                break
            while chunk and not inflater.eof:
                data += inflater.decompress(chunk, min(_PIECE, MAX_INFLATED + 1 - len(data)))
                if len(data) > MAX_INFLATED:
                    raise refuse("dicom-deflate")
                chunk = inflater.unconsumed_tail
    except zlib.error:
        raise refuse("dicom-structure") from None
    if not inflater.eof:
        raise refuse("dicom-truncated")
    return data


class _Walk:
    """One walk over one data set, through a window of it."""

    def __init__(self, read: Read, size: int, *, big: bool, wanted: frozenset[int]) -> None:
        self._read, self._size, self._wanted = read, size, wanted
        order = ">" if big else "<"
        self._explicit = struct.Struct(order + "HH2sH").unpack_from
        self._implicit = struct.Struct(order + "HHL").unpack_from
        self._long = struct.Struct(order + "L").unpack_from
        self._window, self._base = b"", 0
        self._left = _MAX_ELEMENTS
        self.found: dict[int, bytes] = {}
        self.spans: dict[int, Span] = {}
        self.missing: list[int] = []
        """Tags that were not passed yet, ascending: each gets a span, if only an empty one."""

    def data_set(self, at: int, *, implicit: bool, depth: int) -> int:
        """Walks a data set, or at `depth` > 0 an item up to its end mark; returns where it ended."""
        while True:
            if self._size - at < 8:
                self._pass(_PAST_ALL, at, depth)
                return self._tail(at, depth)
            start = at
            tag, vr, length, at = self._head(at, implicit)
            if tag >> 16 == 0xFFFE:
                if tag == _ITEM_END and depth:
                    return at
                raise refuse("dicom-structure")
            value = at
            if length == _UNDEFINED:
                at = self._undefined(tag, vr, at, implicit, depth)
            elif at + length > self._size:
                raise refuse("dicom-truncated")
            else:
                at += length
            self._pass(tag, start, depth)
            if not depth and tag in self._wanted:
                self._note(tag, Span(start, value, at), fixed=length != _UNDEFINED)

    def _head(self, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """(tag, VR, length, where the value begins) of the element at `at`."""
        self._left -= 1
        if self._left <= 0:  # also once an attempt of `_undefined` has used them up
            raise refuse("dicom-too-many")
        i = at - self._base
        if i < 0 or i + 12 > len(self._window):
            self._window, self._base, i = self._read(at, _WINDOW), at, 0
        try:
            if not implicit:
                group, element, vr, length = self._explicit(self._window, i)
                tag: int = group << 16 | element
                if vr in LONG_VRS and group != 0xFFFE:
                    return tag, vr, self._long(self._window, i + 8)[0], at + 12
                if b"AA" <= vr <= b"ZZ" and group != 0xFFFE:
                    return tag, vr, length, at + 8
            group, element, length = self._implicit(self._window, i)
        except struct.error:
            raise refuse("dicom-truncated") from None
        return group << 16 | element, b"", length, at + 8

    def _tail(self, at: int, depth: int) -> int:
        """The last bytes, too few for an element: nothing, or zeros."""
        if depth or self._read(at, 8).strip(b"\0"):
            raise refuse("dicom-truncated")
        return self._size

    def _pass(self, tag: int, start: int, depth: int) -> None:
        """An element of `tag` begins: what belongs in front of it and was not there, belongs here."""
        while not depth and self.missing and self.missing[0] < tag:
            self.spans.setdefault(self.missing.pop(0), Span(start, start, start))

    def _note(self, tag: int, span: Span, *, fixed: bool) -> None:
        """An element that is wanted. Two of one tag are read differently by different readers: one is not taken."""
        if tag in self.spans and self.spans[tag].is_there:
            raise refuse("dicom-structure")
        self.spans[tag] = span
        if fixed:
            self.found[tag] = self._read(span.value, min(span.end - span.value, _MAX_VALUE))

    def _undefined(self, tag: int, vr: bytes, at: int, implicit: bool, depth: int) -> int:
        """A value of undefined length: fragments of pixels (PS3.5 A.4), or a sequence (PS3.5 7.5)."""
        if depth >= _MAX_DEPTH:
            raise refuse("dicom-structure")
        if tag == _PIXELS or vr in _FRAGMENTED:
            return self._items(at, implicit, depth, fragments=True)
        if vr != b"UN":
            return self._items(at, implicit, depth, fragments=False)
        try:  # PS3.5 6.2.2: Implicit VR inside; some writers go on with explicit
            return self._items(at, True, depth, fragments=False)
        except IntakeError:
            return self._items(at, False, depth, fragments=False)

    def _items(self, at: int, implicit: bool, depth: int, *, fragments: bool) -> int:
        while True:
            if self._size - at < 8:
                raise refuse("dicom-truncated")
            tag, _, length, at = self._head(at, True)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM or (fragments and length == _UNDEFINED):
                raise refuse("dicom-structure")
            if length == _UNDEFINED:
                at = self.data_set(at, implicit=implicit, depth=depth + 1)
            else:
                at += length
                if at > self._size:
                    raise refuse("dicom-truncated")
