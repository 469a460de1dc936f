"""A ZIP file as entries (APPNOTE.TXT 6.3). Nothing is unpacked to where its names say: names are only shown.

What a hostile ZIP can do, and what stops it:

- an index that fills the memory: its size is capped before it is read;
- a small file that grows: each entry by the size that it states, which `zipfile` holds it to; a large one by
  its ratio; all of them by the import's total;
- entries that overlap, so that one block is unpacked a thousand times: together they may not be larger than
  the file;
- a ZIP in a ZIP: not opened; a link, a password, a method other than stored and deflated: passed over by name.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from clients.gateway.intake.folder import Item
from clients.gateway.intake.found import Entry, Limits, Passed, label
from clients.gateway.intake.reasons import reject

BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, LookupError, NotImplementedError,
    RuntimeError, OSError,
)  # fmt: skip
"""What `zipfile` raises for a broken or hostile ZIP: it has no one error for it."""
_ENCRYPTED = 0x1
_SLACK = 1.01


def is_zip(stream: BinaryIO) -> bool:
    """Whether a file begins as a ZIP does; also one whose end is missing."""
    start = stream.read(4)
    stream.seek(0)
    return start in (b"PK\3\4", b"PK\5\6")


def members(path: Path, limits: Limits) -> Iterator[Item]:
    """The files in the ZIP at `path`, in its own order. Raises `IntakeError` where it cannot be opened at all."""
    with _Capped(io.FileIO(path), limits.index_bytes) as raw:
        try:
            archive = zipfile.ZipFile(raw)
        except BROKEN:
            raise reject("import-zip-broken") from None
        with archive:
            infos = archive.infolist()
            if sum(info.compress_size for info in infos) > path.stat().st_size * _SLACK + 1024:
                raise reject("import-zip-bomb")
            for info in infos[: limits.entries]:
                if not info.filename.endswith("/"):
                    yield from _member(archive, info, limits)
            if len(infos) > limits.entries:
                yield label(path.name), "import-too-much"


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits) -> Iterator[Item]:
    shown = label(info.filename)
    try:
        _check(info, limits)
        stream = archive.open(info)
    except Passed as why:
        yield shown, why.code
        return
    except BROKEN:
        yield shown, "import-zip-damaged"
        return
    with stream:
        yield Entry(shown, info.file_size, cast(BinaryIO, _Named(stream, info.file_size)))


def _check(info: zipfile.ZipInfo, limits: Limits) -> None:
    """Passes over what is not unpacked, before a byte of it is."""
    if stat.S_ISLNK(info.external_attr >> 16):
        raise Passed("import-zip-link")
    if info.flag_bits & _ENCRYPTED:
        raise Passed("import-zip-encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Passed("import-zip-method")
    if info.file_size > limits.file_bytes:
        raise Passed("import-too-big")
    if info.file_size > limits.ratio_from and info.file_size > limits.ratio * max(1, info.compress_size):
        raise Passed("import-zip-bomb")


class _Capped(io.BufferedReader):
    """A file of which no more than so much is read at once: `zipfile` reads the whole index in one go."""

    def __init__(self, raw: io.FileIO, cap: int) -> None:
        super().__init__(raw)
        self._cap = cap

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._cap + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, self._cap + 1))
        if len(data) > self._cap:
            raise zipfile.BadZipFile
        return data


class _Named(io.RawIOBase):
    """An entry of `size` bytes whose every failure to be read to its end has one name."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._stream.read(size)
        except BROKEN:
            raise Passed("import-zip-damaged") from None
        if not data and size and self._left:
            raise Passed("import-zip-damaged")
        self._left -= len(data)
        return data
