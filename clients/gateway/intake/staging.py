"""A found file put into `incoming`, by the same steps as an instance that comes by C-STORE.

`<random>.part` is written, forced to disk, renamed to `<random>.dcm`, and the folder is forced to disk: so a
file of that name is whole, whatever happens. In front of the data set's exact bytes stands our own file meta
(PS3.10 7.1), as in every file of this gateway. Its UIDs are those of the file's meta: whoever reads the header
finds out if the data set has others.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from clients.gateway.dicom.part10 import encode_meta, write_all
from clients.gateway.disk import FULL, sync_folder
from clients.gateway.errors import DiskFullError
from clients.gateway.intake.found import Found, Passed
from clients.gateway.intake.reasons import reject
from clients.gateway.intake.recognise import encapsulated

_CHUNK = 2**20
_RESERVE = 2**28
"""Bytes of disk that an import leaves free: the database must be able to say that it is full."""


class StagedFile(msgspec.Struct, frozen=True):
    """A whole file in `incoming`."""

    path: Path
    data_offset: int
    """Where its data set begins."""
    size: int
    """Bytes of the data set."""


def stage(found: Found, incoming: Path) -> StagedFile:
    """Writes `found` durably. Raises `DiskFullError`, or `IntakeError` for a file that cannot be read to its end."""
    meta = found.meta
    head = encode_meta(meta.sop_class, meta.sop_uid, meta.syntax)
    part = incoming / f"{secrets.token_hex(16)}.part"
    try:
        check_room(found.size, incoming)
        size = _write(found, head, part)
        if meta.data_offset == 0:
            with part.open("rb") as stream:
                stream.seek(len(head))
                if encapsulated(stream, meta.syntax):
                    raise Passed("import-syntax")
        done = part.with_suffix(".dcm")
        os.rename(part, done)
        sync_folder(incoming)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, Passed):
            raise reject(error.code) from None
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFullError from None
        raise
    return StagedFile(done, len(head), size)


def check_room(size: int, incoming: Path) -> None:
    """Raises `DiskFullError` where so many bytes more would leave too little."""
    disk = os.statvfs(incoming)
    if disk.f_bavail * disk.f_frsize < size + _RESERVE:
        raise DiskFullError


def _write(found: Found, head: bytes, part: Path) -> int:
    """Our meta, then the data set's bytes; returns how many these are."""
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(found.head)[found.meta.data_offset :]
        write_all(fd, head, data)
        size = len(data)
        left = found.size - len(found.head)
        while left:
            chunk = _read(found, min(_CHUNK, left))
            write_all(fd, chunk)
            size, left = size + len(chunk), left - len(chunk)
        os.fsync(fd)
    finally:
        os.close(fd)
    return size


def _read(found: Found, size: int) -> bytes:
    """The next bytes; a file that ends before its stated size has been cut off meanwhile."""
    try:
        chunk = found.stream.read(size)
    except OSError:
        raise Passed("import-unreadable") from None
    if not chunk:
        raise Passed("import-unreadable")
    return chunk
