"""`BlobStore` on files: `DIR/{cid}/{n}-{sha256}`.

What `put` returned from survives a power cut: the bytes go to a file of their own in `DIR/new`, are fsynced,
get their name by link(2), which fails where the name exists, and the folder is fsynced. Whatever lies in
`new` at start is half of something that nobody was told about, and is deleted. No step blocks the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from relay.blobstore import BlobName
from relay.errors import AbsentError, DiskError, GoneError
from transfer.errors import HeaderError
from transfer.ids import Cid

T = TypeVar("T")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_VECTORS = 512
"""Chunks for one writev(2); IOV_MAX is 1024 on Linux."""


class FileBlobs:
    """Files under `folder`; `reserve` bytes of its disk stay free."""

    def __init__(self, folder: Path, *, reserve: int = 0, threads: int = 16) -> None:
        self._folder, self._new, self._reserve = folder, folder / "new", reserve
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
        self._durable: set[Cid] = set()
        """Content ids whose own folder was fsynced into `folder`."""

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def open(self) -> None:
        """Makes the folders and clears what a crash left half."""
        await self._run(self._open)

    def _open(self) -> None:
        self._new.mkdir(mode=0o700, parents=True, exist_ok=True)
        for half in self._new.iterdir():
            half.unlink()
        _sync_folder(self._folder)

    async def close(self) -> None:
        """Waits for what runs."""
        await asyncio.to_thread(self._pool.shutdown)

    async def put(self, name: BlobName, chunks: Sequence[bytes]) -> None:
        """See `BlobStore.put`."""
        await self._run(lambda: self._put(name, chunks))

    def _put(self, name: BlobName, chunks: Sequence[bytes]) -> None:
        half = self._new / secrets.token_hex(16)
        try:
            self._check_room(sum(map(len, chunks)))
            _write_file(half, chunks)
            folder = self._folder_of(name.cid)
            try:
                os.link(half, folder / name.file)
            except FileExistsError:
                os.replace(half, folder / name.file)  # the same bytes; these are certainly whole
            except FileNotFoundError:
                raise GoneError from None  # erased in between
            _sync_folder(folder)
        except OSError as why:
            if why.errno in _FULL:
                raise DiskError from None
            raise
        finally:
            half.unlink(missing_ok=True)

    def _check_room(self, size: int) -> None:
        if self._room() < size:
            raise DiskError

    async def room(self) -> int:
        """See `BlobStore.room`."""
        try:
            return await self._run(self._room)
        except OSError:
            raise DiskError from None

    def _room(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize - self._reserve

    def _folder_of(self, cid: Cid) -> Path:
        """The content id's folder, itself durable: not only made, since another thread may just have made it."""
        folder = self._folder / cid.hex()
        if cid not in self._durable:
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._folder)
            if len(self._durable) > 10_000:
                self._durable.clear()
            self._durable.add(cid)
        return folder

    async def read(self, name: BlobName, start: int, length: int) -> bytes:
        """See `BlobStore.read`."""
        return await self._run(lambda: self._read(name, start, length))

    def _read(self, name: BlobName, start: int, length: int) -> bytes:
        try:
            fd = os.open(self._folder / name.cid.hex() / name.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise AbsentError from None
        try:
            return os.pread(fd, length, start)
        finally:
            os.close(fd)

    async def drop(self, name: BlobName) -> None:
        """See `BlobStore.drop`."""
        await self._run(lambda: (self._folder / name.cid.hex() / name.file).unlink(missing_ok=True))

    async def broken(self, names: Mapping[BlobName, int]) -> list[BlobName]:
        """See `BlobStore.broken`."""
        return await self._run(lambda: [name for name, size in names.items() if self._size(name) != size])

    def _size(self, name: BlobName) -> int:
        try:
            return os.stat(self._folder / name.cid.hex() / name.file).st_size
        except FileNotFoundError:
            return -1

    async def erase(self, cid: Cid) -> None:
        """See `BlobStore.erase`."""
        await self._run(lambda: self._erase(cid))

    def _erase(self, cid: Cid) -> None:
        self._durable.discard(cid)
        try:
            shutil.rmtree(self._folder / cid.hex())
        except FileNotFoundError:
            return
        _sync_folder(self._folder)

    async def cids(self) -> list[Cid]:
        """See `BlobStore.cids`. Anything else that lies in the folder is left alone."""
        return await self._run(self._cids)

    def _cids(self) -> list[Cid]:
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    found.append(Cid.from_hex(entry.name))
                except HeaderError:
                    continue
        return found


def _write_file(path: Path, chunks: Sequence[bytes]) -> None:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        for first in range(0, len(chunks), _VECTORS):
            _write_all(fd, chunks[first : first + _VECTORS])
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, chunks: Sequence[bytes]) -> None:
    """All of `chunks`; a disk that is nearly full takes a part first and then says so."""
    todo: list[bytes | memoryview] = list(chunks)
    while todo:
        done = os.writev(fd, todo)
        while todo and done >= len(todo[0]):
            done -= len(todo.pop(0))
        if done:
            todo[0] = memoryview(todo[0])[done:]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
