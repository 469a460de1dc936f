"""What became of a C-STORE or a C-FIND, for the ledger and for people (PS3.4 B.2.3, C.4.1.1.4, PS3.7 C).

ok        the PACS has the instance
warning   it has it, with a note: coerced, or elements that it did not like; or it had it before
retry     not now: out of resources, or the PACS is away
refused   it will not take this instance; sending it again changes nothing
unknown   no answer came. It may be stored: ask by C-FIND, or send it again; a PACS takes the same instance twice as one
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["ok", "warning", "retry", "refused", "unknown"]
_DUPLICATE, _FAILURE, _BUSY = 0x0111, 0x0110, {0x0210, 0x0213}


class StoreResult(msgspec.Struct, frozen=True):
    """One C-STORE. `status` is the PACS's own, None if it gave none; `code` is ours, empty if all is well."""

    status: int | None
    kind: Kind
    sentence: str
    code: str = ""


class EchoResult(msgspec.Struct, frozen=True):
    """Whether a PACS answers, and what to do if not."""

    ok: bool
    sentence: str
    code: str = ""


class FindResult(msgspec.Struct, frozen=True):
    """Whether a PACS says that it has an instance; None where it does not say. `code` is ours, empty if it does."""

    there: bool | None
    sentence: str
    code: str = ""


class CommitResult(msgspec.Struct, frozen=True):
    """Whether a PACS took a request for storage commitment; `code` is ours, empty if it did."""

    ok: bool
    sentence: str
    code: str = ""


TROUBLES: dict[str, tuple[Kind, str]] = {
    "pacs-down": ("retry", "The PACS cannot be reached at its address. Check that it runs, and the network."),
    "pacs-silent": (
        "retry",
        "The PACS takes the connection but does not answer. Check that its DICOM service runs.",
    ),
    "pacs-tls": (
        "retry",
        "The PACS takes the connection but no TLS 1.2 or 1.3 comes about. Check that its port is the one for TLS.",
    ),
    "pacs-certificate": (
        "retry",
        "The certificate of the PACS is not trusted, not valid now, or made out to another name."
        " Check pacs.tls_ca and pacs.tls_name in gateway.toml.",
    ),
    "pacs-tls-refused": (
        "retry",
        "The PACS ended the TLS connection: it does not know this gateway's certificate."
        " Give its administrator pacs.tls_cert or its CA.",
    ),
    "pacs-tls-files": (
        "retry",
        "The certificate, key or CA file for the PACS cannot be used. Check pacs.tls_cert, tls_key and tls_ca.",
    ),
    "pacs-calling-aet": (
        "retry",
        "The PACS does not know this gateway. Ask its administrator to add this gateway's AE title and address.",
    ),
    "pacs-called-aet": (
        "retry",
        "The PACS has another AE title than the one that is set. Correct pacs.aet in gateway.toml.",
    ),
    "pacs-busy": ("retry", "The PACS takes no more associations just now. It is tried again."),
    "pacs-rejected": (
        "retry",
        "The PACS rejected the association. Ask its administrator to look at its log.",
    ),
    "pacs-aborts": (
        "retry",
        "The PACS ends each association as it begins (A-ABORT), which is no rejection with a reason."
        " Ask its administrator to look at its log, and whether it knows this gateway.",
    ),
    "pacs-lost": ("unknown", "The connection to the PACS broke before it answered. The image is sent again."),
    "pacs-late": ("unknown", "The PACS did not answer in time. The image is sent again."),
    "pacs-context": (
        "refused",
        "The PACS does not take this kind of image in this transfer syntax. Ask its administrator to allow it.",
    ),
    "pacs-syntax": (
        "refused",
        "The PACS does not take this image's transfer syntax, and the image has no other form without loss."
        " Ask its administrator to allow it.",
    ),
    "pacs-verification": (
        "refused",
        "The PACS answers, but does not allow a C-ECHO. Ask its administrator to allow Verification.",
    ),
    "pacs-query": (
        "refused",
        "The PACS does not answer queries (C-FIND) of this gateway. Ask its administrator to allow them.",
    ),
    "pacs-commit": (
        "refused",
        "The PACS does not offer storage commitment to this gateway. Ask its administrator whether it can.",
    ),
    "dicom-child": ("unknown", "The DICOM sender had to be started again. The image is sent again."),
    "dicom-unreadable": (
        "refused",
        "The file that was to be stored cannot be read. Check the gateway's disk.",
    ),
    "dicom-uid-mismatch": ("refused", "The file that was to be stored is of another instance."),
}
"""What can stand in a status's place."""


def classify(status: int) -> Kind:
    """What a status means for the instance."""
    if status == 0x0000:
        return "ok"
    if status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116, _DUPLICATE):
        return "warning"
    if status >> 8 == 0xA7 or status == _FAILURE or status in _BUSY:
        return "retry"
    return "refused"


_ANSWERS: dict[Kind, tuple[str, str]] = {
    "ok": ("Stored.", ""),
    "warning": ("Stored; the PACS made a note (status {:04X}).", ""),
    "retry": ("The PACS cannot take images just now (status {:04X}). It is tried again.", "pacs-resources"),
    "refused": (
        "The PACS refused the image (status {:04X}). Ask its administrator to look at its log.", "pacs-refused",
    ),
}  # fmt: skip


def answered(status: int) -> StoreResult:
    """The result of a status."""
    kind = classify(status)
    sentence, code = _ANSWERS[kind]
    return StoreResult(status, kind, sentence.format(status), code)


def troubled(code: str) -> StoreResult:
    """The result where there is no status."""
    kind, sentence = TROUBLES[code]
    return StoreResult(None, kind, sentence, code)


def found(status: int | None, trouble: str, *, there: bool) -> FindResult:
    """The result of a C-FIND."""
    if status is None:
        return FindResult(None, TROUBLES[trouble][1], trouble)
    if status != 0x0000:
        return FindResult(None, f"The PACS could not answer the query (status {status:04X}).", "pacs-query")
    return FindResult(there, "The PACS has the image." if there else "The PACS does not have the image.")


def requested(status: int | None, trouble: str) -> CommitResult:
    """The result of an N-ACTION."""
    if status is None:
        return CommitResult(False, TROUBLES[trouble][1], trouble)
    if status != 0x0000:
        sentence = f"The PACS refused to be asked for storage commitment (status {status:04X})."
        return CommitResult(False, sentence, "pacs-commit")
    return CommitResult(True, "The PACS will report which images are safe.")
