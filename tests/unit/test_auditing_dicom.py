"""`clients.gateway.auditing.dicom`: audit messages as PS3.15 A.5 has them, whatever stands in a line."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import fromstring

import msgspec
import pytest

from clients.gateway.auditing.dicom import audit_message
from clients.gateway.auditing.lines import Line

LINE = Line(
    seq=7, at=1_790_000_000, actor="maria", action="transfer.create", subject="ab" * 16, detail="transfer",
    hash=b"h" * 32,
)  # fmt: skip


def test_a_transfer_that_staff_begin() -> None:
    root = fromstring(audit_message(LINE, "Valley ED"))
    assert [x.tag for x in root] == [
        "EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification",
    ]  # fmt: skip
    event = root[0]
    assert event.attrib == {
        "EventActionCode": "R", "EventOutcomeIndicator": "0", "EventDateTime": "2026-09-21T14:13:20Z",
    }  # fmt: skip
    assert event[0].attrib == {"csd-code": "110106", "codeSystemName": "DCM", "originalText": "Export"}
    assert root[1].attrib == {"UserID": "maria", "UserIsRequestor": "true"}
    assert root[2].attrib["AuditSourceID"] == "Valley ED"
    assert root[3].attrib["ParticipantObjectID"] == "ab" * 16
    details = {x.attrib["type"]: base64.b64decode(x.attrib["value"]) for x in root[3][2:]}
    assert details == {"chain-hash": b"h" * 32, "detail": b"transfer"}


def test_an_override_is_an_emergency() -> None:
    line = msgspec.structs.replace(LINE, action="transfer.override")
    event = fromstring(audit_message(line, "X"))[0]
    assert [x.attrib["csd-code"] for x in event] == ["110113", "110127", "ETREAT"]


@pytest.mark.parametrize("text", ["<a>&\"'", "\x00\x1b\ud800", "]]>", "\u202ename", "x" * 10_000, ""])
def test_text_of_others_is_text(text: str) -> None:
    line = msgspec.structs.replace(LINE, actor=text, action=text, subject=text)
    root = fromstring(audit_message(line, text))
    assert len(root) == 4
    shown = root[1].attrib["UserID"]
    assert shown == (text if text.isprintable() and text else shown)
    assert shown


def test_a_refused_sign_in_has_failed() -> None:
    line = msgspec.structs.replace(LINE, action="page:sign-in-refused", subject="")
    root = fromstring(audit_message(line, "X"))
    assert root[0].attrib["EventOutcomeIndicator"] == "4"
    assert [x.attrib["csd-code"] for x in root[0]] == ["110114", "110122"]
    assert root[3].attrib["ParticipantObjectID"] == "line 7"
