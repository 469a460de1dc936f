"""What an instance says of itself: whose study it belongs to, which image it is, and where its data set begins.

`read_header` is where a file is judged. It takes any bytes and gives a header or an `IntakeError` with one of
the codes of `refusals`, nothing else. Nothing it returns may be logged, and none of it ever becomes part of a
path.
"""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path

import msgspec
from pydicom.charset import convert_encodings, decode_bytes, python_encoding

from clients.gateway.dicom.contexts import SYNTAXES
from clients.gateway.dicom.part10 import FileMeta, Read, is_uid, read_meta, text_of_uid
from clients.gateway.dicom.refusals import refuse
from clients.gateway.dicom.structure import read_elements

SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018
IDENTITY = frozenset({SOP_CLASS, SOP_INSTANCE})
_CHARSET, _IMAGE_TYPE = 0x00080005, 0x00080008
_STUDY_DATE, _STUDY_TIME, _ACCESSION, _MODALITY = 0x00080020, 0x00080030, 0x00080050, 0x00080060
_STUDY_DESCRIPTION, _SERIES_DESCRIPTION = 0x00081030, 0x0008103E
_NAME, _PATIENT_ID, _ISSUER, _BIRTH_DATE, _SEX = 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040
_BODY_PART = 0x00180015
_STUDY, _SERIES, _SERIES_NUMBER, _INSTANCE_NUMBER = 0x0020000D, 0x0020000E, 0x00200011, 0x00200013
_FRAMES, _DOCUMENT_TITLE = 0x00280008, 0x00420010
_WANTED = IDENTITY | {
    _CHARSET, _IMAGE_TYPE, _STUDY_DATE, _STUDY_TIME, _ACCESSION, _MODALITY, _STUDY_DESCRIPTION,
    _SERIES_DESCRIPTION, _NAME, _PATIENT_ID, _ISSUER, _BIRTH_DATE, _SEX, _STUDY, _SERIES, _SERIES_NUMBER,
    _INSTANCE_NUMBER, _FRAMES, _BODY_PART, _DOCUMENT_TITLE,
}  # fmt: skip
_DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: the index of a disc (PS3.10 8.6)."""
_SHOWN = 200
"""Characters of a text that are kept."""
_MISSPELT = re.compile(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?([0-9]{1,3})")
_SCOUT = re.compile(r"\b(scout|localizer|localiser|topogram|surview|scanogram|scano|pilot)\b", re.IGNORECASE)


class InstanceHeader(msgspec.Struct, frozen=True, kw_only=True):
    """One instance. Texts are decoded with its own character set, for people to read; any may be empty."""

    sop_class: str
    sop_uid: str
    syntax: str
    study_uid: str
    series_uid: str
    data_offset: int
    size: int
    """Bytes of the data set."""
    patient_name: str = ""
    """"DOE, JANE"."""
    patient_id: str = ""
    issuer: str = ""
    birth_date: str = ""
    """YYYY-MM-DD."""
    sex: str = ""
    accession: str = ""
    study_date: str = ""
    """YYYY-MM-DD."""
    study_time: str = ""
    """HH:MM."""
    study_description: str = ""
    series_number: str = ""
    series_description: str = ""
    modality: str = ""
    body_part: str = ""
    instance_number: int = 0
    image_type: tuple[str, ...] = ()
    number_of_frames: int = 1
    scout: bool = False
    """A survey image from which a scan was planned: first of what a reader wants to see."""
    document_title: str = ""
    """Of an encapsulated document."""
    charset: str = ""
    """Specific Character Set (0008,0005), as it stands there."""


def read_header(path: Path) -> InstanceHeader:
    """The header of a DICOM file. Raises `IntakeError` with the code of what is wrong with it."""
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            return parse_header(lambda at, n: os.pread(fd, n, at), os.fstat(fd).st_size)
        finally:
            os.close(fd)
    except OSError:
        raise refuse("dicom-unreadable") from None


def parse_header(read: Read, size: int) -> InstanceHeader:
    """The header of a DICOM file of `size` bytes. Raises `IntakeError`."""
    meta = read_meta(read)
    if meta.sop_class == _DIRECTORY:
        raise refuse("dicom-class")
    if meta.syntax not in SYNTAXES:
        raise refuse("dicom-syntax")
    found = read_elements(read, meta.data_offset, size, meta.syntax, _WANTED)
    check_identity(found, meta)
    study, series = text_of_uid(found.get(_STUDY, b"")), text_of_uid(found.get(_SERIES, b""))
    if not study:
        raise refuse("dicom-no-study")
    if not series:
        raise refuse("dicom-no-series")
    if not (is_uid(study) and is_uid(series)):
        raise refuse("dicom-uid")
    return _header(meta, study, series, size, Texts(found))


def check_identity(found: dict[int, bytes], meta: FileMeta) -> None:
    """The data set is the instance that `meta` (of a file, or of a C-STORE request) says. Raises `IntakeError`."""
    sop_class, sop_uid = text_of_uid(found.get(SOP_CLASS, b"")), text_of_uid(found.get(SOP_INSTANCE, b""))
    if not is_uid(sop_uid) or not is_uid(sop_class):
        raise refuse("dicom-uid")
    if (sop_class, sop_uid) != (meta.sop_class, meta.sop_uid):
        raise refuse("dicom-uid-mismatch")


def _header(meta: FileMeta, study: str, series: str, size: int, texts: Texts) -> InstanceHeader:
    image_type = tuple(part.upper() for part in texts.parts(_IMAGE_TYPE))
    series_description = texts.text(_SERIES_DESCRIPTION)
    return InstanceHeader(
        sop_class=meta.sop_class,
        sop_uid=meta.sop_uid,
        syntax=meta.syntax,
        study_uid=study,
        series_uid=series,
        data_offset=meta.data_offset,
        size=size - meta.data_offset,
        patient_name=texts.name(_NAME),
        patient_id=texts.text(_PATIENT_ID),
        issuer=texts.text(_ISSUER),
        birth_date=texts.date(_BIRTH_DATE),
        sex=texts.text(_SEX)[:1],
        accession=texts.text(_ACCESSION),
        study_date=texts.date(_STUDY_DATE),
        study_time=texts.time(_STUDY_TIME),
        study_description=texts.text(_STUDY_DESCRIPTION),
        series_number=texts.text(_SERIES_NUMBER),
        series_description=series_description,
        modality=texts.text(_MODALITY),
        body_part=texts.text(_BODY_PART),
        instance_number=texts.number(_INSTANCE_NUMBER, 0),
        image_type=image_type,
        number_of_frames=max(1, texts.number(_FRAMES, 1)),
        scout="LOCALIZER" in image_type or bool(_SCOUT.search(series_description)),
        document_title=texts.text(_DOCUMENT_TITLE),
        charset=texts.charset,
    )


class Texts:
    """Values as people read them (PS3.5 6.2). What breaks its own rules is shown as far as it goes."""

    def __init__(self, found: dict[int, bytes]) -> None:
        self._found = found
        self._encodings = encodings_of(found.get(_CHARSET, b""))
        self.charset = found.get(_CHARSET, b"").decode("ascii", "replace").rstrip("\0 ")[:_SHOWN]

    def text(self, tag: int) -> str:
        """One line without control characters."""
        raw = self._found.get(tag, b"")
        try:
            text: str = decode_bytes(raw, self._encodings, {0x0C, 0x0A, 0x0D, 0x09})
        except Exception:
            text = raw.decode("latin-1")
        if not text.isprintable():
            text = "".join(c for c in text if c.isprintable())
        return text.strip()[:_SHOWN]

    def parts(self, tag: int) -> list[str]:
        """The values of a multi-valued element."""
        return [part.strip() for part in self.text(tag).split("\\") if part.strip()]

    def name(self, tag: int) -> str:
        """Family, given and middle name of the first group that is there (PS3.5 6.2.1): "DOE, JANE M"."""
        for group in self.text(tag).split("=")[:3]:
            family, given, middle = [part.strip() for part in [*group.split("^"), "", ""][:3]]
            rest = " ".join(filter(None, (given, middle)))
            if family or rest:
                return ", ".join(filter(None, (family, rest)))
        return ""

    def date(self, tag: int) -> str:
        """YYYY-MM-DD; also from the form YYYY.MM.DD that was used once."""
        digits = self.text(tag).replace(".", "")
        try:
            return datetime.datetime.strptime(digits, "%Y%m%d").date().isoformat() if len(digits) == 8 else ""
        except ValueError:
            return ""

    def time(self, tag: int) -> str:
        """HH:MM; also from the form HH:MM:SS that was used once."""
        digits = self.text(tag).replace(":", "")[:4]
        if (
            len(digits) < 4
            or not digits.isascii()
            or not digits.isdigit()
            or digits > "2359"
            or digits[2] > "5"
        ):
            return ""
        return f"{digits[:2]}:{digits[2:]}"

    def number(self, tag: int, other: int) -> int:
        """An integer string of at most 31 bits."""
        text = self.text(tag)
        match = re.fullmatch(r"[+-]?[0-9]{1,12}", text)
        value = int(text) if match else other
        return value if abs(value) < 2**31 else other


def encodings_of(charset: bytes) -> list[str]:
    """Python's encodings for a Specific Character Set; "iso8859" stands for the default repertoire, which is ASCII."""
    names = charset.decode("ascii", "replace").rstrip("\0 ").split("\\")
    try:
        return list(convert_encodings([_charset(name) for name in names]))
    except Exception:  # a combination that is not allowed, in a value that may be anything
        return ["iso8859"]


def _charset(name: str) -> str:
    """A defined term (PS3.3 C.12.1.1.2), also from the ways to misspell it; the default for what is none."""
    name = name.strip()
    if name not in python_encoding and (match := _MISSPELT.fullmatch(name)):
        name = f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"
    return name if name in python_encoding else ""


__all__ = ["IDENTITY", "InstanceHeader", "check_identity", "encodings_of", "parse_header", "read_header"]
