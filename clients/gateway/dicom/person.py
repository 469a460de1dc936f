"""A patient of this hospital, as staff type them or a worklist answers: read at the edge, or refused by name.

A Patient ID is a Long String (PS3.5 6.2): 64 characters, no backslash, no control character. A number is held to less
than that: it must be the same in every data set of a study whatever character set each has, so it is ASCII; `^` comes
from a number that was pasted with its HL7 components, `*` and `?` match anything where it is queried.
"""

from __future__ import annotations

import datetime
import re

import msgspec

from clients.gateway.errors import GatewayError

LONGEST = 64
"""Characters of a Patient ID and of each group of a name (PS3.5 6.2, LO and PN)."""
_SEXES = ("", "M", "F", "O")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One patient. All but the number may be empty: unknown here."""

    patient_id: str
    issuer: str = ""
    name: str = ""
    """As DICOM writes it: FAMILY^GIVEN (PS3.5 6.2.1)."""
    birth_date: str = ""
    """YYYYMMDD."""
    sex: str = ""


class PersonError(GatewayError):
    """What was typed cannot be a patient's. Correct it and try again."""


_NUMBER = (
    ("mrn-missing", r"\Z", "No patient number was given. Type the one that this hospital has for the patient."),
    ("mrn-long", r".{65}", "The patient number is longer than 64 characters. Type the number alone."),
    ("mrn-control", r".*[\x00-\x1f\x7f-\x9f]", "The patient number holds a character that cannot be seen."
     " Type it by hand."),
    ("mrn-backslash", r".*\\", "The patient number holds a backslash, which divides two numbers. Type one number."),
    ("mrn-caret", r".*\^", "The patient number holds a ^, as numbers of HL7 messages do. Type what stands before it."),
    ("mrn-wildcard", r".*[*?]", "The patient number holds * or ?, which stand for any number. Type the whole number."),
    ("mrn-letters", r".*[^ -~]", "The patient number holds letters that not every image could be written with."
     " Type plain letters and digits."),
)  # fmt: skip
"""(code, what it looks like, sentence); the first that fits is said."""


def read_person(
    *, patient_id: str, issuer: str = "", name: str = "", birth_date: str = "", sex: str = ""
) -> Person:
    """The patient of these words. Raises `PersonError`: `mrn-...`, `issuer`, `name-...`, `birth-date`, `sex`."""
    return Person(
        patient_id=read_number(patient_id),
        issuer=read_issuer(issuer),
        name=read_name(name),
        birth_date=read_date(birth_date),
        sex=read_sex(sex),
    )


def read_number(text: str) -> str:
    """A patient number. Raises `PersonError`."""
    text = text.strip(" ")
    for code, looks, sentence in _NUMBER:
        if re.match(looks, text, re.DOTALL):
            raise PersonError(sentence, code=code)
    return text


def read_sex(text: str) -> str:
    """M, F, O or nothing (PS3.3 C.7.1.1). Raises `PersonError`."""
    text = text.strip(" ").upper()
    if text not in _SEXES:
        raise PersonError("The sex is M, F, O or nothing. Choose one.", code="sex")
    return text


def read_issuer(text: str) -> str:
    """Who gave a number out, or nothing. Raises `PersonError`."""
    text = text.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{0,64}", text):
        raise PersonError(
            "The issuer of the number is no plain text of 64 characters. Correct it.", code="issuer"
        )
    return text


def read_name(text: str) -> str:
    """A name as DICOM writes it, of "FAMILY, GIVEN MIDDLE" or of that form itself. Raises `PersonError`."""
    text = text.strip(" ")
    if not all(c.isprintable() for c in text) or "\\" in text:
        raise PersonError(
            "The name holds a backslash or a character that cannot be seen. Type it by hand.",
            code="name-character",
        )
    if "^" not in text and "=" not in text and "," in text:
        family, _, given = text.partition(",")
        text = "^".join([family.strip(), *given.split()][:5])
    groups = text.split("=")
    if len(groups) > 3 or any(len(g) > LONGEST or g.count("^") > 4 for g in groups):
        raise PersonError("The name is too long to be written in an image. Shorten it.", code="name-long")
    return text


def read_date(text: str) -> str:
    """YYYYMMDD, of that or of YYYY-MM-DD; nothing stays nothing. Raises `PersonError`."""
    digits = re.sub(r"[-.]", "", text.strip(" "))
    if not digits:
        return ""
    try:
        if not re.fullmatch(r"[0-9]{8}", digits):
            raise ValueError
        datetime.datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        raise PersonError(
            "The date of birth is no date. Write it as year-month-day: 1984-03-12.", code="birth-date"
        ) from None
    return digits


def shown_name(name: str) -> str:
    """A name of DICOM's form as people read it, as `dicom.header` does: "DOE, JANE M"."""
    for group in name.split("="):
        family, *rest = [part.strip() for part in group.split("^")][:3]
        given = " ".join(filter(None, rest))
        if family or given:
            return ", ".join(filter(None, (family, given)))
    return ""


def shown_date(date: str) -> str:
    """YYYYMMDD as YYYY-MM-DD."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if date else ""
