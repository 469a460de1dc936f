"""One byte stream for each cid: items laid end to end at S, cut into pack bodies, put together at R (protocol
s. 6).

Neither side holds more than it must: `Cutter` keeps less than one pack, `Assembler` keeps what no finished
item needs any more only until `forget`. Bytes that no item names (a crash in the middle of an item leaves
some) are passed over.
"""

from __future__ import annotations

from collections import deque

from transfer.errors import HashError
from transfer.packs import capacity


class Cutter:
    """Cuts the stream into bodies. `bucket` may change between two packs; `position` is where the next body starts."""

    def __init__(self, bucket: int, position: int = 0) -> None:
        self.bucket = bucket
        self.position = position
        self._parts: deque[memoryview] = deque()
        self._held = 0

    @property
    def end(self) -> int:
        """The stream's length so far: where the next item will start."""
        return self.position + self._held

    def add(self, data: bytes) -> None:
        """Lays `data` behind what is there."""
        if data:
            self._parts.append(memoryview(data))
            self._held += len(data)

    def next(self, *, flush: bool = False) -> bytes | None:
        """The next body: a full one, or with `flush` whatever is left; None where there is not enough."""
        want = capacity(self.bucket)
        if self._held < want:
            if not flush or not self._held:
                return None
            want = self._held
        body = bytearray()
        while len(body) < want:
            part = self._parts[0]
            take = part[: want - len(body)]
            body += take
            if len(take) == len(part):
                self._parts.popleft()
            else:
                self._parts[0] = part[len(take) :]
        self._held -= want
        self.position += want
        return bytes(body)


class Assembler:
    """Puts bodies together again, in the order of their numbers, and hands out items by offset and length."""

    def __init__(self, position: int = 0) -> None:
        self._parts: deque[tuple[int, bytes]] = deque()
        self.end = position
        """The stream's length that has arrived."""

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return sum(len(body) for _, body in self._parts)

    def add(self, body: bytes) -> None:
        """The next pack's body."""
        if body:
            self._parts.append((self.end, body))
            self.end += len(body)

    def take(self, offset: int, length: int) -> bytes:
        """The coded bytes of one item. Raises `HashError` where the stream does not hold them."""
        if offset + length > self.end or (length and (not self._parts or offset < self._parts[0][0])):
            raise HashError
        pieces = list[memoryview]()
        for start, body in self._parts:
            if start >= offset + length:
                break
            if start + len(body) > offset:
                pieces.append(memoryview(body)[max(0, offset - start) : offset + length - start])
        return b"".join(pieces)

    def forget(self, position: int) -> None:
        """Drops what lies wholly before `position`."""
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) <= position:
            self._parts.popleft()
