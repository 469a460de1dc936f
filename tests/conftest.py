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


DEEP = (
    "tests/faults/test_commit.py", "tests/faults/test_kill_anywhere.py", "tests/integration/test_archive.py",
    "tests/integration/test_archive_odd.py",
    "tests/integration/test_cli.py::test_other_ways_to_name_a_study", "tests/integration/test_cli_audit.py",
    "tests/integration/test_cli.py::test_status_of_all_and_of_nothing",
    "tests/integration/test_cli_setup.py", "tests/integration/test_tries.py",
    "tests/integration/test_cli.py::test_links_that_lead_nowhere", "tests/integration/test_kill.py",
    "tests/integration/test_kill_additions.py",
    "tests/faults/test_kill_at_pacs.py", "tests/integration/test_dicom_scu.py",
    "tests/integration/test_demo.py::test_headless[noise]", "tests/integration/test_demo.py::test_a_pacs_that_is_there",
    "tests/integration/test_demo.py::test_nobody_stays_behind[9]", "tests/integration/test_corpus.py",
    "tests/integration/test_demo.py::test_nobody_stays_behind[15]", "tests/integration/test_demo.py::test_orthanc",
    "tests/integration/test_demo.py::test_what_it_refuses", "tests/integration/test_destinations.py",
    "tests/integration/test_dicom_validity.py", "tests/integration/test_dicom_worklist.py",
    "tests/integration/test_early_offer.py", "tests/integration/test_faults.py", "tests/integration/test_hl7.py",
    "tests/integration/test_lying_relay.py", "tests/integration/test_observe.py",
    "tests/integration/test_orthanc_lines.py", "tests/integration/test_transfer.py::test_wrong_pins",
    "tests/web/test_desk_plain.py::test_every_page_weighs", "tests/web/test_desk_plain.py::test_no_page",
    "tests/web/test_match.py",
)  # fmt: skip
"""Long journeys whose parts other tests hold: `make test` runs them, what lands is judged without (`-m "not deep"`) so
that the answer comes within minutes.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the long journeys, and bounds each test of a soak that names no bound of its own."""
    for item in items:
        if item.nodeid.startswith(DEEP):
            item.add_marker(pytest.mark.deep)
    if os.environ.get("SOAK"):
        for item in items:
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SOAK_LONGEST))
