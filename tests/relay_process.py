"""A relay in a process of its own, started as an operator starts it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec


class RelayProcess:
    """`python -m relay run` on a data folder. Whoever starts it ends it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process, self.url = process, url

    @classmethod
    async def start(
        cls, data: Path, *options: str, listen: str = "127.0.0.1:0", log: Path | None = None
    ) -> RelayProcess:
        """Returns once it listens."""
        with (log or data.parent / "relay.log").open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "relay", "run", "--listen", listen, "--data", str(data), "--json", *options,
                stdout=asyncio.subprocess.PIPE, stderr=stderr, cwd=Path(__file__).resolve().parent.parent,
            )  # fmt: skip
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise AssertionError(f"the relay ended with {await process.wait()}")
        event = msgspec.json.decode(line)
        if event["event"] != "listening":
            await process.wait()
            raise AssertionError(f"the relay said {event}")
        return cls(process, event["url"])

    async def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()
