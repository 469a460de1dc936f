"""The audit log as DICOM audit messages (PS3.15 A.5): the XML that an Audit Record Repository takes.

One line of the log is one AuditMessage. The schema is that of A.5.1; its attribute names are those of the current
standard (`csd-code`, not `code`). What is text in the log is text here: ElementTree escapes it, and what XML 1.0
cannot hold is replaced.
"""

from __future__ import annotations

import base64
import re
from xml.etree.ElementTree import Element, SubElement, tostring

from clients.gateway.auditing.lines import Code, Line, meaning

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EMERGENCY = Code("ETREAT", "Emergency Treatment")
_SYSTEM_OBJECT, _SECURITY_RESOURCE = "2", "13"
"""ParticipantObjectTypeCode and -Role (PS3.15 A.5.1.2)."""


def audit_message(line: Line, name: str) -> bytes:
    """One line as UTF-8 XML without a declaration; `name` is this site's, for people."""
    what = meaning(line)
    root = Element("AuditMessage")
    event = SubElement(
        root, "EventIdentification", EventActionCode=what.action, EventOutcomeIndicator="4" if line.failed else "0",
        EventDateTime=line.when,
    )  # fmt: skip
    _code(event, "EventID", what.event)
    if what.kind is not None:
        _code(event, "EventTypeCode", what.kind)
    if what.purpose == "ETREAT":
        SubElement(
            event, "PurposeOfUse",
            {"csd-code": _EMERGENCY.value, "codeSystemName": "ActReason", "originalText": _EMERGENCY.meaning},
        )  # fmt: skip
    SubElement(root, "ActiveParticipant", UserID=_text(line.actor) or "gateway", UserIsRequestor="true")
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=_text(name))
    SubElement(
        source,
        "AuditSourceTypeCode",
        {"csd-code": "4", "codeSystemName": "DCM", "originalText": "Application server process"},
    )
    _object(root, line)
    body: bytes = tostring(root, encoding="utf-8", xml_declaration=False)
    return body


def _object(root: Element, line: Line) -> None:
    found = SubElement(
        root, "ParticipantObjectIdentification",
        ParticipantObjectID=_text(line.subject) or f"line {line.seq}",
        ParticipantObjectTypeCode=_SYSTEM_OBJECT, ParticipantObjectTypeCodeRole=_SECURITY_RESOURCE,
    )  # fmt: skip
    kind = {"csd-code": "12", "codeSystemName": "RFC-3881", "originalText": "URI"}
    SubElement(found, "ParticipantObjectIDTypeCode", kind)
    SubElement(found, "ParticipantObjectName").text = _text(line.action)
    for name, value in (("chain-hash", line.hash), ("detail", line.detail.encode())):
        if value:
            SubElement(
                found, "ParticipantObjectDetail", type=name, value=base64.b64encode(value).decode("ascii")
            )


def _code(parent: Element, tag: str, code: Code) -> None:
    SubElement(
        parent,
        tag,
        {"csd-code": code.value, "codeSystemName": "DCM", "originalText": code.meaning},
    )


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
