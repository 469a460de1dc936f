"""A PACS for demonstrations and tests: takes every instance, keeps its exact bytes in a folder, answers C-ECHO.

`python -m clients.gateway.dicom.pacs --dir DIR [--host H] [--port P] [--aet A]` prints one JSON line with its
address once it listens, and runs until it is told to stop. It is the gateway's own SCP with the door wide
open (any calling title), so it listens on this machine only unless it is told which callers to take.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import msgspec

from clients.gateway.dicom.berths import recover
from clients.gateway.dicom.scp import INCOMING, Received, ScpConfig, StorageScp, scan
from clients.gateway.errors import GatewayError


class BundledPacs:
    """Keeps what it is sent in `folder/incoming`, one file for each C-STORE that it answered with 0x0000."""

    def __init__(
        self,
        folder: Path,
        *,
        aet: str = "PACS",
        host: str = "127.0.0.1",
        port: int = 0,
        allow: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.aet = folder, aet
        self.stored: list[Received] = []
        """In the order of their arrival; what an earlier run stored comes first, as near as file times tell."""
        self._scp = StorageScp(
            ScpConfig(aet=aet, host=host, port=port, allow_aets=allow, min_free_bytes=2**26), folder
        )
        self._taking: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """Listens; returns where. Raises `GatewayError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / INCOMING).mkdir(mode=0o700, exist_ok=True)
        await asyncio.to_thread(recover, self.folder / INCOMING)
        self.stored = await asyncio.to_thread(scan, self.folder)
        address = await self._scp.start()
        self._taking = asyncio.create_task(self._take())
        return address

    async def _take(self) -> None:
        async for event in self._scp.events():
            if isinstance(event, Received):
                self.stored.append(event)

    def path(self, received: Received) -> Path:
        """The file of one instance; its data set begins at `received.data_offset`."""
        return self.folder / INCOMING / received.name

    async def stop(self) -> None:
        """The port is free; the files stay."""
        await self._scp.stop()
        if self._taking is not None:
            await self._taking


async def run(folder: Path, aet: str, host: str, port: int, allow: tuple[str, ...]) -> None:
    """The command: until SIGTERM or SIGINT."""
    pacs = BundledPacs(folder, aet=aet, host=host, port=port, allow=allow)
    at, number = await pacs.start()
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, end.set)
    line = msgspec.json.encode({"aet": aet, "host": at, "port": number, "folder": str(folder / INCOMING)})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()
    await end.wait()
    await pacs.stop()


def main() -> int:
    """Arguments and exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.gateway.dicom.pacs", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--dir", type=Path, required=True, help="where the instances are kept")
    parser.add_argument("--aet", default="PACS", help="AE title")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="AET", help="calling AE titles, from anywhere"
    )
    given = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(given.dir, given.aet, given.host, given.port, tuple(given.allow)))
    except GatewayError as why:
        sys.stderr.write(f"{why.sentence}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
