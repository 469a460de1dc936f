"""A patient's local identity in a data set, and every other byte as it was (IHE RAD TF-1 3.22, Import Reconciliation).

Two hospitals have a number each for one patient, and often the same number for two. What a PACS files an image
under is changed here, and nothing else: the elements of `TOUCHED` are cut out, new ones are written in their
places, and what lies between and behind them (the pixels above all) is passed on as it stands, without being read.

What was there before stays in the data set:

- Original Attributes Sequence (PS3.3 C.12.1.1.9.1): an item with every touched element as it was, byte for byte,
  who changed it, when, and whence it came; items that others have written stay.
- Other Patient IDs Sequence (PS3.3 C.7.1.1.1.1): the sender's number with its issuer, so that a PACS finds it.

A name may need another character set than the data set's (PS3.5 6.1); it is refused then, and the sender's stays.
Group lengths (gggg,0000) of the two groups go: they are retired (PS3.5 7.2) and would be wrong.
"""

from __future__ import annotations

import hashlib
import struct
import zlib

import msgspec
from pydicom.charset import encode_string

from clients.gateway.dicom.header import encodings_of
from clients.gateway.dicom.part10 import LONG_VRS
from clients.gateway.dicom.refusals import refuse
from clients.gateway.dicom.structure import (
    DEFLATED,
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    Span,
    find_spans,
    inflate,
)

_NAME, _ID, _ISSUER, _QUALIFIERS = 0x00100010, 0x00100020, 0x00100021, 0x00100024
_BIRTH_DATE, _SEX, _OTHER_IDS = 0x00100030, 0x00100040, 0x00101002
_ID_TYPE = 0x00100022
_ORIGINALS, _MODIFIED = 0x04000561, 0x04000550
_MODIFIED_AT, _MODIFIED_BY, _SOURCE, _REASON = 0x04000562, 0x04000563, 0x04000564, 0x04000565
_GROUPS = (0x00100000, 0x04000000)
_CHARSET = 0x00080005
IDENTITY = (_NAME, _ID, _ISSUER, _QUALIFIERS, _BIRTH_DATE, _SEX)
TOUCHED = frozenset({*IDENTITY, _OTHER_IDS, _ORIGINALS, *_GROUPS})
"""The top-level elements that may differ between what came and what is stored."""
_ITEM = 0xFFFEE000
_VRS = {
    _NAME: b"PN", _ID: b"LO", _ISSUER: b"LO", _BIRTH_DATE: b"DA", _SEX: b"CS", _ID_TYPE: b"CS", _OTHER_IDS: b"SQ",
    _ORIGINALS: b"SQ", _MODIFIED: b"SQ", _MODIFIED_AT: b"DT", _MODIFIED_BY: b"LO", _SOURCE: b"LO", _REASON: b"CS",
}  # fmt: skip
_UNDEFINED = 0xFFFFFFFF
_MAX_OTHER = 2**24
"""Bytes of a sequence that is carried on; a data set with a larger one is no image's."""


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """Under which identity the receiving hospital files a study; None leaves what the sender wrote."""

    patient_id: str
    """64 characters at most, printable ASCII without a backslash (PS3.5 6.2, LO)."""
    issuer: str | None = None
    """Empty: it has none, and the sender's goes; it would give our number to another hospital."""
    patient_name: str | None = None
    """As DICOM writes it: FAMILY^GIVEN (PS3.5 6.2.1)."""
    birth_date: str | None = None
    """YYYYMMDD."""
    sex: str | None = None
    """M, F, O or nothing."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One coercion of a whole study: what is written, and what its record says. Frozen before the first C-STORE."""

    local: Local
    system: str
    """Who changes: this gateway's AE title."""
    source: str
    """Whence the values came that are replaced: the sending hospital's name."""
    at: str
    """A DT: YYYYMMDDHHMMSS and the offset from UTC, as +0000."""


def coerce(data: bytes, syntax: str, change: Change) -> list[bytes | memoryview]:
    """The data set with the local identity, as pieces to be written one after the other.

    Raises `IntakeError`: `dicom-structure` and the like as `read_elements` does, `dicom-charset` for a name that this
    data set cannot hold.
    """
    if syntax in DEFLATED:
        plain = bytes(inflate(lambda at, n: data[at : at + n], 0, len(data)))
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        pieces: list[bytes | memoryview] = [
            deflater.compress(p) for p in _Coerced(plain, syntax, change).pieces()
        ]
        return [*pieces, deflater.flush()]
    return _Coerced(data, syntax, change).pieces()


def rest_hash(data: bytes, syntax: str) -> bytes:
    """SHA-256 of all of a data set that `coerce` may not touch. Raises `IntakeError`."""
    plain, pieces = _rest(data, syntax)
    digest, view = hashlib.sha256(), memoryview(plain)
    for start, end in pieces:
        digest.update(view[start:end])
    return digest.digest()


def is_rest_same(data: bytes, other: bytes, syntax: str) -> bool:
    """Whether all that `coerce` may not touch is the same in both, byte for byte. Raises `IntakeError`."""
    (one, ones), (two, twos) = _rest(data, syntax), _rest(other, syntax)
    view = memoryview(one)  # `startswith` compares in place; slices would be copies of the pixels
    return len(ones) == len(twos) and all(
        a_end - a == b_end - b and two.startswith(view[a:a_end], b)
        for (a, a_end), (b, b_end) in zip(ones, twos, strict=True)
    )


def _rest(data: bytes, syntax: str) -> tuple[bytes, list[tuple[int, int]]]:
    """A data set as it is when it is not deflated, and from where to where it is not to be touched."""
    if syntax in DEFLATED:
        data = bytes(inflate(lambda at, n: data[at : at + n], 0, len(data)))
    pieces, at = list[tuple[int, int]](), 0
    for span in sorted(find_spans(data, syntax, TOUCHED).values(), key=lambda s: s.start):
        pieces.append((at, max(at, span.start)))
        at = max(at, span.end)
    return data, [*pieces, (at, len(data))]


class _Coerced:
    """One data set and its new elements."""

    def __init__(self, data: bytes, syntax: str, change: Change) -> None:
        self._data, self._change = data, change
        self._big = syntax == EXPLICIT_BIG
        # some write Implicit VR under an explicit syntax; pydicom and DCMTK look at the first element as well
        self._implicit = syntax == IMPLICIT_LITTLE or not b"AA" <= data[4:6] <= b"ZZ"
        self._spans = find_spans(data, syntax, TOUCHED | {_CHARSET})
        self._encodings = encodings_of(self._value(_CHARSET))

    def pieces(self) -> list[bytes | memoryview]:
        """What is between the touched elements, and what stands in their places."""
        view, at = memoryview(self._data), 0
        pieces: list[bytes | memoryview] = []
        new = self._new()
        for tag, span in sorted(self._spans.items(), key=lambda pair: (pair[1].start, pair[0])):
            if tag not in TOUCHED:
                continue
            pieces += [view[at : span.start], new.get(tag, b"")]
            at = max(at, span.end)
        return [piece for piece in (*pieces, view[at:]) if len(piece)]

    def _new(self) -> dict[int, bytes]:
        """The element of each touched tag as it is from now on; one that is missing is gone."""
        local = self._change.local
        new = {tag: self._old(tag) for tag in IDENTITY}
        texts = {
            _NAME: local.patient_name, _ID: local.patient_id, _ISSUER: local.issuer, _BIRTH_DATE: local.birth_date,
            _SEX: local.sex,
        }  # fmt: skip
        new.update({tag: self._text(tag, text) for tag, text in texts.items() if text is not None})
        if local.issuer is not None:  # they described the issuer that was there
            new[_QUALIFIERS] = b""
        if local.issuer == "":
            new[_ISSUER] = b""
        changed = {tag for tag in IDENTITY if new.get(tag, b"") != self._old(tag)}
        if not changed:
            return {tag: self._old(tag) for tag in TOUCHED}
        others = self._other_id() if _ID in changed and self._value(_ID).strip(b" \0") else b""
        foreign = {tag for tag in (_OTHER_IDS, _ORIGINALS) if self._is_foreign(tag)}
        new[_OTHER_IDS] = self._sequence(_OTHER_IDS, others)
        new[_ORIGINALS] = self._sequence(_ORIGINALS, self._original(changed | foreign))
        return new

    # What was there

    def _old(self, tag: int) -> bytes:
        span = self._spans[tag]
        return self._data[span.start : span.end]

    def _value(self, tag: int) -> bytes:
        span = self._spans[tag]
        return self._data[span.value : span.end]

    def _original(self, changed: set[int]) -> bytes:
        """An item of the Original Attributes Sequence (PS3.3 C.12.1.1.9.1)."""
        change = self._change
        before = b"".join(self._old(tag) for tag in sorted(changed))
        return self._item(
            self._element(_MODIFIED, self._item(before))
            + self._element(_MODIFIED_AT, change.at.encode("ascii"))
            + self._text(_MODIFIED_BY, change.system)
            + self._text(_SOURCE, change.source, plain=True)
            + self._element(_REASON, b"COERCE")
        )

    def _other_id(self) -> bytes:
        """An item of the Other Patient IDs Sequence: the sender's number (PS3.3 10.15, Patient ID Macro)."""
        parts = {tag: self._old(tag) for tag in (_ID, _ISSUER, _QUALIFIERS)}
        parts[_ID_TYPE] = self._element(_ID_TYPE, b"TEXT")
        return self._item(b"".join(parts[tag] for tag in sorted(parts)))

    def _sequence(self, tag: int, item: bytes) -> bytes:
        """The sequence of `tag` with one item more; as it was where there is none."""
        span = self._spans[tag]
        held = b"" if self._is_foreign(tag) else self._value(tag)
        if len(held) > _MAX_OTHER:
            raise refuse("dicom-structure")
        if not item:
            return b"" if self._is_foreign(tag) else self._old(tag)
        if held and self._length(span) == _UNDEFINED:
            held = held[:-8]  # its end mark: `find_spans` has seen it
        return self._element(tag, held + item)

    def _is_foreign(self, tag: int) -> bool:
        """Whether a sequence is written as something else (UN, by who did not know it): its items are in another
        encoding then (PS3.5 6.2.2), so that none of ours can stand beside them. It is kept as an original.
        """
        span = self._spans[tag]
        return span.is_there and not self._implicit and self._data[span.start + 4 : span.start + 6] != b"SQ"

    def _length(self, span: Span) -> int:
        """The stated length of an element whose value is a sequence."""
        order = ">" if self._big else "<"
        (length,) = struct.unpack_from(order + "L", self._data, span.value - 4)
        return int(length)

    # What is written

    def _text(self, tag: int, text: str, *, plain: bool = False) -> bytes:
        """A text in the data set's own character set. `plain`: what it has no letter for is a question mark."""
        value = encoded(text, self._encodings)
        if value is None and not plain:
            raise refuse("dicom-charset")
        return self._element(tag, text.encode("ascii", "replace") if value is None else value)

    def _element(self, tag: int, value: bytes) -> bytes:
        vr = _VRS[tag]
        if len(value) % 2:
            value += b" "
        order = ">" if self._big else "<"
        head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        if self._implicit:
            return head + struct.pack(order + "L", len(value)) + value
        if vr in LONG_VRS:
            return head + vr + bytes(2) + struct.pack(order + "L", len(value)) + value
        return head + vr + struct.pack(order + "H", len(value)) + value

    def _item(self, body: bytes) -> bytes:
        order = ">" if self._big else "<"
        return struct.pack(order + "HHL", _ITEM >> 16, _ITEM & 0xFFFF, len(body)) + body


def encoded(text: str, encodings: list[str]) -> bytes | None:
    """A text in the character sets of a data set (`encodings_of`); None where they lack one of its letters."""
    if text.isascii():
        return text.encode("ascii")
    if not all(_has_letter(letter, encodings) for letter in text):
        return None
    value = encode_string(text, encodings)
    # a set behind the default one begins with an escape sequence (PS3.5 6.1.2.5.2)
    return value if encodings[0] != "iso8859" or b"\x1b" in value else None


def _has_letter(letter: str, encodings: list[str]) -> bool:
    """Whether a character set of the data set has it: the default one has no more than ASCII."""
    default, *more = encodings
    sets = more if default == "iso8859" else encodings
    return letter.isascii() or any(_encodes(letter, encoding) for encoding in sets)


def _encodes(letter: str, encoding: str) -> bool:
    try:
        return letter.encode(encoding).decode(encoding) == letter
    except (UnicodeError, LookupError):
        return False
