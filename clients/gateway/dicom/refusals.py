"""Why an instance is not taken: a stable code, a sentence with the next step, and the status that a peer is told.

The statuses are those of the storage service (PS3.4 B.2.3) and of DIMSE (PS3.7 C.5).
"""

from __future__ import annotations

import msgspec

from clients.gateway.errors import IntakeError

SUCCESS = 0x0000
INVALID_INSTANCE = 0x0117
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Refusal(msgspec.Struct, frozen=True):
    """What one code means."""

    sentence: str
    status: int = CANNOT_UNDERSTAND


REFUSALS = {
    "dicom-not": Refusal("The file is not DICOM. Export the study again as DICOM files."),
    "dicom-meta": Refusal(
        "The file does not say what it holds: its DICOM file meta information is missing or broken."
        " Export it again as a DICOM file."
    ),
    "dicom-syntax": Refusal(
        "The image is in a transfer syntax that is not known here. Export it in a standard one."
    ),
    "dicom-truncated": Refusal("The file ends in the middle. Copy or send it again from its source."),
    "dicom-structure": Refusal(
        "The inside of the file is broken: its elements do not fit together. Send it again from its source."
    ),
    "dicom-too-many": Refusal(
        "The file has more elements than any real image. Ask who made it to look at it."
    ),
    "dicom-deflate": Refusal(
        "The compressed file grows beyond what is safe to open. Export it without the deflated transfer syntax."
    ),
    "dicom-charset": Refusal(
        "This name has letters that the study's character set does not have. Write it with plain letters."
    ),
    "dicom-uid": Refusal(
        "An identifier in the file is missing or is no valid UID. Ask who made the file to correct it.",
        INVALID_INSTANCE,
    ),
    "dicom-uid-mismatch": Refusal(
        "The file names another SOP instance outside than inside. Send it again from its source.",
        DOES_NOT_MATCH,
    ),
    "dicom-class": Refusal(
        "The file is not an image or document that a PACS stores (a disc's index, for example)."
        " Choose the files of the study.",
        DOES_NOT_MATCH,
    ),
    "dicom-no-study": Refusal("The file belongs to no study. It cannot be sent as part of one."),
    "dicom-no-series": Refusal("The file belongs to no series. It cannot be sent as part of a study."),
    "dicom-unreadable": Refusal("The file cannot be read. Check the disk, disc or share that it is on."),
    "dicom-too-large": Refusal(
        "The instance is larger than this gateway may take. Raise max_instance_bytes in gateway.toml if it is"
        " real.",
        OUT_OF_RESOURCES,
    ),
    "disk-full": Refusal(
        "The gateway's disk is full. Nothing was lost: free some space and send again.", OUT_OF_RESOURCES
    ),
}


def refuse(code: str) -> IntakeError:
    """The error of a code of `REFUSALS`."""
    return IntakeError(REFUSALS[code].sentence, code=code)
