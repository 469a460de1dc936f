"""The vault: secrets at rest are sealed under the site key (protocol s. 1).

The site key is 32 bytes in `DIR/site.key` (mode 0600), or a systemd credential of that name. It protects
the database file where it is copied without the key (a backup, a support case); whoever has both has all.
Each purpose has a key of its own, so that one column's ciphertext means nothing in another.
"""

from __future__ import annotations

import os
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from clients.gateway.errors import ConfigError
from transfer.encoding import hkdf

SIZE = 32


class Vault:
    """Seals and unseals short secrets."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def key(self) -> bytes:
        """The site key itself: for a backup, and nothing else."""
        return self._key

    def __repr__(self) -> str:
        return "Vault(...)"

    @classmethod
    def load(cls, folder: Path) -> Vault:
        """From the systemd credential, else from the file. Raises `ConfigError`."""
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        path = Path(credentials) / "site.key" if credentials else folder / "site.key"
        if not path.exists():
            path = folder / "site.key"
        try:
            key = path.read_bytes()
        except OSError:
            raise ConfigError("The site key is missing. Restore site.key from the backup.") from None
        if len(key) != SIZE:
            raise ConfigError("The site key is damaged. Restore site.key from the backup.")
        return cls(key)

    @staticmethod
    def create(folder: Path) -> Vault:
        """Makes a new site key file, readable by its owner alone."""
        key = os.urandom(SIZE)
        fd = os.open(folder / "site.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return Vault(key)

    def seal(self, purpose: str, plain: bytes) -> bytes:
        """`plain` sealed for one purpose."""
        label = purpose.encode()
        return bytes(Aead(hkdf(self._key, b"", b"tt1/vault/" + label)).encrypt(plain, label, os.urandom(24)))

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """What was sealed for this purpose. Raises `ConfigError` where the key is another one."""
        label = purpose.encode()
        try:
            return Aead(hkdf(self._key, b"", b"tt1/vault/" + label)).decrypt(sealed, label)
        except (CryptoError, ValueError):
            raise ConfigError(
                "The site key does not fit the database. Restore both from one backup."
            ) from None
