"""Loads the vectors beside this file. Values are hex unless a reader of the file says otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load(name: str) -> Any:
    """The parsed file `name`.json."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text("utf-8"))


def raw(text: str) -> bytes:
    """The bytes of a hex text."""
    return bytes.fromhex(text)
