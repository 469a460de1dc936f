"""HL7 v2 messages: what this gateway says and understands of them.

Three structures of HL7 2.5.1 and no more:

- ADT^A40 (chapter 3.3.40, merge patient): what was filed under one number belongs to another;
- ADT^A08 (chapter 3.3.8, update patient information): the person behind a number is known now;
- ORU^R01 (chapter 7.3.1, unsolicited observation): a report for a study, as text or as a PDF.

A message is text with `|`, `^`, `~`, `\\` and `&` between its parts; what a name contains of them is written by escape
sequences (chapter 2.7). The `hl7` library takes a message apart; the sequences are read here, since `\\.sp999999999\\`
is a gigabyte in the library and a sequence that it does not know is gone. Of a report nothing may be lost: a separator
that somebody forgot to escape in a text is part of the text.

Every text that comes in is a stranger's: it is bounded, and what does not fit is an `Hl7Error`, whose text names no
value.
"""

from __future__ import annotations

import base64
import binascii
import re

import hl7
import msgspec

from clients.gateway.errors import GatewayError

VERSION = "2.5.1"
MAX_TEXT = 2**20
"""Characters of a report's text."""
MAX_PDF = 2**24
_SEGMENTS = 10_000
_PARTS = 200_000
"""Separators in a message: the library makes an object for what is between two, and a block of nothing but `~` takes
gigabytes.
"""
_BLANKS = 40
"""Lines or blanks that one escape sequence may stand for."""
_SEQUENCE = r"[FSTREHN]|\.(?:br|ce|fi|nf)|\.(?:sp|sk|in|ti)[+-]?[0-9]{0,3}|X(?:[0-9A-Fa-f]{2}){1,64}"
"""What stands between two escape characters (chapter 2.7); anything else is text that nobody escaped."""
_CHARSETS = {
    "": "latin-1", "ASCII": "ascii", "8859/1": "latin-1", "8859/2": "iso8859_2", "8859/15": "iso8859_15",
    "8859/5": "iso8859_5", "8859/7": "iso8859_7", "8859/9": "iso8859_9", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8",
    "GB 18030-2000": "gb18030",
}  # fmt: skip
"""MSH-18 (HL7 table 0211). Nothing stated: Latin-1 reads every byte, and ASCII right."""


class Hl7Error(GatewayError):
    """This HL7 message cannot be used. Look at what sends it."""

    code = "hl7"
    condition = "207"
    """HL7 table 0357, for ERR-3 of the acknowledgement: application internal error."""

    def __init__(self, sentence: str = "", *, code: str = "", condition: str = "") -> None:
        super().__init__(sentence, code=code)
        self.condition = condition or self.condition


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a message is about."""

    id: str
    issuer: str = ""
    family: str = ""
    given: str = ""
    birth_date: str = ""
    """YYYYMMDD."""
    sex: str = ""


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks to whom (MSH-3 to MSH-6)."""

    sender: str = "TRAUMATX"
    sender_site: str = ""
    receiver: str = ""
    receiver_site: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an ORU^R01 says of one study."""

    control_id: str
    patient: Person
    accessions: tuple[str, ...]
    """Numbers under which the study may be known, likeliest first: sites use different fields."""
    study_uid: str
    """From a ZDS segment, as IHE radiology sends it; else empty."""
    title: str
    status: str
    """HL7 table 0123: P preliminary, F final, C corrected."""
    text: str
    pdf: bytes
    numbers: tuple[str, ...] = ()
    """All numbers of the patient (PID-3 repeats): which of them the images have is not known."""
    author: str = ""
    """Who interpreted it (OBR-32), else the system that sent it."""
    at: str = ""
    """When: YYYYMMDDHHMM of OBR-22, else of MSH-7; or empty."""
    processing: str = ""
    """MSH-11 (HL7 table 0103): P production, T training, D debugging; or empty."""


def merge(new: Person, old: Person, ends: Ends, control_id: str, at: str) -> str:
    """ADT^A40: all that is filed under `old.id` belongs to `new`. `at` is YYYYMMDDHHMMSS."""
    merged = ["MRG", _cx(old), "", "", "", "", "", _xpn(old)]
    return _message(ends, "ADT^A40^ADT_A39", control_id, at, ["EVN", "", at], _pid(new), merged)


def update(person: Person, ends: Ends, control_id: str, at: str) -> str:
    """ADT^A08: who is behind `person.id`. `at` is YYYYMMDDHHMMSS."""
    return _message(ends, "ADT^A08^ADT_A01", control_id, at, ["EVN", "", at], _pid(person), ["PV1", "", "U"])


def acknowledge(block: bytes, code: str, words: str, at: str, condition: str = "") -> bytes:
    """An ACK for what came, also for what cannot be read (chapter 2.9.2): AA taken, AE in error, AR rejected.

    `condition` is of HL7 table 0357, and makes an ERR segment.
    """
    try:
        message = read(block)
        ends = Ends(
            sender=_text(message, "MSH", 5), sender_site=_text(message, "MSH", 6), receiver=_text(message, "MSH", 3),
            receiver_site=_text(message, "MSH", 4),
        )  # fmt: skip
        control, trigger = _text(message, "MSH", 10), _text(message, "MSH", 9, 2)
    except Hl7Error:
        ends, control, trigger = Ends(), "", ""
    kind = "ACK" + (f"^{_escape(trigger)}" if trigger else "")
    segments = [["MSA", code, _escape(control), _escape(words)]]
    if condition:
        segments.append(["ERR", "", "", f"{condition}^^HL70357", "E", "", "", "", _escape(words)])
    return _message(ends, kind, f"A{control}"[:20], at, *segments).encode()


def control_of(block: bytes) -> tuple[str, str]:
    """(MSA-1, MSA-2) of an acknowledgement: its code, and what it acknowledges. Raises `Hl7Error`."""
    message = read(block)
    return _text(message, "MSA", 1), _text(message, "MSA", 2)


def read(block: bytes) -> hl7.Message:
    """A message in its own character set. Raises `Hl7Error`."""
    block = _with_segments(block)
    if not block.startswith(b"MSH") or block.count(b"\r") > _SEGMENTS:
        raise Hl7Error(condition="100")
    if sum(block.count(c) for c in {block[at : at + 1] for at in range(3, 8)} - {b""}) > _PARTS:
        raise Hl7Error("This message has more parts than any report. Look at what sends it.", code="hl7-size")
    try:
        fields = block.split(b"\r", 1)[0].split(block[3:4])
        charset = fields[17].split(b"~")[0].decode("ascii").strip() if len(fields) > 17 else ""
        message = hl7.parse(block.decode(_CHARSETS[charset]))
        message.segment("MSH")
    except Exception:  # the library has no one error for what is no message
        raise Hl7Error(condition="102") from None
    return message


def _with_segments(block: bytes) -> bytes:
    """Segments end with CR (chapter 2.5.1); some write CR LF, or LF alone, and their segments would not be seen."""
    block = block.replace(b"\r\n", b"\r")
    return block if b"\r" in block else block.replace(b"\n", b"\r")


def report_of(block: bytes) -> Report:
    """The report in an ORU^R01. Raises `Hl7Error`: no ORU, nothing in it, too much of it."""
    message = read(block)
    if (_text(message, "MSH", 9, 1), _text(message, "MSH", 9, 2)) != ("ORU", "R01"):
        raise Hl7Error(
            "Only reports (ORU^R01) are taken here. Send others elsewhere.", code="hl7-kind", condition="200"
        )
    text, pdf = _contents(message)
    status = _text(message, "OBR", 25) or "F"
    if status not in ("P", "F", "C", "A", "R"):
        raise Hl7Error(
            "This is no result but the order's state (OBR-25). Send the report once there is one.",
            code="hl7-status", condition="103",
        )  # fmt: skip
    if not text.strip() and not pdf:
        raise Hl7Error(
            "There is no text and no PDF in this report. Look at what sends it.",
            code="hl7-empty",
            condition="101",
        )
    accessions = (
        _text(message, "OBR", 18), _text(message, "OBR", 3), _text(message, "OBR", 2), _text(message, "ORC", 3)
    )  # fmt: skip
    return Report(
        control_id=_text(message, "MSH", 10), patient=_person(message),
        accessions=tuple(dict.fromkeys(n for n in accessions if n)), study_uid=_text(message, "ZDS", 1),
        title=_text(message, "OBR", 4, 2) or _text(message, "OBR", 4, 1), status=status,
        text=text, pdf=pdf, numbers=_numbers(message), author=_author(message),
        at=_moment(_text(message, "OBR", 22)) or _moment(_text(message, "MSH", 7)),
        processing=_text(message, "MSH", 11),
    )  # fmt: skip


def _contents(message: hl7.Message) -> tuple[str, bytes]:
    """Text and PDF of all OBX segments. Raises `Hl7Error`."""
    lines: list[str] = []
    pdfs: list[bytes] = []
    for segment in message:
        if str(segment[0]) != "OBX":
            continue
        kind = _field(message, segment, 2)
        if kind == "ED":
            pdfs.append(_pdf(message, segment))
        elif kind in ("CE", "CWE"):
            lines.append(_field(message, segment, 5, 2) or _field(message, segment, 5, 1))
        elif kind in ("TX", "FT", "ST"):
            raw = _raw(segment, 5).split(message.separators[2])  # it repeats where a text has several lines
            lines.extend(_unescape(message, part).rstrip() for part in raw)
        elif kind in ("NM", "DT", "TM", "TS", "SN"):
            lines.append(" ".join(_raw(segment, 5).split(message.separators[3])).strip())
    if len(text := "\n".join(lines)) > MAX_TEXT:
        raise Hl7Error("This report is longer than any report. Look at what sends it.", code="hl7-size")
    if len(pdfs) > 1:
        raise Hl7Error("A message may hold one PDF. Send the others by themselves.", code="hl7-document")
    return text, pdfs[0] if pdfs else b""


def _person(message: hl7.Message) -> Person:
    return Person(
        id=_text(message, "PID", 3, 1), issuer=_text(message, "PID", 3, 4), family=_text(message, "PID", 5, 1),
        given=_text(message, "PID", 5, 2), birth_date=_text(message, "PID", 7)[:8], sex=_text(message, "PID", 8)[:1],
    )  # fmt: skip


def _pdf(message: hl7.Message, segment: hl7.Segment) -> bytes:
    """Encapsulated data (ED): source, type, subtype, encoding, data. Only a PDF in Base64 is taken."""
    encoded = _field(message, segment, 5, 5)
    if _field(message, segment, 5, 4).upper() != "BASE64" or len(encoded) > MAX_PDF * 4 // 3 + 4:
        raise Hl7Error("Only a PDF in Base64 is taken as a document. Send it so.", code="hl7-document")
    try:
        pdf = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        pdf = b""
    if not pdf.startswith(b"%PDF-"):
        raise Hl7Error("Only a PDF in Base64 is taken as a document. Send it so.", code="hl7-document")
    return pdf


# Fields


def _text(message: hl7.Message, segment: str, field: int, component: int = 1) -> str:
    """A component of the first segment of that name; empty where it is not there."""
    for found in message:
        if str(found[0]) == segment:
            return _field(message, found, field, component)
    return ""


def _field(message: hl7.Message, segment: hl7.Segment, field: int, component: int = 1) -> str:
    """A component's first subcomponent, of the first repetition of a field."""
    _, _, repeat, between, within = message.separators[:5]
    parts = _raw(segment, field).split(repeat)[0].split(between)
    part = parts[component - 1] if component <= len(parts) else ""
    return _unescape(message, part.split(within)[0]).strip()


def _raw(segment: hl7.Segment, field: int) -> str:
    """A field as it was written."""
    return str(segment[field]) if field < len(segment) else ""


def _numbers(message: hl7.Message) -> tuple[str, ...]:
    """Every number in PID-3."""
    for segment in message:
        if str(segment[0]) == "PID":
            raw = _raw(segment, 3).split(message.separators[2])[:50]
            found = (_unescape(message, x.split(message.separators[3])[0]).strip() for x in raw)
            return tuple(dict.fromkeys(x for x in found if x))
    return ()


def _author(message: hl7.Message) -> str:
    """Who interpreted it: OBR-32 (NDL), whose first component is id, family name, given name; else MSH-4, MSH-3."""
    for segment in message:
        if str(segment[0]) == "OBR":
            name = _raw(segment, 32).split(message.separators[2])[0].split(message.separators[3])[0]
            family, given = [
                *(_unescape(message, x).strip() for x in name.split(message.separators[4])[1:3]),
                "",
                "",
            ][:2]
            if family:
                return f"{family}, {given}" if given else family
    return _text(message, "MSH", 4) or _text(message, "MSH", 3)


def _moment(text: str) -> str:
    """The digits of a time stamp down to minutes, where it has them."""
    return text[:12] if len(text) >= 12 and text[:12].isascii() and text[:12].isdigit() else ""


def _unescape(message: hl7.Message, text: str) -> str:
    """`text` with its escape sequences (chapter 2.7) as what they mean; one that means nothing stays as it is."""
    mark = str(message.esc)
    if not mark or mark not in text:
        return text
    _, field, repeat, between, within = message.separators[:5]
    plain = {"F": field, "R": repeat, "S": between, "T": within, "E": mark, "H": "", "N": "", ".br": "\n", ".ce": "\n",
             ".fi": "", ".nf": ""}  # fmt: skip

    def meaning(found: re.Match[str]) -> str:
        inner = found[1]
        if inner in plain:
            return str(plain[inner])
        if inner[0] == "X":
            return bytes.fromhex(inner[1:]).decode("utf-8", "replace")
        count = min(max(int(inner[3:] or 1), 0), _BLANKS) if inner[3:] not in ("+", "-") else 1
        return ("\n" if inner[1:3] == "sp" else " ") * count

    quoted = re.escape(mark)
    return re.sub(f"{quoted}({_SEQUENCE}){quoted}", meaning, text)


def _escape(text: str) -> str:
    """`text` as a part of a message: no separator, no line end (chapter 2.7)."""
    special = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
    return "".join(special.get(c, c) for c in text if c.isprintable())


def _cx(person: Person) -> str:
    return f"{_escape(person.id)}^^^{_escape(person.issuer)}" if person.issuer else _escape(person.id)


def _xpn(person: Person) -> str:
    return f"{_escape(person.family)}^{_escape(person.given)}".rstrip("^")


def _pid(person: Person) -> list[str]:
    return ["PID", "", "", _cx(person), "", _xpn(person), "", _escape(person.birth_date), _escape(person.sex)]


def _message(ends: Ends, kind: str, control_id: str, at: str, *segments: list[str]) -> str:
    names = [_escape(n) for n in (ends.sender, ends.sender_site, ends.receiver, ends.receiver_site)]
    last = ["P", VERSION, "", "", "", "", "", "UNICODE UTF-8"]
    header = ["MSH", "^~\\&", *names, at, "", kind, _escape(control_id), *last]
    return "".join("|".join(fields).rstrip("|") + "\r" for fields in (header, *segments))
