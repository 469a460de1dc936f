"""Where a data set lands as it arrives: a file that is whole and on disk before the peer is told so.

`Landing` stands where pynetdicom would collect a data set in memory. Each fragment goes to a berth in `incoming`
at once (see `berths`), behind file meta of ours, so memory stays the same whatever the instance's size, and the
disk writes while the peer still sends. `settle` seals the file, forces it to disk, its name being there already, and
gives it its final one; after that, and only then, the peer gets 0x0000. Whatever does not get so far is cleared at
the next start; what was sealed, and whole, is kept then, since its peer may have been answered.
"""

from __future__ import annotations

import errno
import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from clients.gateway.dicom.berths import SEAL, Berths, force, recover, seal, start_writing
from clients.gateway.dicom.header import IDENTITY, check_identity
from clients.gateway.dicom.part10 import FileMeta, encode_meta, write_all
from clients.gateway.dicom.refusals import refuse
from clients.gateway.dicom.structure import read_elements
from clients.gateway.dicom.upper_layer import TooLongError
from clients.gateway.errors import IntakeError

_LOOK_EACH = 2**22
"""Bytes between two looks at the disk's margin: many large instances at once must not eat it up."""
_EARLY = 2**17
"""Bytes from which the disk is told to begin."""
_PAGE = 2**12
"""Where that begins: the page in front of it is written once, with its seal."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Folder:
    """The folder of what arrived, with the room that must stay free on its disk."""

    def __init__(self, path: Path, min_free: int, max_instance: int) -> None:
        self.path, self.min_free, self.max_instance = path, min_free, max_instance
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDONLY)
        self.berths = Berths(path)

    def sweep(self) -> tuple[int, int]:
        """Keeps what an earlier life had whole, and clears the rest; returns how many of each. Raises `OSError`."""
        return recover(self.path)

    def close(self) -> None:
        """Nothing lands here any more, and nothing that is of no use stays."""
        self.berths.close()

    def has_room(self) -> bool:
        """Whether the disk is above its margin."""
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize >= self.min_free


class Announced(msgspec.Struct, frozen=True):
    """What a C-STORE request says of the data set that follows it."""

    sop_class: str
    sop_uid: str
    syntax: str


class Held(io.BytesIO):
    """A data set that stays in memory: of a message that stores nothing."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        """Takes the next fragment. Raises `TooLongError`."""
        if self.tell() + len(data) > self._most:
            raise TooLongError
        return super().write(data)


class Landing(io.BytesIO):
    """One data set on its way to disk. After a failure it swallows the rest, up to a limit, and `settle` tells."""

    def __init__(self, folder: Folder, announced: Callable[[], Announced]) -> None:
        super().__init__()
        self._folder, self._announced = folder, announced
        self._fd = -1
        self._failed: IntakeError | None = None
        self._name = ""
        self._look_at = self._crc = 0
        self._started = _PAGE
        self.size = 0
        """Bytes of the data set so far."""

    def write(self, data: Any) -> int:
        """Takes the next fragment. Raises `TooLongError` where a peer goes on and on."""
        self.size += len(data)
        if self._failed is None:
            try:
                self._write(data)
            except IntakeError as why:
                self._fail(why)
            except OSError as why:
                self._fail(_refusal(why))
        elif self.size > 2 * self._folder.max_instance:
            raise TooLongError
        return len(data)

    def _write(self, data: Any) -> None:
        if self.size > self._folder.max_instance:
            raise refuse("dicom-too-large")
        if self.size >= self._look_at:
            self._look_at = self.size + _LOOK_EACH
            if not self._folder.has_room():
                raise refuse("disk-full")
        if self._fd < 0:
            what = self._announced()
            head = encode_meta(what.sop_class, what.sop_uid, what.syntax)
            self.meta = FileMeta(what.sop_class, what.sop_uid, what.syntax, len(head))
            self._name, self._fd = self._folder.berths.take()
            self._crc = zlib.crc32(head[SEAL:])
            write_all(self._fd, head, data)
        else:
            write_all(self._fd, data)
        self._crc = zlib.crc32(data, self._crc)
        if (end := self._end) - self._started >= _EARLY:
            start_writing(self._fd, self._started, end)
            self._started = end

    @property
    def _end(self) -> int:
        return self.meta.data_offset + self.size

    def _fail(self, why: IntakeError) -> None:
        """It will not be stored; `why` is told at the end of the message."""
        self._failed = why
        self.discard()

    def check(self) -> None:
        """Everything that came is in the file, and it is a data set from end to end. Raises `IntakeError`."""
        if self._failed is not None:
            raise self._failed
        if self._fd < 0:
            raise refuse("dicom-truncated")
        found = read_elements(self._read, self.meta.data_offset, self._end, self.meta.syntax, IDENTITY)
        check_identity(found, self.meta)

    def _read(self, at: int, length: int) -> bytes:
        return os.pread(self._fd, length, at)

    def settle(self) -> str:
        """The file is on disk under its final name, which is returned. Raises `IntakeError`; nothing is left then."""
        try:
            os.pwrite(self._fd, seal(self._end, self._crc), 0)
            force(self._fd)
            name = self._folder.berths.leave(self._name)
        except OSError as why:
            self.discard()
            raise _refusal(why) from None
        os.close(self._fd)
        self._fd = -1
        return name

    def discard(self) -> None:
        """Takes the file away, unless it has settled."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        self._folder.berths.clear(self._name)


def _refusal(why: OSError) -> IntakeError:
    return refuse("disk-full" if why.errno in _NO_ROOM else "dicom-unreadable")
