"""All harnesses by their names."""

from __future__ import annotations

from tests.fuzz import callers, coded, doors, files, hospital, interface, messages, pages, typed
from tests.fuzz.harness import Harness

HARNESSES: dict[str, Harness] = {
    harness.name: harness
    for part in (messages, doors, files, coded, hospital, interface, callers, pages, typed)
    for harness in part.HARNESSES
}
