"""The demo's parties: each a program of its own, started by the same command line that a hospital uses.

They end with this process (a kill -9 included), and each keeps its data in a folder of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import signal
import sys
from pathlib import Path
from typing import Any

from clients.gateway.errors import GatewayError
from clients.module import module

_START = 40.0
"""Seconds until a party must be ready."""
_COMMAND = 60.0
"""Seconds that a short command may take."""
_GRACE = 10.0
"""Seconds to end gently."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
"""Loaded here: between fork and exec nothing may wait for a lock that another thread held."""


def die_with_parent() -> None:
    """In the child, before it runs: SIGTERM when the parent is gone (Linux prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Party:
    """A child process that says one JSON line when it is ready."""

    def __init__(self, name: str, log: Path, *argv: str) -> None:
        self.name, self._log, self._argv = name, log, argv
        self.process: asyncio.subprocess.Process | None = None
        self.ready: dict[str, Any] = {}

    async def start(self) -> dict[str, Any]:
        """Starts it and waits for its line. Raises `GatewayError`."""
        log = self._log.open("ab")
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self._argv, stdout=asyncio.subprocess.PIPE, stderr=log, stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        finally:
            log.close()
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(_START):
                self.ready = json.loads(await self.process.stdout.readline())
        except (TimeoutError, ValueError):
            raise GatewayError(
                f"The {self.name} did not start. Its log is {self._log}.", code="demo-start"
            ) from None
        if self.ready.get("event") == "failed":
            raise GatewayError(self.ready["sentence"], code=self.ready["code"])
        return self.ready

    async def stop(self) -> None:
        """Ends it, gently first."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            await _kill(process)


def tool(*argv: str) -> list[str]:
    """A command line of this program."""
    return module("clients", *argv)


async def call(*argv: str, stdin: str = "") -> dict[str, Any]:
    """Runs a short command with `--json` and gives its one object. Raises `GatewayError`."""
    process = await asyncio.create_subprocess_exec(
        *tool(*argv, "--json"), stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_COMMAND):
            out, _ = await process.communicate(stdin.encode())
        answer: dict[str, Any] = json.loads(out)
    except (TimeoutError, ValueError):
        raise GatewayError(
            f"`trauma-transfer {argv[0]} {argv[1]}` failed here. Try it by itself.", code="demo-command"
        ) from None
    finally:
        await _kill(process)
    if process.returncode:
        raise GatewayError(answer.get("sentence", ""), code=answer.get("code", "demo-command"))
    return answer


async def _kill(process: asyncio.subprocess.Process) -> None:
    """At once, unless it has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()
