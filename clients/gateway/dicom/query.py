"""What staff look for at the PACS, as a C-FIND asks it and as its answers say it (PS3.4 C.2.2.2, C.6.2.1).

`read_terms` judges what was typed. What it lets through is asked literally: DICOM has no escape for its wildcards,
so a `*` or `?` that somebody typed is asked as `?`, which matches it too, and a backslash, which separates values,
is refused. A PACS may match more than it was asked, or ignore a key that is optional for it; so each answer is held
against the terms once more (`Terms.fit`), and one of another patient is not shown.

Identifiers are in Implicit VR Little Endian, which every peer takes (PS3.5 10.1). A text beyond ASCII is asked in
UTF-8 and says so; answers are decoded with the character set that each of them names.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Mapping

import msgspec

from clients.gateway.dicom.header import Texts
from clients.gateway.dicom.part10 import is_uid, text_of_uid
from clients.gateway.dicom.structure import IMPLICIT_LITTLE, read_elements
from clients.gateway.errors import GatewayError, IntakeError

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND; MOVE and GET follow (PS3.4 C.6.2)."""
STUDY_MOVE, STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
MAX_TYPED = 64
"""Characters of a term: what the longest of these value representations holds (PS3.5 6.2)."""
_CHARSET, _CLASS, _SOP, _LEVEL = 0x00080005, 0x00080016, 0x00080018, 0x00080052
_FAILED = 0x00080058
_DATE, _TIME, _ACCESSION, _KINDS, _DESCRIPTION = 0x00080020, 0x00080030, 0x00080050, 0x00080061, 0x00081030
_NAME, _PATIENT_ID, _BIRTH, _SEX = 0x00100010, 0x00100020, 0x00100030, 0x00100040
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_STUDY_SERIES, _STUDY_IMAGES, _SERIES_IMAGES = 0x00201206, 0x00201208, 0x00201209
_MATCH = frozenset({
    _CHARSET, _DATE, _TIME, _ACCESSION, _KINDS, _DESCRIPTION, _NAME, _PATIENT_ID, _BIRTH, _SEX, _STUDY,
    _STUDY_SERIES, _STUDY_IMAGES,
})  # fmt: skip
_SERIES_READ = frozenset({_STUDY, _SERIES, _SERIES_IMAGES})
_IMAGE_READ = frozenset({_CLASS, _STUDY, _SERIES, _SOP})
_UTF8 = "ISO_IR 192"
_MODALITY_LETTERS = 16
_CUT = 2**16
"""Bytes at which a long value was cut off: in the middle of a UID, most likely."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Empty: anything. `read_terms` makes them of what people type."""

    study: str = ""
    """Study Instance UID."""
    accession: str = ""
    patient_id: str = ""
    name: str = ""
    """As typed: "DOE, JANE"."""
    date: str = ""
    """YYYYMMDD."""
    modality: str = ""

    def fit(self, match: Match) -> bool:
        """Whether an answer is what was asked for. Names are left to the PACS: they are spelt in many ways."""
        asked = (
            (self.study, match.uid),
            (self.accession, match.accession),
            (self.patient_id, match.patient_id),
            (self.date, match.date.replace("-", "")),
        )
        if any(term and term.casefold() != said.casefold() for term, said in asked):
            return False
        kinds = [kind.strip().upper() for kind in match.modalities.split(",") if kind.strip()]
        return not (self.modality and kinds) or self.modality in kinds


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """One study at the PACS, as people read it. Any text may be empty; a number that was not said is -1."""

    uid: str
    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    accession: str
    date: str
    time: str
    description: str
    modalities: str
    """"CT, SR"."""
    series: int
    instances: int


class SeriesEntry(msgspec.Struct, frozen=True):
    """One series that the PACS lists, and how many images it says it has; -1: it does not say."""

    uid: str
    instances: int


class ImageEntry(msgspec.Struct, frozen=True):
    """One image that the PACS lists; its class may be empty."""

    series: str
    uid: str
    sop_class: str


def read_terms(given: Mapping[str, str], today: datetime.date) -> Terms:
    """The terms of a form or command: `study`, `accession`, `patient_id`, `name`, `date` (YYYY-MM-DD), `modality`,
    and `today` (anything but empty). Raises `GatewayError` with what to type instead.
    """
    study = given.get("study", "").strip()
    if study and not is_uid(study):
        raise _typed("The Study Instance UID is digits and points only. Copy it again.")
    modality = given.get("modality", "").strip().upper()
    if modality and not (modality.isascii() and modality.isalnum() and len(modality) <= _MODALITY_LETTERS):
        raise _typed("The modality is two letters, such as CT, MR or CR.")
    date = _date(given.get("date", "").strip())
    if given.get("today", "").strip():
        date = today.strftime("%Y%m%d")
    terms = Terms(
        study=study, accession=_text(given.get("accession", ""), "accession number"),
        patient_id=_text(given.get("patient_id", ""), "patient ID"), name=_text(given.get("name", ""), "name"),
        date=date, modality=modality,
    )  # fmt: skip
    if terms.study or terms.accession or terms.patient_id or (terms.date and (terms.name or terms.modality)):
        return terms
    if terms.name or terms.modality:
        raise _typed("A name or a modality alone finds too much. Give the day of the study too.")
    raise _typed("Give an accession number, a patient ID, a name with a date, or a modality with a date.")


def _text(typed: str, what: str) -> str:
    text = " ".join(typed.split())
    if len(text) > MAX_TYPED or "\\" in text or not text.isprintable():
        raise _typed(f"The {what} is too long or has a backslash in it. Correct it and search again.")
    return text


def _date(typed: str) -> str:
    digits = typed.replace("-", "")
    if not typed:
        return ""
    try:
        return (
            datetime.datetime.strptime(digits, "%Y%m%d").strftime("%Y%m%d")
            if len(digits) == 8
            else _no_date()
        )
    except ValueError:
        return _no_date()


def _no_date() -> str:
    raise _typed("The date is not a day of the calendar. Type it as 2026-11-24.")


def _typed(sentence: str) -> GatewayError:
    return GatewayError(sentence, code="search")


def literal(text: str) -> str:
    """A text without wildcards: what stands for one is asked as any one character."""
    return text.replace("*", "?")


def name_pattern(name: str) -> str:
    """ "DOE, JANE" as the pattern DOE*JANE*, which matches DOE^JANE and DOE^MARY JANE alike."""
    parts = [literal(part) for part in name.replace(",", " ").replace("^", " ").replace("=", " ").split()]
    return "*".join(parts) + "*" if parts else ""


def study_identifier(terms: Terms) -> bytes:
    """The C-FIND identifier at STUDY level: keys to match, and what is to be told."""
    texts = {
        _ACCESSION: literal(terms.accession),
        _PATIENT_ID: literal(terms.patient_id),
        _NAME: name_pattern(terms.name),
    }
    wide = not all(text.isascii() for text in texts.values())
    keys = dict.fromkeys(_MATCH - {_CHARSET}, b"")
    keys |= {tag: text.encode("utf-8", "replace") for tag, text in texts.items()}
    keys |= {
        _LEVEL: b"STUDY", _DATE: terms.date.encode(), _KINDS: terms.modality.encode(), _STUDY: terms.study.encode()
    }  # fmt: skip
    return encode_identifier({**keys, _CHARSET: _UTF8.encode()} if wide else keys)


def series_identifier(study: str) -> bytes:
    """All series of a study."""
    return encode_identifier({_LEVEL: b"SERIES", _STUDY: study.encode(), _SERIES: b"", _SERIES_IMAGES: b""})


def image_identifier(study: str, series: str) -> bytes:
    """All images of a series."""
    return encode_identifier(
        {_LEVEL: b"IMAGE", _STUDY: study.encode(), _SERIES: series.encode(), _SOP: b"", _CLASS: b""}
    )


def retrieve_identifier(study: str) -> bytes:
    """What a C-MOVE or C-GET is to bring: a whole study (PS3.4 C.4.2.1.4)."""
    return encode_identifier({_LEVEL: b"STUDY", _STUDY: study.encode()})


def encode_identifier(keys: Mapping[int, bytes]) -> bytes:
    """A data set in Implicit VR Little Endian, its elements in order; UIDs padded with NUL, the rest with a blank."""
    uids = (_STUDY, _SERIES, _SOP, _CLASS)
    parts = []
    for tag in sorted(keys):
        value = keys[tag] + (b"\0" if tag in uids else b" ") * (len(keys[tag]) % 2)
        parts.append(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value)
    return b"".join(parts)


def read_match(identifier: bytes) -> Match | None:
    """One answer at STUDY level; None where it names no study. Any bytes are taken."""
    found = _elements(identifier, _MATCH)
    uid = text_of_uid(found.get(_STUDY, b""))
    if not is_uid(uid):
        return None
    texts = Texts(found)
    return Match(
        uid=uid, patient_name=texts.name(_NAME), patient_id=texts.text(_PATIENT_ID), birth_date=texts.date(_BIRTH),
        sex=texts.text(_SEX)[:1], accession=texts.text(_ACCESSION), date=texts.date(_DATE), time=texts.time(_TIME),
        description=texts.text(_DESCRIPTION), modalities=", ".join(texts.parts(_KINDS)[:10]),
        series=_count(texts, _STUDY_SERIES), instances=_count(texts, _STUDY_IMAGES),
    )  # fmt: skip


def read_series(identifier: bytes, study: str) -> SeriesEntry | None:
    """One answer at SERIES level; None where it is of another study."""
    found = _elements(identifier, _SERIES_READ)
    uid = text_of_uid(found.get(_SERIES, b""))
    if not is_uid(uid) or not _of(found, _STUDY, study):
        return None
    return SeriesEntry(uid, _count(Texts(found), _SERIES_IMAGES))


def read_image(identifier: bytes, study: str, series: str) -> ImageEntry | None:
    """One answer at IMAGE level; None where it is of another series."""
    found = _elements(identifier, _IMAGE_READ)
    uid, sop_class = text_of_uid(found.get(_SOP, b"")), text_of_uid(found.get(_CLASS, b""))
    if not is_uid(uid) or not _of(found, _STUDY, study) or not _of(found, _SERIES, series):
        return None
    return ImageEntry(series, uid, sop_class if is_uid(sop_class) else "")


def read_failed(identifier: bytes) -> list[str]:
    """FailedSOPInstanceUIDList of the last response to a C-MOVE or C-GET (PS3.4 C.4.2.1.4.2)."""
    listed = _elements(identifier, frozenset({_FAILED})).get(_FAILED, b"")
    whole = listed.rpartition(b"\\")[0] if len(listed) == _CUT else listed
    uids = (text_of_uid(part) for part in whole.split(b"\\"))
    return [uid for uid in dict.fromkeys(uids) if is_uid(uid)]


def _of(found: Mapping[int, bytes], tag: int, uid: str) -> bool:
    """Whether an answer is of what was asked for; some PACS leave out the keys above its level."""
    said = text_of_uid(found.get(tag, b""))
    return not said or said == uid


def _count(texts: Texts, tag: int) -> int:
    return max(-1, texts.number(tag, -1))


def _elements(identifier: bytes, wanted: frozenset[int]) -> dict[int, bytes]:
    try:
        return read_elements(
            lambda at, n: identifier[at : at + n], 0, len(identifier), IMPLICIT_LITTLE, wanted
        )
    except IntakeError:
        return {}
