"""How a search and a pull end, in words: what happened, and who has to do what next (PS3.4 C.4.1.1.4, C.4.2.1.5).

A PACS says why a C-MOVE failed by a status, and each maker by another one: an unknown destination is A801 in the
standard and C000 at Orthanc. So the sentence names the likeliest cause and the one number its log is searched by.
"""

from __future__ import annotations

import msgspec

from clients.gateway.dicom.source import Matches
from clients.gateway.dicom.statuses import TROUBLES

CANCELLED = 0xFE00
_PARTLY = 0xB000
_UNKNOWN_DESTINATION = 0xA801


class Reach(msgspec.Struct, frozen=True):
    """How the archive reaches us, for its administrator."""

    aet: str
    address: str


_OWN = {
    "source-none": "No PACS is set as a source. Set [source] in gateway.toml, or send the study from the PACS.",
    "source-no-scp": "A C-MOVE needs this gateway's receiver, and it does not run. Start `trauma-transfer gateway run`,"
    ' or set retrieve = "get" in [source].',
    "source-no-move": "The PACS does not let this gateway move studies (C-MOVE). Ask its administrator to allow it, or"
    ' set retrieve = "get" in [source].',
    "source-no-get": "The PACS does not let this gateway get studies (C-GET). Ask its administrator to allow it, or set"
    ' retrieve = "move" in [source].',
    "source-refused": "The PACS cannot be asked for this study. Search for it and choose it again.",
    "source-too-many": "The study has more images than can be listed. Ask the PACS to send it.",
    "pacs-query": "The PACS does not answer queries (C-FIND) of this gateway. Ask its administrator to allow them.",
    "pacs-lost": "The connection to the PACS broke in the middle. Get the study again: what is here is not lost.",
    "pacs-late": "The PACS did not answer in time. Get the study again; look at the PACS if this stays.",
    "dicom-child": "The query was cut off here. Try again.",
    "pull-absent": "The PACS does not list this study any more. Search again.",
    "pull-silent": "Nothing came from the PACS for two minutes, so it was stopped. Look at the PACS and get it again.",
    "pull-many": "Too many studies are waiting to be fetched. Wait until some are here.",
    "pull-failed": "The PACS could not send every image. Get the study again, or ask its administrator.",
    "pull-changed": "The PACS got more images of the study meanwhile. Get it again.",
    "pull-refused": "Images came that cannot be used here. Ask the PACS administrator to look at the study.",
}


def trouble(code: str) -> str:
    """Why there was no status."""
    if code in _OWN:
        return _OWN[code]
    text = TROUBLES[code][1] if code in TROUBLES else _OWN["dicom-child"]
    return text.replace("pacs.", "source.")


def query_refused(status: int) -> str:
    """A C-FIND that ended with a failure."""
    if status >> 8 == 0xA7:
        return f"The PACS is too busy to search just now (status {status:04X}). Try again in a minute."
    if status == 0x0124:
        return (
            "The PACS does not allow this gateway to search (status 0124). Ask its administrator to allow it."
        )
    return f"The PACS could not answer the search (status {status:04X}). Ask its administrator to look at its log."


def retrieve_refused(status: int, how: str, reach: Reach) -> str:
    """A C-MOVE or C-GET that ended with a failure."""
    known = f"Its administrator must enter AE title {reach.aet} at {reach.address} as a destination."
    if how == "move" and status == _UNKNOWN_DESTINATION:
        return f"The PACS does not know where to send the images (status A801). {known}"
    if how == "move" and status >> 12 == 0xC:
        return f"The PACS could not send the study (status {status:04X}); most often it does not know us. {known}"
    if status == 0xA702 and how == "move":
        return f"The PACS could not reach this gateway (status A702). {known}"
    if status >> 8 == 0xA7:
        return f"The PACS has no room or time for this now (status {status:04X}). Get the study again in a minute."
    if status == 0x0124:
        return "The PACS does not allow this gateway to get studies (status 0124). Ask its administrator to allow it."
    return (
        f"The PACS refused to send the study (status {status:04X}). Ask its administrator to look at its log."
    )


def went_through(status: int | None) -> bool:
    """Whether the archive says that it did what it could."""
    return status in (0x0000, _PARTLY)


def images(number: int) -> str:
    """ "1 image", "312 images"."""
    return f"{number:,} image{'' if number == 1 else 's'}"


def found(count: int, answer: Matches) -> str:
    """What the list does not say by itself."""
    said = []
    if answer.more:
        said.append(f"There are more than these {count}. Search for less: one day, or the accession number.")
    if answer.strangers:
        said.append(
            f"The PACS also sent {answer.strangers} answers that were not asked for. They are not shown."
        )
    if not count and not said:
        said.append(
            "The PACS has no study like this. Check the numbers; a new study may take a moment to get there."
        )
    return " ".join(said)
