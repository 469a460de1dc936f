"""What an import comes across: files to take, files passed over, and how much of either is too much.

A name on a disc is written by a stranger, and often has a patient in it. It never becomes part of a path, a log
line or an error; staff see it as a `label`, made safe to show.
"""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from clients.gateway.dicom.part10 import FileMeta
from clients.gateway.intake.reasons import sentence

_LABEL = 80


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one import."""

    entries: int = 100_000
    """Files, folders and links together."""
    file_bytes: int = 2**31
    total_bytes: int = 2**38
    depth: int = 32
    """Folders within folders."""
    ratio: int = 400
    """How often larger a large file may be than its packed form. Blank images can do a thousand."""
    ratio_from: int = 2**26
    """Bytes from which on a file counts as large."""
    index_bytes: int = 2**26
    """Bytes of a ZIP's central directory."""


class Entry(msgspec.Struct, frozen=True):
    """A file at hand, not looked into yet. `stream` is open until the next entry is asked for."""

    label: str
    size: int
    stream: BinaryIO
    name: str = ""
    """Where it is below the folder that is imported, as the disk spells it: to open it again, never to show."""


class Found(msgspec.Struct, frozen=True):
    """A DICOM file, or a bare data set. Read it before the next one is asked for: `stream` is closed then."""

    index: int
    """Its place in the import, from 1; the only identity it has."""
    label: str
    size: int
    """Bytes of the file."""
    meta: FileMeta
    """What its file meta says; for a bare data set, what the data set itself says."""
    head: bytes
    """The first bytes of it, as far as they are read already; `stream` goes on behind them."""
    stream: BinaryIO
    name: str = ""
    """As in `Entry`."""


class Skipped(msgspec.Struct, frozen=True):
    """A file or link that is passed over, and why."""

    index: int
    label: str
    code: str

    @property
    def sentence(self) -> str:
        """The reason in words."""
        return sentence(self.code)


class Passed(Exception):
    """The reason to pass over what is at hand; never leaves this room."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def label(name: str) -> str:
    """`name` fit to be shown: printable, its last 80 characters."""
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name.strip()) or "?"
    return safe if len(safe) <= _LABEL else "…" + safe[1 - _LABEL :]
