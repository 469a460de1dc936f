"""Runs a harness: a number of inputs, or as many as a time allows; and makes what it finds small.

A harness that may take its process with it runs in another one, which leaves word of the input it is at.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.fuzz.harness import CORPUS, Find, Harness, judge
from tests.fuzz.mutator import LARGEST, Mutator

ROOT = Path(__file__).resolve().parents[2]
_SHRINK_SECONDS = 20.0
_MOST_FINDS = 5
"""One fault is often met again: a run ends after so many."""


class Result(msgspec.Struct):
    """What a run did. `taken` of the inputs were taken for good ones."""

    executions: int = 0
    taken: int = 0
    finds: list[Find] = []


class Note:
    """A file that holds the input under way, for whoever finds the process gone. Mapped: it costs no system call."""

    SIZE = LARGEST + 4

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(self.SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SIZE)

    def write(self, data: bytes) -> None:
        """Before it is run."""
        self._map[: 4 + len(data)] = len(data).to_bytes(4, "big") + data

    @staticmethod
    def read(path: Path) -> bytes:
        """Afterwards."""
        noted = path.read_bytes() if path.is_file() else b"\0\0\0\0"
        return noted[4 : 4 + int.from_bytes(noted[:4], "big")]


@contextmanager
def quiet() -> Iterator[None]:
    """As in a gateway: a warning of a library is no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def campaign(
    harness: Harness, *, seed: int, executions: int = 0, seconds: float = 0.0, note: Note | None = None
) -> Result:
    """Runs until `executions` or `seconds` are over; without either, what is known only."""
    result, seen = Result(), set[str]()
    until = time.monotonic() + seconds if seconds else float("inf")
    samples = known(harness)
    source = Mutator(samples, seed)
    with quiet():
        while time.monotonic() < until and len(result.finds) < _MOST_FINDS:
            if result.executions >= (executions or (len(samples) if not seconds else float("inf"))):
                break
            data = source.one() if result.executions >= len(samples) else samples[result.executions]
            if note is not None:
                note.write(data)
            book(result, seen, harness, data)
    return result


def book(result: Result, seen: set[str], harness: Harness, data: bytes) -> bool:
    """Runs one input; True where it is a find of a new kind, which is kept in its smallest form."""
    result.executions += 1
    found = judge(harness, data)
    if not isinstance(found, Find):
        result.taken += found
        return False
    if mark(found) in seen:
        return False
    seen.add(mark(found))
    result.finds.append(smaller(harness, found))
    return True


def mark(find: Find) -> str:
    """What two finds of one fault have in common."""
    lines = find.why.strip().splitlines()
    return find.kind + "".join(lines[-4:-1] if find.kind in ("unnamed", "wrong") else "")


def smaller(harness: Harness, find: Find) -> Find:
    """The find with everything taken out that it does not need: halves, quarters and so on (delta debugging)."""
    until, step = time.monotonic() + _SHRINK_SECONDS, max(1, len(find.data) // 2)
    while step and time.monotonic() < until:
        at, better = 0, False
        while at < len(find.data) and time.monotonic() < until:
            found = judge(harness, find.data[:at] + find.data[at + step :])
            if isinstance(found, Find) and mark(found) == mark(find):
                find, better = found, True
            else:
                at += step
        if not better:
            step //= 2
    return find


def known(harness: Harness) -> list[bytes]:
    """What every run begins with: the samples, and what was found ever."""
    return [*harness.samples(), *(path.read_bytes() for path in corpus(harness.name))]


def corpus(name: str) -> list[Path]:
    """What was found ever."""
    return sorted((CORPUS / name).glob("*.bin"))


def apart(
    harness: Harness, *, seed: int, executions: int = 0, seconds: float = 0.0, guided: bool = False
) -> Result:
    """The same in a process of its own, whose end is a find; `guided` by atheris."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        note, report = Path(folder) / "input", Path(folder) / "report"
        command = [
            sys.executable, "-m", "tests.fuzz", harness.name, "--seed", str(seed), "--executions", str(executions),
            "--seconds", str(seconds), "--note", str(note), "--report", str(report),
            *(["--guided"] if guided else []),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        result = msgspec.json.decode(report.read_bytes(), type=Result) if report.is_file() else Result()
        if done.returncode:
            why = (
                f"the process ended with {done.returncode}: {done.stderr[-1500:].decode('utf-8', 'replace')}"
            )
            result.finds.append(Find(harness.name, "crash", Note.read(note), why))
        return result


def run(harness: Harness, *, seed: int, executions: int = 0, seconds: float = 0.0) -> Result:
    """The one or the other."""
    if harness.apart:
        return apart(harness, seed=seed, executions=executions, seconds=seconds)
    return campaign(harness, seed=seed, executions=executions, seconds=seconds)
