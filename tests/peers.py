"""The programs from outside that tests use as real peers: DCMTK, Orthanc, Chromium."""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "Orthanc": ("Orthanc", "/usr/sbin/Orthanc"),
    "rsyslogd": ("rsyslogd", "/usr/sbin/rsyslogd"),
}
"""Other names and places of a program."""


def need(*programs: str) -> dict[str, str]:
    """The path of each program by its name. Where one is missing the test is skipped, or fails under CI=true."""
    paths = {name: next(filter(None, map(shutil.which, NAMES.get(name, (name,)))), "") for name in programs}
    missing = [name for name, path in paths.items() if not path]
    if missing:
        reason = f"not installed here: {', '.join(missing)} (make peers installs it)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return paths
