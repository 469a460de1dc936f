"""What the gateway claims of associations in its conformance statement (PS3.2): classes and syntaxes, rejections, times
and limits, statuses, settings; each as a table, from the values that the programs use.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from pydicom.uid import UID
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification

from clients.gateway import config
from clients.gateway.dicom import commitment, finder, query, source_child, statuses, worklist_child
from clients.gateway.dicom.contexts import MAX_CONTEXTS, SYNTAXES
from clients.gateway.dicom.guard import NOT_TRUSTED, REJECTIONS
from clients.gateway.dicom.part10 import IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
from clients.gateway.dicom.refusals import REFUSALS
from clients.gateway.dicom.scp import ScpConfig
from clients.gateway.dicom.scp_child import INVALID_ARGUMENT, NO_SUCH_CLASS, UNRECOGNIZED_OPERATION
from clients.gateway.dicom.scu import Destination
from clients.gateway.dicom.structure import IMPLICIT_LITTLE
from clients.gateway.dicom.upper_layer import MAX_PDU
from clients.gateway.receiving.routing import Rule

_NEWER = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
"""Names that pydicom's dictionary does not have yet (PS3.6 A)."""
_OF_FILES = {"dicom-not", "dicom-meta", "dicom-syntax", "dicom-charset", "dicom-no-study", "dicom-no-series"}
"""Refusals of imported files, and of studies: no C-STORE is answered so."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as GitHub draws it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def numbers(uid: str) -> list[int]:
    return [int(part) for part in uid.split(".")]


def name(uid: str) -> str:
    """What PS3.6 calls a UID."""
    return _NEWER.get(uid) or UID(uid).name


# Associations


def implementation() -> str:
    """PS3.7 D.3.3.2."""
    return table(
        ("", ""),
        (
            ("Implementation class UID", f"`{IMPLEMENTATION_CLASS}`"),
            ("Implementation version name", f"`{IMPLEMENTATION_VERSION}`"),
            ("Application context", "`1.2.840.10008.3.1.1.1`"),
            ("Maximum length of a PDU that is received", f"{MAX_PDU} bytes"),
            ("Maximum length of a PDU that is sent", f"what the peer announces, {MAX_PDU} bytes at most"),
            (
                "Presentation contexts in one request",
                f"{MAX_CONTEXTS} at most; a further association for more",
            ),
        ),
    )


def syntaxes() -> str:
    """Every transfer syntax in which an instance is taken."""
    return table(("transfer syntax", "UID"), ((name(s), f"`{s}`") for s in sorted(SYNTAXES, key=numbers)))


def storage_classes() -> str:
    """The storage classes that have a name."""
    uids = {str(c.abstract_syntax) for c in AllStoragePresentationContexts}
    return table(("SOP class", "UID"), sorted((name(uid), f"`{uid}`") for uid in uids if name(uid) != uid))


def scp_classes() -> str:
    """What the receiver accepts, and in which role (PS3.7 D.3.3.4)."""
    return table(
        ("SOP class", "UID", "our role"),
        (
            (name(Verification), f"`{Verification}`", "SCP"),
            ("every Storage class", "8.3", "SCP"),
            (name(commitment.PUSH_MODEL), f"`{commitment.PUSH_MODEL}`", "SCU: takes N-EVENT-REPORT"),
        ),
    )


def scu_classes() -> str:
    """What the sender proposes."""
    return table(
        ("SOP class", "UID", "transfer syntaxes", "our role"),
        (
            (name(Verification), f"`{Verification}`", name(IMPLICIT_LITTLE), "SCU"),
            ("every Storage class that the study has", "8.3", "those of the study", "SCU"),
            (name(finder.STUDY_ROOT), f"`{finder.STUDY_ROOT}`", name(IMPLICIT_LITTLE), "SCU"),
            (name(commitment.PUSH_MODEL), f"`{commitment.PUSH_MODEL}`", name(IMPLICIT_LITTLE), "SCU"),
        ),
    )


def archive_classes() -> str:
    """What the archive SCU proposes, and in which role (PS3.7 D.3.3.4)."""
    models = [
        (name(uid), f"`{uid}`", name(IMPLICIT_LITTLE), "SCU") for uid in (query.STUDY_FIND, query.STUDY_MOVE)
    ]
    get = (name(query.STUDY_GET), f"`{query.STUDY_GET}`", name(IMPLICIT_LITTLE), "SCU")
    stored = (
        "for C-GET: the Storage classes of the study, or those below",
        "",
        "those below",
        "SCP, by role selection",
    )
    return table(("SOP class", "UID", "transfer syntaxes", "our role"), (*models, get, stored))


def get_classes() -> str:
    """The Storage classes of a C-GET of a study whose classes the archive does not say."""
    return table(("SOP class", "UID"), ((name(uid), f"`{uid}`") for uid in source_child.USUAL))


def get_syntaxes() -> str:
    """In what the images of a C-GET may come, in this order."""
    return table(("transfer syntax", "UID"), ((name(uid), f"`{uid}`") for uid in source_child.GET_SYNTAXES))


def worklist_classes() -> str:
    """What the worklist SCU proposes."""
    uid = worklist_child.MODEL
    row = (name(uid), f"`{uid}`", name(IMPLICIT_LITTLE), "SCU")
    return table(("SOP class", "UID", "transfer syntaxes", "our role"), [row])


def rejections() -> str:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4); the code is what the log says."""
    rows = [r for r in REJECTIONS.values() if r is not NOT_TRUSTED]
    return table(
        ("result", "source", "reason", "code", "why"),
        ((r.result, r.source, r.diagnostic, f"`{r.code}`", r.sentence) for r in rows),
    )


# Times and limits

_RECEIVER = {
    "max_associations": "associations at once; one more is rejected",
    "max_per_address": "connections from one address",
    "connects_at_once": "connections that one address may open in a row",
    "connects_per_second": "and in each second after that",
    "max_instance_bytes": "bytes of one instance",
    "min_free_bytes": "bytes of disk below which A700 is answered",
    "request_seconds": "seconds to the A-ASSOCIATE-RQ; with TLS the same again for the handshake",
    "stall_seconds": "seconds for one PDU, and from one fragment of a message to the next",
    "idle_seconds": "seconds without anything in an association; then it is aborted",
}
_SENDER = {
    "max_pdu": "maximum length of a PDU that is announced",
    "connect": "seconds for the TCP connection",
    "association": "seconds for the A-ASSOCIATE-AC, and for the TLS handshake",
    "response": "seconds from the last byte of a request to its response",
    "stall": "seconds for one PDU that the peer does not take",
    "idle": "seconds without work; then the association is released",
}


def _limits(struct: type[msgspec.Struct], meanings: dict[str, str]) -> str:
    defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
    return table(("limit", "value"), ((what, f"{defaults[key]:,.0f}") for key, what in meanings.items()))


def receiver_limits() -> str:
    """What the receiver bounds."""
    return _limits(ScpConfig, _RECEIVER)


def sender_limits() -> str:
    """How patient the sender is."""
    return _limits(Destination, _SENDER)


# Statuses


def store_statuses() -> str:
    """What the receiver answers to a C-STORE (PS3.4 B.2.3)."""
    rows = [("0000", "", "The instance is on disk, under its final name.")]
    for code, refusal in REFUSALS.items():
        if code not in _OF_FILES:
            rows.append((f"{refusal.status:04X}", f"`{code}`", refusal.sentence))
    return table(("status", "code", "meaning"), sorted(rows))


def event_statuses() -> str:
    """What the receiver answers to an N-EVENT-REPORT (PS3.7 10.1.1)."""
    return table(
        ("status", "meaning"),
        (
            ("0000", "taken; it counts if its transaction is an open one of ours"),
            (f"{INVALID_ARGUMENT:04X}", "the data set is no report, or has more than was ever asked about"),
            (f"{NO_SUCH_CLASS:04X}", "of another SOP class"),
            (f"{UNRECOGNIZED_OPERATION:04X}", "to an N-ACTION: this receiver commits to nothing"),
        ),
    )


_KINDS = {
    "ok": "stored",
    "warning": "stored, with a note that is kept",
    "retry": "not now: sent again, with growing pauses",
    "refused": "refused: not sent again",
}


def answers() -> str:
    """How the sender takes each status of a C-STORE: all 65,536 are asked of the code."""
    spans: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for kind, group in itertools.groupby(range(2**16), statuses.classify):
        found = list(group)
        first, last = f"{found[0]:04X}", f"{found[-1]:04X}"
        spans[kind].append(first if first == last else f"{first} - {last}")
    spans["refused"] = ["any other"]
    return table(("status", "taken as"), ((", ".join(found), _KINDS[kind]) for kind, found in spans.items()))


def troubles() -> str:
    """What stands in the place of a status."""
    return table(
        ("code", "what becomes of the instance", "what is shown"),
        ((f"`{code}`", kind, sentence) for code, (kind, sentence) in statuses.TROUBLES.items()),
    )


# Settings

_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "dicom": config.DicomSection, "pacs": config.PacsSection, "destinations[]": config.DestinationSection,
    "routes[]": Rule, "source": config.SourceSection, "worklist": config.WorklistSection,
    "identity": config.IdentitySection,
}  # fmt: skip
"""The tables of gateway.toml that say something of DICOM."""


def settings() -> str:
    """What can be configured, and what holds without."""
    rows = []
    for section, kind in _SECTIONS.items():
        for field in msgspec.structs.fields(kind):
            rows.append((f"`{section}.{field.encode_name}`", _default(field)))
    return table(("setting", "default"), rows)


def _default(field: Any) -> str:
    if field.required:
        return "must be given"
    value = field.default
    return f"`{value}`" if value not in ("", ()) else "none"
