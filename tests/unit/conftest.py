"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.store.database import Database


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    """A gateway's database with nothing in it."""
    made = Database(tmp_path / "gateway.db")
    await made.open()
    yield made
    await made.close()
