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
from clients.gateway.dicom.coercion import Change, coerce, is_rest_same
from clients.gateway.dicom.header import InstanceHeader, parse_header
from clients.gateway.dicom.part10 import Read, encode_meta, write_part10
from clients.gateway.disk import FULL
from clients.gateway.errors import IntakeError
from transfer.errors import HashError
from transfer.messages import ItemEntry


def restore(item: ItemEntry, coded: bytes, path: Path, change: Change | None = None) -> InstanceHeader | None:
    """Writes the instance, under another identity if there is a `change`; what its original says, or None where the
    disk is full.

    Raises `CodecError`, `HashError` (also where more than the identity would change), `IntakeError`.
    """
    data = codec.decode(item.codec, coded, item.original)
    if hashlib.sha256(data).digest() != item.hash:
        raise HashError
    if change is None:
        return _write(item, data, path)
    head = encode_meta(item.sop_class, item.sop_uid, item.syntax)
    original = parse_header(_joined(head, data), len(head) + len(data))
    return None if _write(item, _coerced(item, data, change), path) is None else original


def file_under(item: ItemEntry, path: Path, offset: int, change: Change) -> bool:
    """Gives the restored file at `path`, whose data set begins at `offset`, another identity; False where the disk is
    full. Raises `HashError` where more than that would change, `IntakeError`.
    """
    return _write(item, _coerced(item, path.read_bytes()[offset:], change), path) is not None


def _coerced(item: ItemEntry, data: bytes, change: Change) -> bytes:
    changed = b"".join(coerce(data, item.syntax, change))
    if not is_rest_same(changed, data, item.syntax):
        raise HashError
    return changed


def _joined(head: bytes, data: bytes) -> Read:
    """Reads both as one file, of which nothing is copied but what is asked for."""

    def read(at: int, n: int) -> bytes:
        return head[at : at + n] + data[max(0, at - len(head)) : max(0, at + n - len(head))]

    return read


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
