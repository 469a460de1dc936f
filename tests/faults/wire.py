"""What was said on a wire in DICOM: each C-STORE and C-FIND, counted where nobody can be mistaken about it."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter

from tests.programs import Link

_P_DATA_TF, _COMMAND, _LAST = 4, 1, 2
_C_STORE_RQ, _C_STORE_RSP, _C_FIND_RQ = 0x0001, 0x8001, 0x0020
_PENDING_AT_MOST = 2**20


class Tap(Link):
    """A wire to a PACS that is listened to (PS3.8 9.3.5, PS3.7 6.3)."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.sent: Counter[str] = Counter()
        """C-STORE requests by SOP Instance UID; each counts from its first byte."""
        self.answered: Counter[str] = Counter()
        """C-STORE responses that say that it is stored."""
        self.queries = 0
        self.heard = asyncio.Event()
        """Set with each command."""

    async def _pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        listener = _Listener(self)
        while data := await source.read(2**14):
            sink.write(data)
            await sink.drain()
            listener.hear(data)
        raise ConnectionResetError  # one side is gone: so is the other

    def note(self, command: bytes) -> None:
        """One command set, in Implicit VR Little Endian (PS3.7 6.3.1)."""
        found, at = {}, 0
        while at + 8 <= len(command):
            _, element, length = struct.unpack_from("<HHL", command, at)
            found[element] = command[at + 8 : at + 8 + length]
            at += 8 + length
        field = int.from_bytes(found.get(0x0100, b""), "little")
        uid = found.get(0x1000, b"").rstrip(b"\0 ").decode()
        if field == _C_STORE_RQ:
            self.sent[uid] += 1
        elif field == _C_STORE_RSP and found.get(0x0900) == b"\0\0":
            self.answered[uid] += 1
        elif field == _C_FIND_RQ:
            self.queries += 1
        self.heard.set()


class _Listener:
    """One direction of one connection."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._data, self._command = bytearray(), bytearray()

    def hear(self, data: bytes) -> None:
        """Takes in what passes."""
        self._data += data
        assert len(self._data) < _PENDING_AT_MOST
        while len(self._data) >= 6:
            kind, _, length = struct.unpack_from(">BBL", self._data)
            if len(self._data) < 6 + length:
                return
            if kind == _P_DATA_TF:
                self._values(bytes(self._data[6 : 6 + length]))
            del self._data[: 6 + length]

    def _values(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            length, _, head = struct.unpack_from(">LBB", body, at)
            if head & _COMMAND:
                self._command += body[at + 6 : at + 4 + length]
                if head & _LAST:
                    self._tap.note(bytes(self._command))
                    self._command.clear()
            at += 4 + length
