"""A slow link in user space: a TCP proxy with a rate, a delay and a loss, one for each direction, shared by all its
connections.

`python -m tests.bench.link --to PORT --rate BYTES_PER_SECOND --delay SECONDS` prints its own port as JSON. It stands
for a hospital's uplink where the kernel has no netem. What it is: the rate is exact over all connections, and each
byte arrives `delay` after the last one of its chunk has left. What it is not: a network. The kernel's TCP runs over
loopback on both sides of it and never sees this link, so a new connection has its handshake and its slow start at
once, and no figure made with it says anything about a congestion control that it does not model.

`--loss P` models what losing that part of all segments does to TCP, by two figures from elsewhere:

- *how much one connection carries*. `--control cubic`: the rate of Mathis et al. (1997), MSS / RTT x 1.22 / sqrt(P),
  which CUBIC falls back to at such rates (RFC 9438 4.3): 3.6 Mb/s with 1 % and 40 ms. `--control bbr`: 86 % of the
  link, as measured with 1 % and 40 ms at 200 Mb/s (BBR does not take a loss for congestion). All of them together
  carry `1 - P` of the link: what was lost is sent again;
- *how late a small message is*: each segment is lost with P, drawn from a seeded source, and what is behind it in
  its connection waits for it one round trip longer (fast retransmit; RFC 8985 probes the tail in about two).

`--log FILE` has, when the link ends (SIGTERM), the bytes of each direction in every quarter of a second as JSON: how
well the link was used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import signal
import time
from collections import Counter
from pathlib import Path

_CHUNK = 16384
_QUEUE = 64
"""Chunks on their way in one direction of one connection."""
_SEGMENT = 1460
_BBR = 0.86
SLOT = 0.25
"""Seconds of one figure of the log."""


class Lane:
    """How fast one direction of something is: when the last byte of a chunk has left."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    def take(self, size: int, now: float) -> float:
        """The time at which `size` bytes more have left."""
        self._free = max(self._free, now) + size / self._rate
        return self._free


class Pipe:
    """One direction of the link."""

    def __init__(self, rate: float, delay: float, loss: float, control: str, seed: int) -> None:
        self._delay, self._loss = delay, loss
        self._lane = Lane(rate * (1 - loss))
        self._each = math.inf
        if loss:
            mathis = _SEGMENT / (2 * delay) * 1.22 / math.sqrt(loss)
            self._each = mathis if control == "cubic" else rate * _BBR
        self._random = random.Random(seed)
        self.moved: Counter[int] = Counter()
        """Bytes that have left in each slot since the epoch."""

    def connection(self) -> Lane:
        """What one connection may carry of it."""
        return Lane(self._each)

    async def send(self, size: int, own: Lane) -> float:
        """Waits until the chunk has left; the time at which it arrives."""
        now = time.monotonic()
        free = max(self._lane.take(size, now), own.take(size, now))
        if free - now > 0.002:
            await asyncio.sleep(free - now)
        self.moved[int(time.time() / SLOT)] += size
        whole = (1 - self._loss) ** math.ceil(size / _SEGMENT)
        late = 2 * self._delay if self._loss and self._random.random() > whole else 0.0
        return free + self._delay + late


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: Pipe) -> None:
    flying: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
    own = pipe.connection()

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
            await flying.put((await pipe.send(len(data), own), data))
        await flying.put((0.0, b""))
        await arriving
    except (ConnectionError, OSError):
        writer.close()
    finally:
        arriving.cancel()


async def _run(options: argparse.Namespace) -> None:
    up, down = (Pipe(options.rate, options.delay, options.loss, options.control, seed) for seed in (1, 2))

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, out = await asyncio.open_connection("127.0.0.1", options.to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, out, up), _carry(there, writer, down))

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(json.dumps({"event": "ready", "port": server.sockets[0].getsockname()[1]}), flush=True)
    await ended.wait()
    if options.log is not None:
        options.log.write_text(json.dumps({"up": up.moved, "down": down.moved}))


def main() -> None:
    """Runs until it is ended."""
    options = argparse.ArgumentParser()
    options.add_argument("--to", type=int, required=True)
    options.add_argument("--rate", type=float, required=True)
    options.add_argument("--delay", type=float, required=True)
    options.add_argument("--loss", type=float, default=0.0)
    options.add_argument("--control", choices=("bbr", "cubic"), default="bbr")
    options.add_argument("--log", type=Path)
    asyncio.run(_run(options.parse_args()))


if __name__ == "__main__":
    main()
