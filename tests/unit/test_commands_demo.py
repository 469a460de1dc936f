"""The demo's own parts; the whole of it is in tests/integration/test_demo.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from clients.commands.demo import together
from clients.gateway.errors import GatewayError, RelayDownError
from tests.programs import digests


async def test_together_is_all_of_them_at_once() -> None:
    met = asyncio.Barrier(3)

    async def one() -> None:
        await met.wait()

    await together(one(), one(), one())


async def test_the_first_error_ends_the_others_and_is_itself() -> None:
    ended: list[bool] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def fails() -> None:
        raise RelayDownError

    with pytest.raises(GatewayError) as caught:
        await together(waits(), fails(), waits())
    assert type(caught.value) is RelayDownError
    assert ended == [True, True]


def test_the_phantom_is_a_program(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "clients.phantom", str(tmp_path / "study"), "--slices", "2"]
    subprocess.run(argv, check=True, timeout=120)
    assert len(digests(tmp_path / "study")) == 4, "two slices and two scouts"
