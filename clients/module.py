"""A module of this program as a process of its own.

Python puts the current folder first on the path of `python -m`, and people stand in `/media/cd` when they send
what is on it: a `json.py` there would be run. `-P` leaves that folder out (What's New in Python 3.11).
"""

from __future__ import annotations

import sys


def module(name: str, *argv: str) -> list[str]:
    """The command line of module `name`, in this interpreter."""
    return [sys.executable, "-P", "-m", name, *argv]
