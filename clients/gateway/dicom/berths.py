"""Berths: files whose names are on disk before anything is written into them, and what a crash left in them.

A file that is forced to disk is not there after a power cut unless its name is forced as well (fsync(2)), and both
are a commit of the file system's journal. So names are made ahead, sixteen at a time, in a folder of their own in
`incoming`, and that folder is forced once for all sixteen. What lands takes the next name, fills the file, seals it,
and forces that one file: no more stands between a whole instance and 0x0000. Its final name, `incoming/<name>.dcm`,
is given after that and is not forced. Where a power cut takes it back, the berth is there again under the name it
had, and `recover` gives it the final one once more.

The seal tells whole from half: the length of the file and a CRC-32 of all that follows, in the preamble, which
PS3.10 7.1 leaves to the implementation. It is written last, but a disk writes in an order of its own; the CRC notices
a page that never came. It guards against accidents only: who can write here needs no collision.

Several processes may receive into one `incoming`. Each holds a lock (flock(2)) on its folder of berths as long as it
lives, so `recover` can run at any moment and takes up what the dead have left, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from clients.gateway.dicom.part10 import PREAMBLE

WHOLE = ".dcm"
SEAL = 128
"""Bytes of a seal, which stands where the preamble is."""
_MARK = b"LANDED\0\1"
_SEAL = struct.Struct("<8sQL")
_PREFIX = ".landing-"
_AT_ONCE = 16
_PIECE = 2**20
_OPEN = os.O_RDWR | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_START_WRITING = 2
"""SYNC_FILE_RANGE_WRITE (sync_file_range(2))."""

force = getattr(os, "fdatasync", os.fsync)
"""A file's bytes and its length are on disk."""


class Berths:
    """The berths of one process in `incoming`, for all its threads."""

    def __init__(self, incoming: Path) -> None:
        self._incoming, self._lock = incoming, threading.Lock()
        self._whole = os.open(incoming, _FOLDER)
        self._own = -1
        self._free: list[str] = []

    def take(self) -> tuple[str, int]:
        """A name that is on disk, and its empty file. Raises `OSError`."""
        with self._lock:
            if not self._free:
                self._make()
            name = self._free.pop()
        return name, os.open(name, _OPEN, dir_fd=self._own)

    def _make(self) -> None:
        if self._own < 0:
            self._folder, self._own = _own_folder(self._incoming, self._whole)
        made: list[str] = []
        try:
            for _ in range(_AT_ONCE):
                name = secrets.token_hex(16)
                os.close(os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._own))
                made.append(name)
            os.fsync(self._own)
        except OSError:
            for name in made:
                self.clear(name)
            raise
        self._free = made

    def leave(self, name: str) -> str:
        """The file has its final name in `incoming`, which is returned. Raises `OSError`."""
        os.rename(name, name + WHOLE, src_dir_fd=self._own, dst_dir_fd=self._whole)
        return name + WHOLE

    def clear(self, name: str) -> None:
        """What is in this berth will not be wanted."""
        with contextlib.suppress(OSError):  # the next start clears it
            os.unlink(name, dir_fd=self._own)

    def close(self) -> None:
        """Takes away what is free; with the last one its folder goes. Files that still land are left to `recover`."""
        with self._lock:
            free, self._free = self._free, []
            for name in free:
                self.clear(name)
            if self._own >= 0:
                with contextlib.suppress(OSError):
                    os.rmdir(self._folder)
                os.close(self._own)
                self._own = -1


def _own_folder(incoming: Path, whole: int) -> tuple[Path, int]:
    """A new folder of berths, locked, whose name is on disk."""
    path = incoming / (_PREFIX + secrets.token_hex(8))
    with _alone(whole):
        path.mkdir(mode=0o700)
        try:
            own = os.open(path, _FOLDER)
            fcntl.flock(own, fcntl.LOCK_EX)
            os.fsync(whole)
        except OSError:
            path.rmdir()
            raise
    return path, own


def seal(length: int, crc: int) -> bytes:
    """The preamble of a file of `length` bytes; `crc` is that of all behind the preamble."""
    return _SEAL.pack(_MARK, length, crc).ljust(SEAL, b"\0")


def start_writing(fd: int, start: int, end: int) -> None:
    """The kernel begins to write this part of a file, and is not waited for; so there is less to force in the end."""
    if _sync_file_range is not None:
        _sync_file_range(fd, start, end - start, _START_WRITING)


def recover(incoming: Path) -> tuple[int, int]:
    """Gives its final name to each whole file in a berth that no process holds any more, and clears the other ones.

    Returns how many were kept and how many cleared. Raises `OSError`.
    """
    kept = cleared = 0
    whole = os.open(incoming, _FOLDER)
    try:
        with _alone(whole):
            for path in incoming.glob(_PREFIX + "*"):
                with _left(path) as own:
                    for name in [] if own is None else os.listdir(own):
                        if _is_whole(name, own):
                            os.rename(name, name + WHOLE, src_dir_fd=own, dst_dir_fd=whole)
                            kept += 1
                        else:
                            os.unlink(name, dir_fd=own)
                            cleared += 1
                    if own is not None:
                        path.rmdir()
            os.fsync(whole)
    finally:
        os.close(whole)
    return kept, cleared


@contextlib.contextmanager
def _alone(whole: int) -> Iterator[None]:
    """Between the making of a folder and its lock nobody may take it for one that was left."""
    fcntl.flock(whole, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(whole, fcntl.LOCK_UN)


@contextlib.contextmanager
def _left(path: Path) -> Iterator[int | None]:
    """The folder of a process that has ended; None: it lives."""
    own = os.open(path, _FOLDER)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield own
    finally:
        os.close(own)


def _is_whole(name: str, own: int | None) -> bool:
    """Whether a berth holds all that its seal says; then that is on disk now, whatever the dead came to."""
    fd = os.open(name, _OPEN, dir_fd=own)
    try:
        head = os.pread(fd, SEAL, 0)
        if len(head) < SEAL:
            return False
        mark, length, crc = _SEAL.unpack_from(head)
        if mark != _MARK or length != os.fstat(fd).st_size or os.pread(fd, 4, SEAL) != PREAMBLE[SEAL:]:
            return False
        found, at = 0, SEAL
        while piece := os.pread(fd, _PIECE, at):
            found, at = zlib.crc32(piece, found), at + len(piece)
        if found != crc:
            return False
        force(fd)
        return True
    finally:
        os.close(fd)


def _find_sync_file_range() -> ctypes._NamedFuncPointer | None:
    """The call, where the C library has it (Linux)."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_sync_file_range = _find_sync_file_range()
