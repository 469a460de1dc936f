"""DICOM files (PS3.10): a preamble, file meta information that describes the data set, and the data set's bytes.

The data set's bytes are what travels and what is compared; they are never touched. The file meta in front of
them is ours: a sender's own does not cross DIMSE, and is not sent on.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec

from clients.gateway.dicom.refusals import refuse

PREAMBLE = bytes(128) + b"DICM"
IMPLEMENTATION_CLASS = "2.25.209614107364812393610513744108063719093"
"""Ours, made from a UUID (PS3.5 B.2)."""
IMPLEMENTATION_VERSION = "TRAUMA_TRANSFER"
_MAX_META = 2**16
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with a length of 32 bits (PS3.5 7.1.2)."""
_UID = re.compile(r"[0-9]{1,64}(?:\.[0-9]{1,63})*\Z")
_CLASS, _INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010

Read = Callable[[int, int], bytes]
"""(offset, length) -> the bytes there; fewer only at the end of what there is."""


class FileMeta(msgspec.Struct, frozen=True):
    """What the file says of its data set, which begins at `data_offset`."""

    sop_class: str
    sop_uid: str
    syntax: str
    data_offset: int


def is_uid(text: str) -> bool:
    """Whether `text` can be a UID: digits and dots (PS3.5 9.1). Zeros that lead a component are common, and let be."""
    return len(text) <= 64 and _UID.match(text) is not None


def encode_meta(sop_class: str, sop_uid: str, syntax: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1) for a data set. The three are valid UIDs."""
    body = struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2) + b"\0\1"
    for element, vr, text in (
        (_CLASS, b"UI", sop_class),
        (_INSTANCE, b"UI", sop_uid),
        (_SYNTAX, b"UI", syntax),
        (0x0012, b"UI", IMPLEMENTATION_CLASS),
        (0x0013, b"SH", IMPLEMENTATION_VERSION),
    ):
        value = text.encode("ascii")
        if len(value) % 2:
            value += b" " if vr == b"SH" else b"\0"
        body += struct.pack("<HH2sH", 2, element, vr, len(value)) + value
    return PREAMBLE + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body


def write_part10(path: Path, data: bytes, sop_class: str, sop_uid: str, syntax: str) -> int:
    """Writes the data set `data` as a DICOM file; returns where the data set begins in it.

    The file is not forced to disk. Raises `IntakeError` (`dicom-uid`) before anything is written, or `OSError`.
    """
    if not (is_uid(sop_class) and is_uid(sop_uid) and is_uid(syntax)):
        raise refuse("dicom-uid")
    head = encode_meta(sop_class, sop_uid, syntax)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(fd, head, data)
    finally:
        os.close(fd)
    return len(head)


def write_all(fd: int, *parts: bytes | memoryview) -> None:
    """Writes all of `parts`, in order. Raises `OSError`."""
    left = [memoryview(part) for part in parts if len(part)]
    while left:
        done = os.writev(fd, left)
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if left:
            left[0] = left[0][done:]


def read_meta(read: Read) -> FileMeta:
    """The file meta information, by its elements: its stated length is often wrong. Raises `IntakeError`."""
    head = read(0, len(PREAMBLE) + _MAX_META)
    if head[128:132] != b"DICM":
        raise refuse("dicom-not")
    found: dict[int, str] = {}
    at = len(PREAMBLE)
    while head[at : at + 2] == b"\2\0":
        if len(head) < at + 12:
            raise refuse("dicom-meta")
        element, vr, length = struct.unpack_from("<H2sH", head, at + 2)
        at += 8
        if vr in LONG_VRS:
            length = struct.unpack_from("<L", head, at)[0]
            at += 4
        elif not vr.isalpha():
            raise refuse("dicom-meta")
        if at + length > len(head):
            raise refuse("dicom-meta")
        if element in (_CLASS, _INSTANCE, _SYNTAX):
            found[element] = text_of_uid(head[at : at + length])
        at += length
    meta = FileMeta(found.get(_CLASS, ""), found.get(_INSTANCE, ""), found.get(_SYNTAX, ""), at)
    if not meta.syntax or not meta.sop_uid or not meta.sop_class:
        raise refuse("dicom-meta")
    if not (is_uid(meta.syntax) and is_uid(meta.sop_uid) and is_uid(meta.sop_class)):
        raise refuse("dicom-uid")
    return meta


def text_of_uid(value: bytes) -> str:
    """The text of a UI value without its padding (a NUL; from some, spaces)."""
    return value.rstrip(b"\0 ").lstrip(b" ").decode("ascii", "replace")
