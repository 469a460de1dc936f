"""The fixture of the tests that kill programs and cut wires: one set for a module, since a start takes seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.programs import Programs, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everybody(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    """A relay, two paired hospitals and a PACS, each a program. Who needs all of them alive has them healed first."""
    async with running(tmp_path_factory.mktemp("everybody"), quiet_seconds=3600) as programs:
        yield programs
