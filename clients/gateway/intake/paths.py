"""What a path holds that can be imported: a folder tree, one file, or a ZIP.

`walk` yields every file it meets, in order, as `Found` or as `Skipped` with a reason; nothing is left out
silently. It holds one file open at a time and no more than a header of it in memory. `stage_all` takes all
of it into `incoming`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from clients.gateway.errors import IntakeError
from clients.gateway.intake import archive, folder
from clients.gateway.intake.folder import Item
from clients.gateway.intake.found import Entry, Found, Limits, Passed, Skipped
from clients.gateway.intake.reasons import reject
from clients.gateway.intake.recognise import HEAD, is_disc_image, recognise
from clients.gateway.intake.staging import StagedFile, stage


def walk(path: Path, limits: Limits = Limits()) -> Iterator[Found | Skipped]:  # noqa: B008 (frozen)
    """Everything at `path`. Use each `Found` before asking for the next: its stream is closed then.

    Raises `IntakeError` (`import-absent`, `import-unreadable`, `import-zip-broken`, `import-zip-bomb`) where
    there is nothing to walk.
    """
    left = limits.total_bytes
    for index, item in enumerate(_items(path, limits), 1):
        if not isinstance(item, Entry):
            yield Skipped(index, *item)
            continue
        if item.size > left:
            yield Skipped(index, item.label, "import-too-much")
            return
        try:
            head = _head(item)
            meta = recognise(head)
        except Passed as why:
            yield Skipped(index, item.label, why.code)
            continue
        left -= item.size
        yield Found(index, item.label, item.size, meta, head, item.stream, item.name)


def stage_again(path: Path, name: str, size: int, incoming: Path, limits: Limits = Limits()) -> StagedFile:  # noqa: B008 (frozen)
    """Stages the one file below the folder `path` that a walk met under `name`, of `size` bytes.

    Raises `DiskFullError`, or `IntakeError` where the file is not that any more or cannot be read to its end.
    """
    try:
        with folder.again(path, name, limits) as item:
            if item.size != size:
                raise Passed("import-changed")
            head = _head(item)
            return stage(Found(1, item.label, item.size, recognise(head), head, item.stream), incoming)
    except Passed as why:
        raise reject(why.code) from None


def stage_all(
    path: Path,
    incoming: Path,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> tuple[list[Path], list[tuple[str, str]]]:
    """Stages all that `path` holds: the files in `incoming`, and (label, code) of what was passed over.

    All or nothing where it raises: `DiskFullError`, or `IntakeError` where nothing can be walked.
    """
    staged: list[Path] = []
    skipped: list[tuple[str, str]] = []
    try:
        for item in walk(path, limits):
            if isinstance(item, Skipped):
                skipped.append((item.label, item.code))
                continue
            try:
                staged.append(stage(item, incoming).path)
            except IntakeError as error:
                skipped.append((item.label, error.code))
    except BaseException:
        for file in staged:
            file.unlink(missing_ok=True)
        raise
    return staged, skipped


def _items(path: Path, limits: Limits) -> Iterator[Item]:
    """The entries of whatever is at `path`."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            yield from folder.tree(path, limits)
            return
        if not stat.S_ISREG(mode):
            raise reject("import-not-file")
        real = path.resolve(strict=True)
        with real.open("rb") as stream:
            packed = archive.is_zip(stream)
            if is_disc_image(stream.read(HEAD)):  # larger than any one file may be
                raise reject("import-iso")
        yield from archive.members(real, limits) if packed else folder.one_file(real, limits)
    except FileNotFoundError:
        raise reject("import-absent") from None
    except OSError:
        raise reject("import-unreadable") from None


def _head(item: Entry) -> bytes:
    """The first bytes of a file, as many as there are up to `HEAD`."""
    head = b""
    want = min(HEAD, item.size)
    try:
        while len(head) < want:
            chunk = item.stream.read(want - len(head))
            if not chunk:
                raise Passed("import-unreadable")
            head += chunk
    except OSError:
        raise Passed("import-unreadable") from None
    return head
