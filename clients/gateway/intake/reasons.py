"""Why a file of an import is passed over: a stable code, and a sentence with the next step.

Files that are DICOM but unusable keep the codes of `clients.gateway.dicom.refusals`.
"""

from __future__ import annotations

from clients.gateway.dicom.refusals import REFUSALS
from clients.gateway.errors import IntakeError

REASONS = {
    "import-absent": "There is nothing at this path. Check the path and the disc, and import again.",
    "import-unreadable": "The file cannot be read. Check the disc and the file's permissions, and import again.",
    "import-changed": "What is at the path was changed while it was being read. Wait until the copy is complete, and"
    " send it again.",
    "import-not-file": "This is no ordinary file. Copy the study into a folder and import that.",
    "import-link": "This is a link to another place and was not followed. Import that place itself.",
    "import-empty": "The file is empty. Copy it again from its source.",
    "import-not-dicom": "The file is not DICOM. Nothing needs to be done if it is a viewer or a note on the disc.",
    "import-dicomdir": "This is the index of a disc and not an image. The images themselves are imported.",
    "import-syntax": "The file does not say how its image is compressed. Export it again with file meta information.",
    "import-too-big": "The file is larger than one image may be. Send it from its PACS by DICOM instead.",
    "import-too-much": "The import reached its limit here. Split what is left into several imports.",
    "import-too-deep": "The folders are nested too deeply. Import the inner folder by itself.",
    "import-zip-broken": "The ZIP file is damaged or cut off. Copy it again from its source.",
    "import-zip-damaged": "This file in the ZIP is damaged. Make the ZIP again from its source.",
    "import-zip-encrypted": "This file in the ZIP has a password. Unpack it first and import the folder.",
    "import-zip-method": "This file in the ZIP is packed in an unusual way. Unpack it first and import the folder.",
    "import-zip-bomb": "The ZIP file would grow beyond any real study. Unpack it first and import the folder.",
    "import-zip-link": "The ZIP holds a link here, which was not followed. Import the file itself.",
    "dicom-two-patients": "Two patients are in one study. Ask its source to send them apart, and do not use it before.",
    "dicom-conflict": "An image is here already with other content. Ask the study's source which of the two is right.",
    "import-iso": "This is the image of a disc. Open it as a disc (mount it), and import the folder that appears.",
    "import-zip-nested": "This is a ZIP file inside of what is imported. Import it by itself.",
}


def sentence(code: str) -> str:
    """What a person reads for `code`."""
    return REASONS.get(code) or (REFUSALS[code].sentence if code in REFUSALS else IntakeError().sentence)


def reject(code: str) -> IntakeError:
    """The error of a code."""
    return IntakeError(sentence(code), code=code)
