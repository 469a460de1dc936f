"""Files that are whole after a power cut, or not there; and when a disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from clients.gateway.errors import DiskFullError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""`OSError.errno` where there is no room, on the disk or for this user."""


def sync_folder(folder: Path) -> None:
    """Forces a folder's names to disk: what was renamed into it stays there."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file so that it is whole on disk, or not there, after a power cut. Raises `DiskFullError`, `OSError`."""
    part = path.with_suffix(".part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as why:  # the next attempt writes over the part
        if why.errno in FULL:
            raise DiskFullError from None
        raise
