"""What the gateway claims of data sets in its conformance statement (PS3.2): the keys of its queries, what it changes
in an instance, and what it makes itself; each as a table, read from what the code encodes.
"""

from __future__ import annotations

from io import BytesIO

from pydicom.datadict import dictionary_description, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.filereader import dcmread, read_dataset

from clients.gateway.dicom import coercion, document, finder, query, recoding, worklist, worklist_child
from clients.gateway.dicom.claims import name, numbers, table
from clients.gateway.dicom.contexts import SYNTAXES

_UID = "1.2.3"
_STUDY = 0x0020000D


def _element(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}"


# Queries

_ASKED = {
    0x00080020: "one date, or nothing",
    0x00080050: "as typed",
    0x00080061: "one modality, or nothing",
    0x00100010: "as typed, with * where letters may follow",
    0x00100020: "as typed",
    0x0020000D: "one UID: single value matching",
    0x0020000E: "one UID: single value matching",
    0x00080018: "one UID: single value matching",
}
"""How a key is filled, where it is to match."""


def _keys(identifier: bytes, filled: set[int]) -> str:
    """The keys of a request that was encoded; those of `filled` match, the others are to be told."""
    ds = read_dataset(BytesIO(identifier), is_implicit_VR=True, is_little_endian=True)
    rows = []
    for element in ds:
        tag = int(element.tag)
        if tag == 0x00080052:
            how = str(element.value)
        elif element.VR == "SQ":
            inner = ", ".join(_element(int(e.tag)) for e in element.value[0])
            how = f"one item, empty but for its keys: {inner}"
        else:
            how = _ASKED[tag] if tag in filled else "empty: to be told"
        rows.append((_element(tag), how))
    return table(("key", "in the request"), rows)


def image_keys() -> str:
    """The query for one instance, after a C-STORE without an answer."""
    return _keys(finder.encode_identifier(_UID, _UID, _UID), {0x0020000D, 0x0020000E, 0x00080018})


def study_keys() -> str:
    """What staff search with."""
    filled = {0x00080020, 0x00080050, 0x00080061, 0x00100010, 0x00100020, 0x0020000D}
    return _keys(query.study_identifier(query.Terms()), filled)


def series_keys() -> str:
    """All series of a study."""
    return _keys(query.series_identifier(_UID), {0x0020000D})


def list_keys() -> str:
    """All images of a series."""
    return _keys(query.image_identifier(_UID, _UID), {0x0020000D, 0x0020000E})


def worklist_keys() -> str:
    """What staff look for in the worklist (PS3.4 K.6.1.2.2)."""
    asked = worklist_child.encode_query(worklist.Query())
    return _keys(asked, {0x00080050, 0x00100010, 0x00100020})


# What is changed

_HOW = {
    0x00100010: "`match`: the local name; else as it was",
    0x00100020: "`prefix`: the sender's number behind the sender's code; `match`: the local number",
    0x00100021: "`match`: the local issuer; else as it was",
    0x00100024: "removed where the issuer is replaced: it described the old one",
    0x00100030: "`match`: the local one; else as it was",
    0x00100040: "`match`: the local one; else as it was",
    0x00101002: "an item is added: the sender's number, its issuer and its qualifiers; items of others stay",
    0x04000561: "an item is added, as below; items of others stay",
}
_ITEM = {
    0x04000550: "every element above as it was, byte for byte",
    0x04000562: "when the identity was frozen, with the offset from UTC",
    0x04000563: "`dicom.aet`",
    0x04000564: "the sending hospital's name",
    0x04000565: "COERCE",
}


def coerced() -> str:
    """The only elements that may differ between what came and what is stored."""
    lengths = {tag for tag in coercion.TOUCHED if not tag & 0xFFFF}
    rows = [(_element(tag), dictionary_VR(tag), _HOW[tag]) for tag in sorted(coercion.TOUCHED - lengths)]
    groups = ", ".join(f"({tag >> 16:04X},0000)" for tag in sorted(lengths))
    return table(
        ("attribute", "VR", "what becomes of it"), [*rows, (groups, "UL", "removed: retired group lengths")]
    )


def record() -> str:
    """One item of the Original Attributes Sequence (PS3.3 C.12.1.1.9.1)."""
    return table(
        ("attribute", "value"),
        ((f"{_element(tag)} `{keyword_for_tag(tag)}`", how) for tag, how in _ITEM.items()),
    )


def recoded() -> str:
    """From which transfer syntaxes an instance is brought into another one."""
    can = [uid for uid in sorted(SYNTAXES, key=numbers) if recoding.can_recode(uid)]
    return table(
        ("transfer syntax of the study", "offered instead, in this order"),
        ((name(uid), ", ".join(name(to) for to in recoding.TARGETS if to != uid)) for uid in can),
    )


# What is made

_MADE = {
    0x00080012: "day on which it became an instance",
    0x00080013: "and time",
    0x00080018: "from the study's UID and the content",
    0x00080023: "day on which it became an instance",
    0x00080033: "and time",
    0x0020000E: "from the study's UID",
    0x00200013: "a number in the series",
    0x00420010: "the report's title",
    0x00420011: "the PDF",
    0x00420015: "its length",
}


def documents() -> str:
    """The Encapsulated PDF of a report (PS3.3 A.45.1), read from one that was encoded."""
    ours = document.Document(pdf=b"%PDF-1.4", title="T", number=1, at=0, digest=bytes(32))
    _, pieces = document.encode(
        document.Facts({**dict.fromkeys(document.INHERITED, b""), _STUDY: b"1.2.3"}), ours
    )
    rows = [(_element(int(e.tag)), _origin(e)) for e in dcmread(BytesIO(b"".join(pieces)))]
    return table(("attribute", "value"), rows)


def _origin(element: DataElement) -> str:
    tag = int(element.tag)
    if tag in document.INHERITED:
        return "the study's"
    return _MADE.get(tag) or (f"`{element.value}`" if element.value else "empty")
