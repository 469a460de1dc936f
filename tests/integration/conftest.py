"""Fixtures of the integration tests: a small study, and a world to send it in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.phantom import write_study
from tests.everybody import everybody
from tests.world import World

__all__ = ["everybody"]


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated CT of a few slices."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, slices=12)
    return folder


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A relay, two paired hospitals and a PACS, all running."""
    made = World(tmp_path)
    await made.open()
    yield made
    await made.close()
