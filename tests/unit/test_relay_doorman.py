"""Connections are bounded before a byte is read."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.relay_client import Bench, relay_at

ASK = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Caller:
    """A connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def dial(cls, bench: Bench) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", int(bench.running.url.rsplit(":", 1)[1])))

    async def served(self) -> bool:
        try:
            self.writer.write(ASK)
            return bool(await self.reader.read(1000))
        except ConnectionError:
            return False

    async def hang_up(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@pytest.mark.parametrize(
    ("bounds", "trusted", "served"),
    [
        ({"connections": 3}, False, [True, True, True, False]),
        ({"address_connections": 2}, False, [True, True, False, False]),
        ({"address_connections": 2}, True, [True, True, True, True]),
    ],
)
async def test_more_than_there_is_room_for_is_closed(
    tmp_path: Path, bounds: dict[str, int], trusted: bool, served: list[bool]
) -> None:
    async with relay_at(tmp_path, bounds=bounds, trusted_proxy=trusted) as bench:
        callers = []
        try:
            seen = []
            for _ in served:
                callers.append(await Caller.dial(bench))
                seen.append(await callers[-1].served())
            assert seen == served
        finally:
            for caller in callers:
                await caller.hang_up()


async def test_a_place_is_free_again_once_its_caller_left(tmp_path: Path) -> None:
    async with relay_at(tmp_path, bounds={"connections": 1}) as bench:
        for _ in range(5):
            served = False
            while not served:  # until the relay has seen the last one leave
                caller = await Caller.dial(bench)
                served = await caller.served()
                await caller.hang_up()


@pytest.mark.parametrize("ticks", range(8))
async def test_whoever_comes_in_as_the_relay_stops_is_hung_up_on(tmp_path: Path, ticks: int) -> None:
    """Accepted, but not yet with a protocol when everybody else is let go: it would stay open for ever."""
    async with relay_at(tmp_path) as bench:
        address = ("127.0.0.1", int(bench.running.url.rsplit(":", 1)[1]))
        with socket.create_connection(address, timeout=10) as late:
            for _ in range(ticks):
                await asyncio.sleep(0)
            await bench.running.stop()
            await asyncio.sleep(0)
            try:
                assert await asyncio.to_thread(late.recv, 1) == b""
            except ConnectionResetError:
                pass
