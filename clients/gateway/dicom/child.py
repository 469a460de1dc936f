"""The child's side of the `Door`: lines in, lines out, and an end together with its owner."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from clients.gateway.dicom.door import MAX_LINE

_PR_SET_PDEATHSIG = 1
T = TypeVar("T")


class Owner(Generic[T]):
    """Who started this process; `T` is what its lines are."""

    def __init__(self, lines: type[T]) -> None:
        end_with_owner(int(sys.argv[1]))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner
        logging.getLogger("pynetdicom").disabled = True  # it quotes peers
        logging.getLogger("pydicom").disabled = True
        logging.disable(logging.CRITICAL)
        self._decoder = msgspec.json.Decoder(lines)
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        self._out = os.dup(1)
        os.dup2(2, 1)  # a print of a library is no line of ours

    def lines(self) -> Iterator[T]:
        """What the owner says, until it is gone."""
        while True:
            line = sys.stdin.buffer.readline(MAX_LINE)
            if not line.endswith(b"\n"):
                return
            yield self._decoder.decode(line)

    def tell(self, line: msgspec.Struct) -> None:
        """Writes a line; waits while the owner is behind. Where it is gone this process ends with it, before a peer
        is told anything: its pipes close a moment before the kernel ends us.
        """
        text = memoryview(self._encoder.encode(line) + b"\n")
        with self._lock:
            while text:
                try:
                    text = text[os.write(self._out, text) :]
                except BrokenPipeError:
                    os._exit(1)


def end_with_owner(owner: int) -> None:
    """SIGKILL for this process when its owner ends, where the kernel can; elsewhere its input ends then."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        pass
    if os.getppid() != owner:  # it ended before we asked
        os._exit(1)
