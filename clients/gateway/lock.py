"""One engine holds a gateway's folder: an advisory lock that the kernel drops with the process, kill -9 included."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from clients.gateway.errors import BusyError, ConfigError


class FolderLock:
    """`DIR/lock`, held until `release` or the end of the process. Raises `BusyError`, `ConfigError`."""

    def __init__(self, folder: Path) -> None:
        try:
            self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            raise ConfigError("The gateway's folder cannot be written. Check its path and rights.") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise BusyError from None

    def release(self) -> None:
        """Lets another program have the folder."""
        os.close(self._fd)
