"""The same harnesses under atheris: libFuzzer keeps each input that reaches code which none before it reached.

Not a dependency, since it has no wheel for every machine: `make soak` uses it where it is installed. Half of the
changes are the mutator's, which knows the formats; the other half are libFuzzer's, which knows what was compared.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path

import msgspec

OURS = ["transfer", "relay", "clients", "pynetdicom", "pydicom", "zipfile"]
"""Packages whose branches are counted. Of the DICOM port's child process nothing is seen: it is another process."""


def installed() -> bool:
    """Whether atheris is there."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(name: str, *, seconds: float, seed: int, note: Path | None, report: Path) -> None:
    """Does not return: libFuzzer ends the process. `report` holds the `Result`, as of the last second."""
    import atheris

    with atheris.instrument_imports(include=OURS, enable_loader_override=False):
        from tests.fuzz.campaign import Note, Result, book, known, quiet
        from tests.fuzz.mutator import LARGEST, Mutator
        from tests.fuzz.registry import HARNESSES

    harness, result, seen, told = HARNESSES[name], Result(), set[str](), 0.0
    samples = known(harness)
    keep = Note(note) if note is not None else None
    mutator, chance = Mutator(samples, seed), random.Random(seed)

    def one(data: bytes) -> None:
        nonlocal told
        if keep is not None:
            keep.write(data)
        if book(result, seen, harness, data):
            told = 0.0
        if time.monotonic() - told > 1:
            told = time.monotonic()
            report.write_bytes(msgspec.json.encode(result))

    def change(data: bytes, most: int, _: int) -> bytes:
        if chance.random() < 0.5:
            return mutator.change(data)[:most]
        return bytes(atheris.Mutate(data, most))

    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as folder:
        for n, sample in enumerate(samples):
            (Path(folder) / str(n)).write_bytes(sample)
        limits = [f"-max_total_time={int(seconds)}", f"-seed={seed % 2**31 or 1}", f"-max_len={LARGEST}"]
        atheris.Setup(
            [sys.argv[0], *limits, "-rss_limit_mb=0", "-timeout=600", "-verbosity=0", folder],
            one,
            custom_mutator=change,
            internal_libfuzzer=True,
        )
        with quiet():
            atheris.Fuzz()
