"""`python -m clients.phantom DIR [--slices N]`: writes a generated CT study below DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

from clients.phantom.study import write_study

parser = argparse.ArgumentParser(
    prog="python -m clients.phantom", description="A generated CT study, nobody's."
)
parser.add_argument("folder", metavar="DIR", type=Path)
parser.add_argument("--slices", type=int, default=240)
given = parser.parse_args()
write_study(given.folder, slices=given.slices)
