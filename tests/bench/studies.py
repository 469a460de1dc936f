"""What is sent: generated studies, made once for all parts of a run (`BENCH_DIR`), and the real ones beside the
repository where they are present."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.part10 import write_part10
from clients.phantom import write_study
from tests.dicom_kit import encoded, instance
from tests.image_kit import DEV, split

Sets = list[tuple[bytes, str]]
"""Data sets and their transfer syntaxes."""
_SOURCE = 60
"""Slices that are computed; a longer study repeats their pixels under UIDs of its own."""


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A folder for a part's own files, which goes away; beside what the run shares."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        yield Path(folder)


def real_and_phantom() -> dict[str, Sets]:
    """The development CTs and a generated one, each as data sets."""
    found = {
        folder.name: [parts for path in sorted(folder.glob("*.dcm")) if (parts := split(path.read_bytes()))]
        for folder in sorted(DEV.glob("ct_*"))
    }
    found["phantom"] = [
        parts for path in sorted(phantom(40).rglob("*.dcm")) if (parts := split(path.read_bytes()))
    ]
    return found


def phantom(slices: int) -> Path:
    """A generated CT of so many slices and two scouts."""
    folder = _shared() / f"phantom-{slices}"
    if not folder.exists():
        new = folder.with_suffix(".new")
        write_study(new, slices=slices)
        new.rename(folder)
    return folder


def long_study(instances: int, name: str) -> Path:
    """A CT of so many instances of 0.5 MB. Its pixels repeat; each instance and each `name` has UIDs of its own."""
    folder = _shared() / f"long-{instances}-{name}"
    if folder.exists():
        return folder
    new = folder.with_suffix(".new")
    new.mkdir()
    source = [
        path
        for path in sorted(phantom(min(_SOURCE, instances)).rglob("*.dcm"))
        if path.stat().st_size > 2**19
    ]
    for number in range(instances):
        path = source[number % len(source)]
        header = read_header(path)
        data = path.read_bytes()[header.data_offset :]
        uid = _like(header.sop_uid, f"{name}{number}")
        data = data.replace(header.sop_uid.encode(), uid.encode())
        data = data.replace(header.study_uid.encode(), _like(header.study_uid, name).encode())
        write_part10(new / f"{number:05}.dcm", data, header.sop_class, uid, header.syntax)
    new.rename(folder)
    return folder


def _like(uid: str, seed: str) -> str:
    """Another UID of the same length, from `seed` (PS3.5 B.2)."""
    digits = int.from_bytes(seed.encode()) * 0x9E3779B97F4A7C15 + int(uid.rpartition(".")[2])
    room = len(uid) - len("2.25.1")
    return "2.25.1" + str(digits % 10**room).zfill(room)


def noise(folder: Path, count: int, pixels: int) -> list[Path]:
    """`count` CT images with so many bytes of noise each, which crosses DIMSE as anything else does."""
    folder.mkdir(parents=True)
    random, files = np.random.default_rng(1), []
    for number in range(count):
        ds = instance(PixelData=random.bytes(pixels), InstanceNumber=number)
        path = folder / f"{number:06}.dcm"
        write_part10(path, encoded(ds), ds.SOPClassUID, ds.SOPInstanceUID, "1.2.840.10008.1.2.1")
        files.append(path)
    return files


@cache
def _shared() -> Path:
    """The run's folder; of a part that runs by itself, one that goes away with it."""
    given = os.environ.get("BENCH_DIR")
    if given:
        return Path(given)
    own = Path(tempfile.mkdtemp(prefix="bench-"))
    atexit.register(shutil.rmtree, own, True)
    return own
