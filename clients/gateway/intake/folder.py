"""A folder tree, or one file, as entries.

Everything is opened relative to a folder that is open already and without following links, so that nothing outside
of what was asked for can be reached: not by a link on the disc, and not by one that is slipped in meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path

from clients.gateway.intake.found import Entry, Limits, Passed, label

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Not blocking: a named pipe must not hold the import up."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Item = Entry | tuple[str, str]
"""An entry, or the label and code of one that is passed over."""


def one_file(path: Path, limits: Limits) -> Iterator[Item]:
    """The file at `path`."""
    yield from _file(os.fspath(path), None, path.name, limits)


def tree(path: Path, limits: Limits) -> Iterator[Item]:
    """All files below `path`, folder by folder, by name. Ends with `import-too-much` where there are too many."""
    fd = os.open(path, _FOLDER & ~os.O_NOFOLLOW)
    try:
        yield from _Tree(limits).walk(fd, "", 0)
    finally:
        os.close(fd)


@contextlib.contextmanager
def again(path: Path, name: str, limits: Limits) -> Iterator[Entry]:
    """The file that `tree` met under this name, open. Raises `Passed` where it is not there in that way any more."""
    *folders, last = name.split("/")
    with contextlib.ExitStack() as ends:
        try:
            fd = os.open(path, _FOLDER & ~os.O_NOFOLLOW)
            ends.callback(os.close, fd)
            for folder in folders:
                fd = os.open(folder, _FOLDER, dir_fd=fd)
                ends.callback(os.close, fd)
        except OSError:
            raise Passed("import-unreadable") from None
        items = _file(last, fd, name, limits)
        ends.callback(items.close)
        item = next(items)
        if not isinstance(item, Entry):
            raise Passed(item[1])
        yield item


class _Tree:
    def __init__(self, limits: Limits) -> None:
        self._limits, self._left = limits, limits.entries

    def walk(self, fd: int, above: str, depth: int) -> Iterator[Item]:
        if depth > self._limits.depth:
            yield label(above), "import-too-deep"
            return
        try:
            with os.scandir(fd) as scan:
                entries = sorted(islice(scan, self._left + 1), key=lambda entry: entry.name)
        except OSError:
            yield label(above or "."), "import-unreadable"
            return
        for entry in entries:
            if self._left <= 0:
                yield label(above or "."), "import-too-much"
                return
            self._left -= 1
            name = above + entry.name
            if entry.is_symlink():
                yield label(name), "import-link"
            elif entry.is_dir(follow_symlinks=False):
                yield from self._folder(entry.name, fd, name + "/", depth + 1)
            else:
                yield from _file(entry.name, fd, name, self._limits)

    def _folder(self, name: str, fd: int, above: str, depth: int) -> Iterator[Item]:
        try:
            inner = os.open(name, _FOLDER, dir_fd=fd)
        except OSError:
            yield label(above), "import-unreadable"
            return
        try:
            yield from self.walk(inner, above, depth)
        finally:
            os.close(inner)


def _file(name: str, fd: int | None, shown: str, limits: Limits) -> Generator[Item, None, None]:
    """One file, open while it is the current one."""
    try:
        file = os.open(name, _FILE, dir_fd=fd)
    except OSError:
        yield label(shown), "import-unreadable"
        return
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise Passed("import-not-file")
            if status.st_size > limits.file_bytes:
                raise Passed("import-too-big")
        except Passed as why:
            yield label(shown), why.code
            return
        yield Entry(label(shown), status.st_size, stream, shown)
