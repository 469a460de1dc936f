"""One item of the stream made into the file that goes to the PACS.

What comes out of the decoder is held to the manifest first: SHA-256 of the whole original data set, and the data
set's own SOP class and instance (a PACS would file a wrong one under another's name). Only then is the identity
changed, if it is (`identity`), and every byte beside it is proved to be as it was before the file is used.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from clients.gateway import codec
from clients.gateway.dicom.coercion import Change, coerce, rest_hash
from clients.gateway.dicom.header import InstanceHeader, parse_header
from clients.gateway.dicom.part10 import write_part10
from clients.gateway.disk import FULL
from clients.gateway.errors import IntakeError
from transfer.errors import HashError
from transfer.messages import ItemEntry


def restore(item: ItemEntry, coded: bytes, path: Path) -> InstanceHeader | None:
    """Writes the original instance, for whoever is to be asked about it; None where the disk is full.

    Raises `CodecError`, `HashError`, `IntakeError`.
    """
    data = codec.decode(item.codec, coded, item.original)
    if hashlib.sha256(data).digest() != item.hash:
        raise HashError
    return _write(item, data, path)


def file_under(item: ItemEntry, path: Path, offset: int, change: Change) -> bool:
    """Gives the restored file at `path`, whose data set begins at `offset`, another identity; False where the disk is
    full. Raises `HashError` where more than that would change, `IntakeError`.
    """
    data = path.read_bytes()[offset:]
    changed = b"".join(coerce(data, item.syntax, change))
    if rest_hash(changed, item.syntax) != rest_hash(data, item.syntax):
        raise HashError
    return _write(item, changed, path) is not None


def _write(item: ItemEntry, data: bytes, path: Path) -> InstanceHeader | None:
    try:
        write_part10(path, data, item.sop_class, item.sop_uid, item.syntax)
        with path.open("rb") as file:
            return parse_header(lambda at, n: os.pread(file.fileno(), n, at), path.stat().st_size)
    except IntakeError:
        path.unlink(missing_ok=True)
        raise
    except OSError as why:
        if why.errno in FULL:
            return None
        raise
