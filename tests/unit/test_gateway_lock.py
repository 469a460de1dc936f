"""`clients.gateway.lock`: one engine for a folder, and no lock that outlives its process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clients.gateway.errors import BusyError, ConfigError
from clients.gateway.lock import FolderLock

HOLD = """
import sys, pathlib
from clients.gateway.lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    for _ in range(2):
        with pytest.raises(BusyError):
            FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


def test_two_folders(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = FolderLock(tmp_path), FolderLock(tmp_path / "other")
    one.release()
    two.release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError):
            FolderLock(tmp_path)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    FolderLock(tmp_path).release()


def test_a_folder_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder"):
        FolderLock(tmp_path / "nowhere")
