"""The bench's parts as processes of their own: each has its time, and what it started ends with it."""

from __future__ import annotations

import os
import select

import pytest

from tests.bench.__main__ import PARTS, bound, options, run
from tests.bench.table import Row

_ROW = "from tests.bench.table import Row, emit; emit(Row(what='x', values=[1.0])); "
_ENVIRONMENT = {**os.environ, "BENCH_LINES": "1"}


def test_rows_come_as_they_are_made(capsys: pytest.CaptureFixture[str]) -> None:
    code = _ROW + "print('a word besides'); emit(Row(what='y', note='DCMTK is not installed'))"
    rows = list(run("scp", code, 60, _ENVIRONMENT))
    assert rows == [Row(what="x", values=[1.0]), Row(what="y", note="DCMTK is not installed")]
    assert "a word besides" in capsys.readouterr().err


def test_a_part_that_fails_says_so_and_keeps_its_rows() -> None:
    rows = list(run("scp", _ROW + "raise SystemExit(3)", 60, _ENVIRONMENT))
    assert [row.what for row in rows] == ["x", "scp: the rest"]
    assert rows[1].verdict == "no figure"
    assert "ended with 3" in rows[1].note


def test_a_part_that_hangs_is_ended_with_what_it_started() -> None:
    """Its child is in its process group, and holds its output open."""
    code = (
        "import subprocess, sys; from tests.bench.table import Row, emit; "
        "child = subprocess.Popen(['sleep', '600']); emit(Row(what=str(child.pid))); child.wait()"
    )
    rows = run("scp", code, 60, _ENVIRONMENT)
    child = os.pidfd_open(int(next(rows).what))
    try:
        rows.close()  # as a reader that goes away; the time-out takes the same way
        assert select.select([child], [], [], 60)[0]
    finally:
        os.close(child)


def test_the_time_of_a_part_ends() -> None:
    (row,) = run("scp", "import time; time.sleep(600)", 0.2, _ENVIRONMENT)
    assert row.note == "it was ended after 0.2 s"


def test_more_and_longer_rounds_have_more_time() -> None:
    assert bound("scp", 3, options([])) == PARTS["scp"]
    assert bound("scp", 9, options([])) == 3 * PARTS["scp"]
    assert bound("scp", 3, options(["--size", "0.1"])) == PARTS["scp"]
    assert bound("wan", 3, options([])) == 3 * PARTS["wan"]
    assert bound("small", 3, options(["--small", "100000"])) >= 2000


def test_a_part_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["spc"])
    assert "There is no part 'spc'. Choose from: cpu, scp," in capsys.readouterr().err


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_there(part: str) -> None:
    module = __import__(f"tests.bench.{part}", fromlist=["main"])
    assert callable(module.main)
