"""Whether a file is DICOM, by its first bytes.

A DICOM file has a preamble and file meta information (PS3.10 7.1). Old exports and test sets leave out one or both;
such a *bare data set* is taken if it says what it is: it begins with group 0008 and names SOP class and
instance. Its transfer syntax is then one of the three that can be told by looking (PS3.5 A.1, A.2, A.3).
"""

from __future__ import annotations

import io
from typing import BinaryIO

from pydicom.filereader import data_element_generator

from clients.gateway.dicom.part10 import PREAMBLE, FileMeta, is_uid, read_meta, text_of_uid
from clients.gateway.errors import IntakeError
from clients.gateway.intake.found import Passed

HEAD = len(PREAMBLE) + 2**16
"""Bytes that are looked at."""
_IMPLICIT_LITTLE, _EXPLICIT_LITTLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage (PS3.10 8.6)."""
_CLASS, _INSTANCE, _PIXELS = 0x00080016, 0x00080018, 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_DESCRIPTOR = 16 * 2048 + 1


def recognise(head: bytes) -> FileMeta:
    """What the file that begins with `head` is. Raises `Passed`."""
    if not head:
        raise Passed("import-empty")
    if head[128:132] == b"DICM":
        meta = _meta(head)
    elif head[:6] == b"\2\0\0\0UL":
        meta = _meta(PREAMBLE + head)
        meta = FileMeta(meta.sop_class, meta.sop_uid, meta.syntax, meta.data_offset - len(PREAMBLE))
    elif head[:4] == b"PK\3\4":
        raise Passed("import-zip-nested")
    elif is_disc_image(head):
        raise Passed("import-iso")
    else:
        meta = _bare(head)
    if meta.sop_class == _DIRECTORY:
        raise Passed("import-dicomdir")
    return meta


def is_disc_image(head: bytes) -> bool:
    """Whether a file is the image of a disc: its first volume descriptor (ECMA-119 8.1, ECMA-167 2/9.1) stands behind
    sixteen sectors.
    """
    return head[128:132] != b"DICM" and head[_DESCRIPTOR : _DESCRIPTOR + 5] in (b"CD001", b"BEA01")


def encapsulated(stream: BinaryIO, syntax: str) -> bool:
    """Whether the data set in `stream` has fragments for pixels: then `syntax` cannot be what was looked at."""
    lengths = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if int(tag) >= _PIXELS:
            lengths.append(length)
        return int(tag) >= _PIXELS

    try:
        for _ in data_element_generator(
            stream, syntax == _IMPLICIT_LITTLE, syntax != _EXPLICIT_BIG, at_pixels, specific_tags=[_PIXELS]
        ):
            pass
    except Exception:
        return False  # broken in another way: whoever reads its header says so
    return lengths == [_UNDEFINED]


def _meta(head: bytes) -> FileMeta:
    try:
        return read_meta(lambda at, n: head[at : at + n])
    except IntakeError as error:
        raise Passed(error.code) from None


def _bare(head: bytes) -> FileMeta:
    """A data set without anything in front of it."""
    if head[:2] not in (b"\x08\0", b"\0\x08"):
        raise Passed("import-not-dicom")
    little = head[:2] == b"\x08\0"
    implicit = little and not head[4:6].isalpha()
    found = {}

    def past(tag: int, vr: str | None, length: int) -> bool:
        return int(tag) > _INSTANCE

    try:
        for element in data_element_generator(
            io.BytesIO(head), implicit, little, past, specific_tags=[_CLASS, _INSTANCE]
        ):
            found[int(element.tag)] = text_of_uid(element.value)
    except Exception:
        raise Passed("import-not-dicom") from None
    sop_class, sop_uid = found.get(_CLASS, ""), found.get(_INSTANCE, "")
    if not (is_uid(sop_class) and is_uid(sop_uid)):
        raise Passed("import-not-dicom")
    syntax = _IMPLICIT_LITTLE if implicit else _EXPLICIT_LITTLE if little else _EXPLICIT_BIG
    return FileMeta(sop_class, sop_uid, syntax, 0)
