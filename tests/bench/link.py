"""A slow link in user space: a TCP proxy with a rate and a delay, one for each direction, shared by all its
connections.

`python -m tests.bench.link --to PORT --rate BYTES_PER_SECOND --delay SECONDS` prints its own port as JSON.
It stands for a hospital's uplink where the kernel has no netem. It has no loss and no TCP of its own: a
figure made with it is about us, not about congestion control.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

_CHUNK = 16384
_QUEUE = 64
"""Chunks on their way in one direction of one connection."""


class Pipe:
    """One direction of the link: when the last byte of a chunk has left, by the rate."""

    def __init__(self, rate: float, delay: float) -> None:
        self._rate, self._delay = rate, delay
        self._free = 0.0

    async def send(self, size: int) -> float:
        """Waits until the chunk has left; the time at which it arrives."""
        now = time.monotonic()
        self._free = max(self._free, now) + size / self._rate
        if self._free - now > 0.002:
            await asyncio.sleep(self._free - now)
        return self._free + self._delay


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: Pipe) -> None:
    flying: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)

    async def arrive() -> None:
        while True:
            at, data = await flying.get()
            if (rest := at - time.monotonic()) > 0:
                await asyncio.sleep(rest)
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    try:
        while data := await reader.read(_CHUNK):
            await flying.put((await pipe.send(len(data)), data))
        await flying.put((0.0, b""))
        await arriving
    except (ConnectionError, OSError):
        writer.close()
    finally:
        arriving.cancel()


async def _run(to: int, rate: float, delay: float) -> None:
    up, down = Pipe(rate, delay), Pipe(rate, delay)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, out = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, out, up), _carry(there, writer, down))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(json.dumps({"event": "ready", "port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


def main() -> None:
    """Runs until it is ended."""
    options = argparse.ArgumentParser()
    options.add_argument("--to", type=int, required=True)
    options.add_argument("--rate", type=float, required=True)
    options.add_argument("--delay", type=float, required=True)
    chosen = options.parse_args()
    asyncio.run(_run(chosen.to, chosen.rate, chosen.delay))


if __name__ == "__main__":
    main()
