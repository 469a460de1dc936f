"""A report as a DICOM instance of the study that it belongs to: Encapsulated PDF (PS3.3 A.45.1).

The document is filed where the images are only if it says the same as they do. So the elements of patient and study
are those of an image of the study, value for value as its bytes have them, with its Specific Character Set; nothing is
read as text and written again. What is new is the series and the document itself, whose elements follow PS3.3 C.24.1
(series), C.24.2 (document) and C.8.6.1 (SC equipment). HL7 Instance Identifier is for CDA only (C.24.2) and left out.

The UIDs are made from the study's and from what the document says (PS3.5 B.2): the same report, brought twice, is the
same instance, and a corrected one is another. All documents that are added here are one series.

Explicit VR Little Endian, written here: a data set of two dozen elements, whose last one is the PDF as it is.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import uuid
from pathlib import Path

import msgspec
from pydicom.charset import encode_string

from clients.gateway.dicom.header import encodings_of
from clients.gateway.dicom.part10 import LONG_VRS, encode_meta, read_meta, text_of_uid
from clients.gateway.dicom.refusals import refuse
from clients.gateway.dicom.structure import EXPLICIT_LITTLE, read_elements

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
MODALITY = "DOC"
SERIES_NUMBER = 9000
"""Behind every series of a scanner."""
_CHARSET, _STUDY = 0x00080005, 0x0020000D
INHERITED = {
    0x00080005: b"CS", 0x00080020: b"DA", 0x00080030: b"TM", 0x00080050: b"SH", 0x00080090: b"PN", 0x00081030: b"LO",
    0x00100010: b"PN", 0x00100020: b"LO", 0x00100021: b"LO", 0x00100022: b"CS", 0x00100030: b"DA", 0x00100032: b"TM",
    0x00100040: b"CS", 0x00101010: b"AS", 0x0020000D: b"UI", 0x00200010: b"SH",
}  # fmt: skip
"""Of the modules Patient (C.7.1.1), General Study (C.7.2.1) and Patient Study (C.7.2.2): what is text."""
_REQUIRED = (
    0x00080020,
    0x00080030,
    0x00080050,
    0x00080090,
    0x00100010,
    0x00100020,
    0x00100030,
    0x00100040,
    0x00200010,
)
"""Type 2: there, if empty."""
_LONGEST = 2**10
"""Bytes of an inherited value: no VR of those above may have more."""
_TITLE = 200
_MANUFACTURER = "Trauma Transfer"


class Facts(msgspec.Struct, frozen=True):
    """What an instance says of its patient and study: values as their bytes are, by tag."""

    values: dict[int, bytes]

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return text_of_uid(self.values[_STUDY])


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A report that is to be an instance."""

    pdf: bytes
    title: str
    number: int
    """Instance Number."""
    at: int
    """When it became one, in Unix seconds."""
    digest: bytes
    """Of what it says: the same for the same report (`digest_of`)."""


def digest_of(*parts: bytes) -> bytes:
    """What a report is known by: kind, title and content."""
    return hashlib.sha256(b"".join(struct.pack(">Q", len(part)) + part for part in parts)).digest()


def uid_of(study_uid: str, *parts: bytes) -> str:
    """A UID that follows from a study and `parts`, as from a UUID (PS3.5 B.2)."""
    made = digest_of(b"trauma-transfer report", study_uid.encode("ascii", "replace"), *parts)
    return f"2.25.{uuid.UUID(bytes=made[:16], version=5).int}"


def read_facts(path: Path) -> Facts:
    """Patient and study of a DICOM file. Raises `IntakeError`."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        raise refuse("dicom-unreadable") from None
    try:
        meta = read_meta(lambda at, n: os.pread(fd, n, at))
        size = os.fstat(fd).st_size
        found = read_elements(
            lambda at, n: os.pread(fd, n, at), meta.data_offset, size, meta.syntax, frozenset(INHERITED)
        )
    except OSError:
        raise refuse("dicom-unreadable") from None
    finally:
        os.close(fd)
    if any(len(value) > _LONGEST for value in found.values()):
        raise refuse("dicom-structure")
    return Facts(found)


def encode(facts: Facts, document: Document) -> tuple[str, list[bytes]]:
    """(SOP Instance UID, the file in pieces): preamble, file meta and data set. The PDF is a piece of its own."""
    study = facts.study_uid
    sop_uid = uid_of(study, document.digest)
    then = time.localtime(document.at)
    date, clock = time.strftime("%Y%m%d", then), time.strftime("%H%M%S", then)
    elements = {
        tag: _element(tag, vr, facts.values[tag]) for tag, vr in INHERITED.items() if tag in facts.values
    }
    for tag in _REQUIRED:
        elements.setdefault(tag, _element(tag, INHERITED[tag], b""))
    encodings = encodings_of(facts.values.get(_CHARSET, b""))
    for tag, vr, text in (
        (0x00080016, b"UI", ENCAPSULATED_PDF), (0x00080018, b"UI", sop_uid), (0x00080023, b"DA", date),
        (0x00080033, b"TM", clock), (0x0008002A, b"DT", ""), (0x00080012, b"DA", date), (0x00080013, b"TM", clock),
        (0x00080060, b"CS", MODALITY), (0x00080064, b"CS", "WSD"), (0x00080070, b"LO", _MANUFACTURER),
        (0x0008103E, b"LO", "Reports"), (0x0020000E, b"UI", uid_of(study, b"series")),
        (0x00200011, b"IS", str(SERIES_NUMBER)), (0x00200013, b"IS", str(document.number)),
        (0x00280301, b"CS", "YES"), (0x00420012, b"LO", "application/pdf"),
    ):  # fmt: skip
        elements[tag] = _element(tag, vr, text.encode("ascii"))
    elements[0x0040A043] = _element(0x0040A043, b"SQ", b"")  # Concept Name Code Sequence, type 2
    elements[0x00420010] = _element(0x00420010, b"ST", _title(document.title, encodings))
    elements[0x00420015] = _element(0x00420015, b"UL", struct.pack("<L", len(document.pdf)))
    head = b"".join(elements[tag] for tag in sorted(elements) if tag < 0x00420011)
    tail = b"".join(elements[tag] for tag in sorted(elements) if tag > 0x00420011)
    padded = len(document.pdf) + len(document.pdf) % 2
    pdf = struct.pack("<HH2sHL", 0x0042, 0x0011, b"OB", 0, padded)
    meta = encode_meta(ENCAPSULATED_PDF, sop_uid, EXPLICIT_LITTLE)
    return sop_uid, [meta + head + pdf, document.pdf, bytes(len(document.pdf) % 2) + tail]


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in LONG_VRS:
        return head + bytes(2) + struct.pack("<L", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def _title(title: str, encodings: list[str]) -> bytes:
    """The title in the study's character set; ASCII and question marks where that has not all letters. The PDF has it
    whole.
    """
    text = "".join(c for c in title if c.isprintable())[:_TITLE]
    default, *more = encodings
    sets = more if default == "iso8859" else encodings
    if text.isascii() or not all(c.isascii() or any(_encodes(c, e) for e in sets) for c in text):
        return text.encode("ascii", "replace")
    return bytes(encode_string(text, encodings))


def _encodes(letter: str, encoding: str) -> bool:
    try:
        return letter.encode(encoding).decode(encoding) == letter
    except (UnicodeError, LookupError):
        return False
