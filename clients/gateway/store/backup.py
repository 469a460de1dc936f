"""One file that a lost gateway can be made anew from, taken while it runs (docs/adr/0017-gateway-backup.md).

The file is a tar: `backup.json` (what this is, and the SHA-256 of the others), `gateway.toml`, `ladder.toml` where
there is one, `gateway.db` and, unless it is left out, `site.key`. Whoever has the file with the key is this hospital:
it is as secret as the gateway's folder, and written with mode 0600.

SQLite's own backup (its online backup API) copies one committed state and holds nobody up. From the copy
everything is erased that a restored gateway must not go on with, so that a backup gives nobody a study, and the
life of a pre-key stays the limit of forward secrecy (protocol s. 1): keys of studies, codes, channels of phones,
private halves of pre-keys, sessions of staff, and the studies, whose images are not in it. What is left is who
this site is, whom it is paired with, who works here, and the record of what was sent, received and approved.
The copy is marked: it is no gateway's database before `gateway.restore` has ended what was open.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from clients.gateway.disk import FULL, sync_folder
from clients.gateway.errors import ConfigError, DiskFullError
from clients.gateway.ladder import FILE as LADDER
from clients.gateway.store.vault import Vault

DATABASE, SETTINGS, KEY, LABEL = "gateway.db", "gateway.toml", "site.key", "backup.json"
MEMBERS = (SETTINGS, LADDER, DATABASE, KEY)
MARK = "backup"
"""The row of `own` that says: this is a copy."""
VERSION = 1
_SMALL = 2**20
"""No other member than the database is larger."""
_ERASE = """
DELETE FROM sessions;
DELETE FROM attestations;
DELETE FROM prekeys;
UPDATE peers SET prekey=NULL, prekey_exp=0;
UPDATE spools SET k_sealed=NULL;
UPDATE sends SET q_sealed=NULL, pin_sealed=NULL;
UPDATE tries SET proof=NULL, door_sealed=NULL, channel_sealed=NULL, m4=NULL, last_m5=NULL;
UPDATE receives SET k_sealed=NULL;
DELETE FROM outbox WHERE kind='mailbox';
DELETE FROM studies;
DELETE FROM pulls;
DELETE FROM refusals;
DELETE FROM in_packs;
"""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself. `hashes`: SHA-256 of each other member, in hex."""

    v: int
    at: int
    hashes: dict[str, str]


def backup(folder: Path, to: Path, *, now: int, with_key: bool = True) -> None:
    """Writes the new file `to`, whole and durable. Raises `ConfigError`, `DiskFullError`, and leaves nothing then."""
    if not (folder / DATABASE).is_file():
        raise ConfigError("There is no gateway in this folder. Name the folder of a gateway.")
    if to.exists():
        raise ConfigError("The file for the backup is there already and was not touched. Name a new file.")
    try:
        with _beside(to) as work:
            _copy(folder / DATABASE, work / DATABASE, now)
            for name in (SETTINGS, LADDER):
                if name == SETTINGS or (folder / name).exists():
                    shutil.copyfile(folder / name, work / name)
            if with_key:
                _write(work / KEY, Vault.load(folder).key)
            _pack(work, work / "whole", now)
            os.link(work / "whole", to)
        sync_folder(to.parent)
    except sqlite3.Error as why:
        raise _named(why) from None
    except OSError as why:
        if why.errno in FULL:
            raise DiskFullError("The disk for the backup is full. Nothing was written; make room.") from None
        raise ConfigError(
            "The backup cannot be written. Check both paths, their rights and the disk."
        ) from None


@contextmanager
def _beside(to: Path) -> Iterator[Path]:
    """A folder on the same disk that only its owner reads, gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))  # mkdtemp: mode 0700
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(source: Path, target: Path, now: int) -> None:
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        target.chmod(0o600)
        live.execute("PRAGMA busy_timeout=10000").fetchall()
        live.backup(copy)
        for pragma in ("journal_mode=DELETE", "secure_delete=ON", "foreign_keys=ON"):
            copy.execute(f"PRAGMA {pragma}").fetchall()
        copy.executescript(_ERASE)
        copy.execute("INSERT OR REPLACE INTO own (k, v) VALUES (?, ?)", (MARK, str(now).encode()))
        copy.commit()
        copy.execute("VACUUM")  # what was erased is in no free page either
        if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError


def _pack(work: Path, target: Path, now: int) -> None:
    names = [name for name in MEMBERS if (work / name).exists()]
    label = Label(VERSION, now, {name: _hash(work / name) for name in names})
    _write(work / LABEL, msgspec.json.encode(label))
    fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in (LABEL, *names):
                tar.add(work / name, name, filter=_plain)
        file.flush()
        os.fsync(file.fileno())


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names of this machine's users."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def unpack(source: Path, folder: Path, key: Path | None = None) -> Label:
    """Takes the members of a backup into `folder`, each by its name alone; the site key from `key` where it was left
    out. Raises `ConfigError` for what is no whole backup, `DiskFullError`.
    """
    try:
        with tarfile.open(source, "r:") as tar:
            label = msgspec.json.decode(_member(tar, LABEL, _SMALL), type=Label)
            if label.v != VERSION:
                raise ConfigError("This backup is of a later version. Install that version, then restore.")
            for name in MEMBERS:
                if name in label.hashes:
                    _take(tar, name, folder / name, label.hashes[name])
    except (tarfile.TarError, msgspec.MsgspecError, KeyError, EOFError, UnicodeDecodeError):
        raise ConfigError("This file is no whole backup of a gateway. Take another one.") from None
    except OSError as why:
        if why.errno in FULL:
            raise DiskFullError(
                "The disk is too full to restore the backup. Make room; nothing was kept."
            ) from None
        raise ConfigError("The backup cannot be read, or the folder not written. Check both.") from None
    if key is not None:
        try:
            _write(folder / KEY, key.read_bytes())
        except OSError:
            raise ConfigError("The site key cannot be read. Check its path and rights.") from None
    if not (folder / KEY).exists():
        raise ConfigError("This backup was made without the site key. Give it with --key.")
    return label


def _take(tar: tarfile.TarFile, name: str, target: Path, expected: str) -> None:
    size = tar.getmember(name).size
    if name != DATABASE and size > _SMALL:
        raise tarfile.TarError
    member = tar.extractfile(name)
    if member is None:  # a link or a folder
        raise tarfile.TarError
    fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with member, os.fdopen(fd, "wb") as file:
        shutil.copyfileobj(member, file, _SMALL)
        file.flush()
        os.fsync(file.fileno())
    if _hash(target) != expected:
        raise ConfigError("This backup was changed or damaged. Take another one.")


def _member(tar: tarfile.TarFile, name: str, most: int) -> bytes:
    member = tar.extractfile(name)
    if member is None:
        raise tarfile.TarError
    with member:
        return member.read(most)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _named(why: sqlite3.Error) -> Exception:
    if getattr(why, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskFullError("The disk for the backup is full. Nothing was written; make room.")
    return ConfigError(
        "The database of this gateway cannot be copied. Run a gateway of this version once, then try again."
    )
