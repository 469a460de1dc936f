"""What one relay carries for a while: whole transfers of 140 MB of ciphertext, each uploaded, fetched as it
arrives, and deleted. Senders and receivers share the machine with it, and start the next as one is done.
"""

from __future__ import annotations

import os
import threading
import time

from tests.bench.calls import Caller, Probe, together
from tests.bench.servers import PACK, Relay, relay
from tests.bench.studies import workspace
from tests.bench.table import Row, at_least, at_most, emit, shrunk
from transfer.ids import Cid

_SECONDS = 45
_PACKS = 134
"""140 MB."""
_SIDES = 3
"""Transfers at once."""


class Load:
    """Transfers until the time is over."""

    def __init__(self, there: Relay, seconds: float, packs: int) -> None:
        self._there, self._packs = there, packs
        self._until = time.monotonic() + seconds
        self.done: list[float] = []
        """When each ended."""

    def run(self) -> None:
        """One sender and its receiver, one transfer after the other."""
        up, down = Caller(self._there.url), Caller(self._there.url)
        while time.monotonic() < self._until:
            self._transfer(up, down)
            self.done.append(time.monotonic())
        up.close()
        down.close()

    def _transfer(self, up: Caller, down: Caller) -> None:
        cid, landed = Cid(os.urandom(16)), threading.Semaphore(0)
        together([lambda: self._send(up, cid, landed), lambda: self._fetch(down, cid, landed)])
        _must(up.call(self._there.delete(cid)))

    def _send(self, caller: Caller, cid: Cid, landed: threading.Semaphore) -> None:
        for n in range(self._packs):
            _must(caller.call(self._there.put(cid, n)))
            landed.release()

    def _fetch(self, caller: Caller, cid: Cid, landed: threading.Semaphore) -> None:
        for n in range(self._packs):
            if not landed.acquire(timeout=60):
                raise SystemExit("a pack did not arrive")
            _must(caller.call(self._there.get(cid, n)))


def _must(status: int) -> None:
    if status >= 300:
        raise SystemExit(f"a call of the bench was answered {status}")


def main() -> None:
    """Emits transfers a second, and the small request meanwhile."""
    seconds, packs = shrunk(_SECONDS, 2), shrunk(_PACKS, 4)
    with workspace() as base, relay(base / "relay") as there, Probe(there.url, there.small, 0.02) as probe:
        load, start = Load(there, seconds, packs), time.monotonic()
        together([load.run] * _SIDES)
    size = packs * len(PACK) / 1e6
    rate = len(load.done) / (load.done[-1] - start)
    emit(
        Row(
            what=f"relay: transfers of {size:.0f} MB a second, in and out, for {seconds} s",
            unit="/s",
            values=[rate],
            gate=at_least(0.5),
            note=f"{len(load.done)} transfers, {rate * size:.0f} MB/s in and as much out",
        )
    )
    emit(
        Row(
            what="relay: p99 of a small request meanwhile",
            unit="ms",
            values=[probe.percentile(0.99)],
            gate=at_most(50),
            better="less",
        )
    )
