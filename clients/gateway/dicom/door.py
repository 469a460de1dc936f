"""The narrow door: JSON lines to a child process and from it, and nothing else.

pynetdicom waits with threads and is talked to by strangers, so it lives in a child: what keeps it busy does
not keep the gateway busy, and what ends it does not end the gateway. The child ends when its owner does, also
by `kill -9`, so that the port is free for the next start (`child.py` is the other side).

What a child writes to its standard error may quote what a peer sent. Of a traceback, the places in the code
and the kind of the error are logged, never its text.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import Generic, TypeVar

import msgspec
import structlog

from clients.gateway.errors import GatewayError
from clients.module import module

log = structlog.get_logger()
MAX_LINE = 2**16
_START = 60.0
"""Seconds until a child must have said that it is ready; a loaded machine takes some to import."""
_PLACE = re.compile(r'^ *File "[^"]*?([\w.]+\.py)", line (\d+)')
_KIND = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt))\b")
_MAX_REPORTS = 100
"""Lines that are logged of one child's life."""

T = TypeVar("T")


class DoorClosedError(GatewayError):
    """The DICOM part of the gateway has stopped. It starts again by itself; call support if this stays."""

    code = "dicom-child"


class Door(Generic[T]):
    """One child process `python -m module`; `T` is what its lines are."""

    def __init__(self, module: str, lines: type[T]) -> None:
        self._module = module
        self._decoder = msgspec.json.Decoder(lines)
        self._encoder = msgspec.json.Encoder()
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()

    @property
    def pid(self) -> int:
        """The child's process id; 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        """The child is there."""
        return self._process is not None and self._process.returncode is None

    async def open(self, first: msgspec.Struct) -> T:
        """Starts the child, gives it its first line and returns its first. Raises `DoorClosedError`."""
        self._process = await asyncio.create_subprocess_exec(
            *module(self._module, str(os.getpid())),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
        )  # fmt: skip
        self._errors = asyncio.create_task(self._report())
        try:
            async with asyncio.timeout(_START):
                await self.send(first)
                return await self.receive()
        except BaseException as why:
            await self.close(0)
            if isinstance(why, TimeoutError):
                raise DoorClosedError from None
            raise

    async def send(self, line: msgspec.Struct) -> None:
        """Writes a line. Raises `DoorClosedError` if the child is gone."""
        text = self._encoder.encode(line)
        if len(text) >= MAX_LINE:
            raise ValueError("line too long for the door")
        if self._process is None or self._process.stdin is None or self._process.stdin.is_closing():
            raise DoorClosedError
        try:
            self._process.stdin.write(text + b"\n")
            await self._process.stdin.drain()
        except OSError:
            raise DoorClosedError from None

    async def receive(self) -> T:
        """The child's next line. Raises `DoorClosedError` at its end, and ends a child that says what it may not."""
        if self._process is None or self._process.stdout is None:
            raise DoorClosedError
        try:
            async with self._reading:
                line = await self._process.stdout.readline()
            if not line.endswith(b"\n"):
                raise DoorClosedError
            return self._decoder.decode(line)
        except (ValueError, msgspec.MsgspecError):  # longer than a line may be, or no line of ours
            self.kill()
            raise DoorClosedError from None

    def kill(self) -> None:
        """Ends the child at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self, grace: float = 5.0) -> None:
        """Shuts the door: the child finishes what it is at, and is gone after `grace` seconds at the latest."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(grace):
                await self._drain(process)
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await self._drain(process)
            await process.wait()
        if self._errors is not None:
            self._errors.cancel()
            await asyncio.gather(self._errors, return_exceptions=True)

    async def _drain(self, process: asyncio.subprocess.Process) -> None:
        """Reads what nobody waits for, so that the child is not held up by it."""
        assert process.stdout is not None
        more = True
        while more:
            async with self._reading:
                more = bool(await process.stdout.read(MAX_LINE))

    async def _report(self) -> None:
        """Logs where the child failed, in code and kind only."""
        assert self._process is not None
        assert self._process.stderr is not None
        stream, left, place = self._process.stderr, _MAX_REPORTS, ""
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than a line may be
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace")
            if found := _PLACE.match(text):
                place = f"{found[1]}:{found[2]}"
            elif (found := _KIND.match(text)) and left:
                left -= 1
                log.warning("dicom child", child=self._module.rpartition(".")[2], kind=found[1], place=place)
