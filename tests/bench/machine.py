"""What the figures were made on: said above the table, because a figure without its machine means nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

_BUSY = 0.5
"""Load average per core, before the bench, from which other work spoils the figures."""
_PACKAGES = ("imagecodecs", "zstandard", "pynetdicom", "pydicom", "aiohttp")


def version(*argv: str) -> str:
    """The first number with dots that a program prints, or that it is not installed."""
    path = shutil.which(argv[0])
    if path is None:
        return "not installed"
    done = subprocess.run([path, *argv[1:]], capture_output=True, text=True, check=False, timeout=20)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def header() -> list[str]:
    """Lines about the machine, the peers and how busy the machine is."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    codecs = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    lines = [
        f"{cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"DCMTK {version('storescu', '--version')} with TCP_NODELAY=1, nginx {version('nginx', '-v')}",
        codecs,
        f"load average {load:.2f}",
    ]
    if load > _BUSY * cores:
        lines[-1] += ": this machine is BUSY, so figures are worse than they should be; ratios suffer less"
    return lines


def cpu_seconds(pid: int) -> float:
    """What a process and its children took of the processors so far (proc(5)): on a busy machine it grows far less than
    the time on the clock.
    """
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = stat.read_text().rpartition(")")[2].split()
            if pid in (int(stat.parent.name), int(words[1])):
                ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")
