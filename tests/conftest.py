"""What every test shares: the root on the path (for `tests.peers` and the kits), and Hypothesis without a clock."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# A shell that starts the tests in the background has them ignore Ctrl-C, and so whatever they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Several workers share the cores, each with numbers of its own: threads that spin for one another only take them away.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What tests write goes where a forced write costs nothing: a killed process leaves there what it leaves on a disk, and
# the rest of what a disk promises no test can see. `TMPDIR=DIR make test` takes another place.
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None  # asked for already

# A busy machine must not fail a test, so no example has a deadline. What lands is judged by the same examples
# each time; new ones are for whoever works here, and for `make soak`.
settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("house")

SOAK_LONGEST = 900
"""Seconds of one seed under `make soak`, whose own limit is for hours: a seed that hangs is a failure there too."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bounds each test of a soak that names no bound of its own."""
    if os.environ.get("SOAK"):
        for item in items:
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SOAK_LONGEST))
