"""The tables of the DICOM conformance statement (PS3.2), written from the code that they describe.

    python -m clients.gateway.dicom.conformance --check     # is the page what the code says?
    python -m clients.gateway.dicom.conformance --write     # make it so

A statement is read when two systems are connected, long after it was written; what it claims is therefore taken from
the very values that the programs use (`claims`, `claims_content`). The page has a block for each table, between
`<!-- generated: NAME -->` and `<!-- end -->`; what stands around them is written by people.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from clients.gateway.dicom import claims, claims_content

PAGE = Path(__file__).resolve().parents[3] / "docs" / "conformance" / "dicom-conformance-statement.md"
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

BLOCKS: dict[str, Callable[[], str]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        claims.implementation, claims.scp_classes, claims.scu_classes, claims.archive_classes, claims.get_classes,
        claims.get_syntaxes, claims.worklist_classes, claims.syntaxes, claims.storage_classes, claims.rejections,
        claims.receiver_limits, claims.sender_limits, claims.store_statuses, claims.event_statuses, claims.answers,
        claims.troubles, claims.settings, claims_content.image_keys, claims_content.study_keys,
        claims_content.series_keys, claims_content.list_keys, claims_content.worklist_keys, claims_content.coerced,
        claims_content.record, claims_content.recoded, claims_content.documents,
    )
}  # fmt: skip
"""The tables, by the names of their blocks."""


def rendered(page: str) -> str:
    """The page with its blocks as the code has them now. Raises `ValueError` for a block too many or too few."""
    there = [found[2] for found in _BLOCK.finditer(page)]
    if sorted(there) != sorted(BLOCKS):
        odd = sorted(set(there) ^ set(BLOCKS)) or sorted(there)
        raise ValueError(f"the page's blocks are not those of the code: {', '.join(odd)}")
    return _BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], page)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m clients.gateway.dicom.conformance", description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--page", type=Path, default=PAGE)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true")
    what.add_argument("--write", action="store_true")
    given = parser.parse_args(argv)
    old = given.page.read_text("utf-8")
    try:
        new = rendered(old)
    except ValueError as why:
        sys.stderr.write(f"{why}\n")
        return 1
    if given.write:
        given.page.write_text(new, "utf-8")
    elif new != old:
        sys.stderr.write(
            "The conformance statement is behind the code. Run: python -m clients.gateway.dicom.conformance --write\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
