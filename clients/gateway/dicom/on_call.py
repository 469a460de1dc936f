"""A child that is started when somebody needs it, and again, though not at once, after it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Generic, TypeVar

import msgspec
import structlog

from clients.gateway.dicom.door import Door, DoorClosedError

log = structlog.get_logger()
T = TypeVar("T")
_PAUSE = 1.0
"""Seconds between two starts of a child."""


class OnCall(Generic[T]):
    """Holds the door to one child `python -m module`, whose lines are `T`; `name` is for the log."""

    def __init__(self, module: str, lines: type[T], name: str) -> None:
        self._module, self._lines, self._name = module, lines, name
        self._door: Door[T] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._opened_at = float("-inf")
        self._stopped = False

    @property
    def was_started(self) -> bool:
        """Whether there has been a child."""
        return self._opened_at > float("-inf")

    async def stop(self) -> None:
        """Ends the child. What is under way ends as unknown."""
        self._stopped = True
        await self._close(5.0)

    # What a subclass says

    def _first(self) -> msgspec.Struct:
        """The child's first line."""
        raise NotImplementedError

    async def _greet(self, door: Door[T]) -> None:
        """What it is told next."""

    def _heard(self, line: T) -> None:
        """The child has said something."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """It has ended: every call ends."""
        raise NotImplementedError

    async def _recover(self, ended: float) -> None:
        """It ended by itself, at that time: whatever it could not tell."""

    # The door

    async def _opened(self) -> Door[T]:
        """The door, with a child behind it. Raises `DoorClosedError`."""
        async with self._opening:
            if self._stopped:
                raise DoorClosedError
            if self._door is None:
                await asyncio.sleep(max(0.0, self._opened_at + _PAUSE - time.monotonic()))
                self._opened_at = time.monotonic()
                door = Door(self._module, self._lines)
                await door.open(self._first())
                await self._greet(door)
                self._door = door
                self._reader = asyncio.create_task(self._read(door))
            return self._door

    async def _read(self, door: Door[T]) -> None:
        with contextlib.suppress(DoorClosedError):
            while True:
                self._heard(await door.receive())
        ended = time.time()
        if not self._stopped:
            log.warning(f"{self._name} ended")
        if self._door is door:
            self._door = None
        self._abandon()
        await door.close(0)
        if not self._stopped:
            await self._recover(ended)

    async def _close(self, grace: float) -> None:
        async with self._opening:
            door, self._door = self._door, None
            if door is not None:
                await door.close(grace)
            if self._reader is not None:
                await asyncio.gather(self._reader, return_exceptions=True)
                self._reader = None
