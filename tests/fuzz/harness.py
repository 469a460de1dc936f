"""What a fuzzer needs to know of a parser: valid examples, how to call it, and how it may end.

A harness names its only two outcomes: a value, or an error of its family. Whatever else happens is a find, and
has a class (see README.md): another exception is `unnamed`, a broken promise `wrong`, too much processor time
`slow`, too much memory `memory`, the end of the process `crash`, a server that serves nobody any more `stuck`.
"""

from __future__ import annotations

import hashlib
import re
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

CLASSES = ("unnamed", "wrong", "slow", "memory", "crash", "stuck")
CORPUS = Path(__file__).resolve().parent / "corpus"
_PEAK, _NOW = re.compile(rb"VmHWM:\s+(\d+)"), re.compile(rb"VmRSS:\s+(\d+)")


class Broken(Exception):
    """What a harness itself sees go wrong with the process or server that it drives: the class, and why."""

    def __init__(self, kind: str, why: str) -> None:
        self.kind = kind
        super().__init__(why)


class Harness(msgspec.Struct, frozen=True, kw_only=True):
    """One parser. `run` gets any bytes; an `AssertionError` of it is a broken promise."""

    name: str
    run: Callable[[bytes], object]
    samples: Callable[[], list[bytes]]
    """Examples that are taken as they are: mutations of these reach further than noise does."""
    family: tuple[type[BaseException], ...]
    seconds: float = 2.0
    """Processor time for one input, far above what any takes."""
    memory: int = 2**27
    """Bytes that one input may make the process grow by, at its peak."""
    apart: bool = False
    """Runs in a process of its own: native code may end it, a server starts threads in it."""
    share: float = 1.0
    """Of the executions that a run in CI gives to each: less where one is dear."""


class Find(msgspec.Struct, frozen=True):
    """One input that ended as none may."""

    harness: str
    kind: str
    data: bytes
    why: str

    @property
    def name(self) -> str:
        """The file's name in the corpus."""
        return f"{self.kind}-{hashlib.sha256(self.data).hexdigest()[:12]}.bin"

    def save(self, folder: Path = CORPUS) -> Path:
        """Keeps the input, to be played again for ever."""
        path = folder / self.harness / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)
        return path


def judge(harness: Harness, data: bytes) -> Find | bool:
    """Runs one input. True: it was taken; False: it was refused by name."""
    before, began, taken = reset_peak(), time.thread_time(), True
    try:
        harness.run(data)
    except harness.family:
        taken = False
    except AssertionError as error:
        return Find(harness.name, "wrong", data, _short(error))
    except Broken as error:
        return Find(harness.name, error.kind, data, _short(error))
    except Exception as error:
        return Find(harness.name, "unnamed", data, _short(error))
    took = time.thread_time() - began
    if took > harness.seconds:
        return Find(harness.name, "slow", data, f"{took:.1f} s of processor time")
    grown = peak() - before
    if grown > harness.memory:
        return Find(harness.name, "memory", data, f"{grown >> 20} MiB more at the peak")
    return taken


def _short(error: BaseException) -> str:
    """The exception and the last places it went through."""
    return "".join(traceback.format_exception(error)[-6:])[-2000:]


def reset_peak(pid: int | str = "self") -> int:
    """Sets a process's peak of memory back to what it holds now, and says how much that is (proc(5), clear_refs)."""
    try:
        with open(f"/proc/{pid}/clear_refs", "wb", buffering=0) as refs:
            refs.write(b"5")
    except OSError:
        return 0  # no such kernel: `peak` says 0 as well
    return _field(pid, _NOW)


def peak(pid: int | str = "self") -> int:
    """The most that a process has held since then, in bytes."""
    return _field(pid, _PEAK)


def _field(pid: int | str, which: re.Pattern[bytes]) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as status:
            found = which.search(status.read(8192))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
