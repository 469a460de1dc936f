"""All harnesses by their names."""

from __future__ import annotations

from tests.fuzz import callers, coded, doors, files, hospital, interface, messages, pages
from tests.fuzz.harness import Harness

HARNESSES: dict[str, Harness] = {
    harness.name: harness
    for part in (messages, doors, files, coded, hospital, interface, callers, pages)
    for harness in part.HARNESSES
}
