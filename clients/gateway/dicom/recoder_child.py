"""The recoder as a process: `python -m clients.gateway.dicom.recoder_child`, started by `receiving.transcoding`.

The decoders are C libraries and the codestreams come from outside: what ends them, or takes too much, ends this process
and one image's other form, and not the gateway. Its address space is bounded.
"""

from __future__ import annotations

import os
import resource
import sys
import traceback
from pathlib import Path

import msgspec

from clients.gateway.dicom.child import Owner
from clients.gateway.dicom.part10 import encode_meta, read_meta, write_all
from clients.gateway.dicom.pixels import RecodeError
from clients.gateway.dicom.recoding import check, recode
from clients.gateway.disk import FULL
from clients.gateway.errors import DiskFullError, IntakeError

_MEMORY = 2**32
_MOST = 2**30
"""Bytes of a file that is recoded."""


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The first line to the child."""


class Work(msgspec.Struct, frozen=True, tag=True):
    """One file to write in the transfer syntax `target`."""

    source: str
    to: str
    target: str


class Worked(msgspec.Struct, frozen=True, tag=True):
    """What became of it: a code, or nothing if it was written and is the same. The first line says: ready."""

    code: str = ""


def work(what: Work) -> str:
    """Writes the file and compares it with its source. The code of what stands in the way, or ""."""
    source, to = Path(what.source), Path(what.to)
    try:
        if source.stat().st_size > _MOST:
            return RecodeError.code
        whole = source.read_bytes()
        meta = read_meta(lambda at, n: whole[at : at + n])
        data = whole[meta.data_offset :]
        head = encode_meta(meta.sop_class, meta.sop_uid, what.target)
        fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(fd, head)
            for piece in recode(data, meta.syntax, what.target):
                write_all(fd, piece)
        finally:
            os.close(fd)
        check(data, meta.syntax, to.read_bytes()[len(head) :], what.target)
    except (RecodeError, IntakeError, MemoryError, RecursionError):
        return RecodeError.code
    except OSError as why:
        return DiskFullError.code if why.errno in FULL else RecodeError.code
    return ""


def main() -> None:
    """The process."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    owner: Owner[Begin | Work] = Owner(Begin | Work)  # type: ignore[arg-type]
    for line in owner.lines():
        try:
            owner.tell(Worked(work(line) if isinstance(line, Work) else ""))
        except Exception:
            traceback.print_exc()  # to the owner, who logs where and what kind
            owner.tell(Worked(RecodeError.code))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
