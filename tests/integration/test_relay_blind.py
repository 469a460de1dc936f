"""The relay's process holds no program that could open a study, and no part of the clients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAY = {"encoding", "errors", "ids", "jws", "mailbox", "messages", "requests", "sites", "text"}
OUTSIDE = {"clients", "pydicom", "pynetdicom", "imagecodecs", "zstandard", "numpy", "qrcode", "jinja2"}


@pytest.mark.parametrize("module", ["relay.service", "relay.__main__"])
def test_what_a_relay_loads(module: str) -> None:
    code = f"import {module}, sys; print(chr(10).join(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    loaded = done.stdout.split()
    assert {name.partition(".")[0] for name in loaded} & OUTSIDE == set()
    assert {name.split(".")[1] for name in loaded if name.startswith("transfer.")} <= MAY
    assert "nacl.secret" not in loaded
