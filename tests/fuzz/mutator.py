"""Makes nearly valid inputs out of valid ones, the same for the same seed.

Three levels, by chance: bytes (flips, cuts, copies, splices of two samples), numbers as they lie in binary formats
(lengths and counts of one to eight bytes, either order, at their limits), and the tree of a JSON text (another
value, a field less, twice, or under another name, nesting).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

LARGEST = 2**20
"""Bytes of an input."""
_EDGES = [
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 2,
    2**32 - 1,
    2**63,
]
_TOKENS = [
    b"\0", b"\xff", b"%00", b"..", b"/", b"\\", b"\r\n", b"\r\n\r\n", b"{", b"[", b'"', b"\\ud800",
    b"\xed\xa0\x80", b"\xc0\x80",
    b"\xe2\x80\xae", b"\xff\xff\xff\xff", b"\0\0\0\0", b"-1", b"1e400", b"99999999999999999999", b"NaN",
    b"null", b"OB", b"SQ", b"UN",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xe0\x7f\x10\0", b"PK\3\4", b"PK\1\2",
    b"PK\5\6", b"DICM",
    b"\xff\x4f\xff\x51", b"\xff\x90", b"\xff\x93", b"\xff\xd9", b"\x28\xb5\x2f\xfd", b"charset=utf-7", b"=",
    b"&", b"%", b";",
]  # fmt: skip
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 2**31, 2**32, 2**40, 2**53, 2**63, 2**64, -(2**63), 10**40, 0.5, 1e308, "",
    "a", "A" * 43,
    "A" * 22, "\0", "\ud800", "é" * 30, "𝟘" * 6, "../..", "1.2." + "9" * 64, "x" * 5000, [], {}, [[]], [None],
    {"": ""}, [0] * 300,
]  # fmt: skip


class Mutator:
    """An endless source of inputs."""

    def __init__(self, samples: list[bytes], seed: int) -> None:
        self._samples = samples or [b""]
        self._random = random.Random(seed)

    def one(self) -> bytes:
        """The next input."""
        return self.change(self._random.choice(self._samples))

    def change(self, data: bytes) -> bytes:
        """A neighbour of `data`."""
        r = self._random
        if data[:1] in (b"{", b"[") and r.random() < 0.6:
            data = self._json(data)
            if r.random() < 0.7:
                return data[:LARGEST]
        out = bytearray(data)
        for _ in range(r.choice((1, 1, 1, 2, 3, 5, 8))):
            r.choice(_BYTES)(r, out, self._samples)
        return bytes(out[:LARGEST])

    def _json(self, data: bytes) -> bytes:
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError):
            return data
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            tree = self._graft(tree)
        try:
            text = json.dumps(tree, separators=(",", ":"), ensure_ascii=self._random.random() < 0.5)
        except RecursionError:  # deeper than Python writes; `_deep` goes further
            return data
        if isinstance(tree, dict) and self._random.random() < 0.05:  # a field twice
            text = text[:-1] + ',"v":1}'
        return text.encode("utf-8", "surrogatepass")

    def _graft(self, tree: Any) -> Any:
        """`tree` with one node changed."""
        r = self._random
        if isinstance(tree, dict) and tree and r.random() < 0.85:
            name = r.choice(list(tree))
            how = r.random()
            if how < 0.1:
                return {k: v for k, v in tree.items() if k != name}
            if how < 0.15:
                return {**tree, r.choice(["", "x", name + " ", "\0"]): tree[name]}
            return {**tree, name: self._graft(tree[name])}
        if isinstance(tree, list) and tree and r.random() < 0.85:
            at = r.randrange(len(tree))
            how = r.random()
            if how < 0.1:
                return tree[:at] + tree[at + 1 :]
            if how < 0.2:
                return tree[: at + 1] * r.choice((2, 2, 50)) + tree[at + 1 :]
            return [*tree[:at], self._graft(tree[at]), *tree[at + 1 :]]
        if isinstance(tree, int) and not isinstance(tree, bool) and r.random() < 0.6:
            return tree + r.choice((-1, 1, 256, -256, 2**31, 2**32, -tree, -2 * tree))
        if isinstance(tree, str) and tree and r.random() < 0.5:
            at = r.randrange(len(tree))
            return tree[:at] + r.choice(["", "A", "_", "-", "=", "9", "\0", "é", " "]) + tree[at + 1 :]
        if r.random() < 0.05:
            for _ in range(r.choice((5, 50, 500))):
                tree = [tree] if r.random() < 0.5 else {"a": tree}
            return tree
        return r.choice(_VALUES)


def _flip(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    if data:
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)


def _set(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    if data:
        data[r.randrange(len(data))] = r.randrange(256)


def _number(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    """A number at one of its limits, or next to what it was."""
    size = r.choice((1, 2, 4, 8))
    if len(data) < size:
        return
    at, order = r.randrange(len(data) - size + 1), r.choice(("big", "little"))
    was = int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]
    value = r.choice(_EDGES) if r.random() < 0.6 else was + r.choice((-4, -2, -1, 1, 2, 4))
    data[at : at + size] = (value % 256**size).to_bytes(size, order)  # type: ignore[arg-type]


def _remaining(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    """A length that says exactly, or nearly, what follows."""
    size = r.choice((2, 4))
    if len(data) < size:
        return
    at, order = r.randrange(len(data) - size + 1), r.choice(("big", "little"))
    value = max(0, len(data) - at - size + r.choice((-1, 0, 0, 1)))
    data[at : at + size] = (value % 256**size).to_bytes(size, order)  # type: ignore[arg-type]


def _cut(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = r.randrange(len(data) + 1)
    del data[at : at + r.choice((1, 2, 4, 8, 30, 300))]


def _end(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    if data:
        del data[r.randrange(len(data)) :]


def _token(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    at, token = r.randrange(len(data) + 1), r.choice(_TOKENS)
    data[at : at + (len(token) if r.random() < 0.5 else 0)] = token


def _repeat(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    """A piece of it again, perhaps many times."""
    if not data:
        return
    at = r.randrange(len(data))
    piece = data[at : at + r.choice((1, 2, 4, 8, 12, 40, 200))]
    data[at:at] = piece * r.choice((1, 1, 2, 10, 100, min(5000, LARGEST // (8 * len(piece)))))


def _move(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    """A piece of it over another."""
    if not data:
        return
    at, to = r.randrange(len(data)), r.randrange(len(data))
    piece = data[at : at + r.choice((1, 2, 4, 8, 40))]
    data[to : to + len(piece)] = piece


def _splice(r: random.Random, data: bytearray, samples: list[bytes]) -> None:
    """The rest of another sample from here on, or a piece of it in between."""
    other = r.choice(samples)
    at, start = r.randrange(len(data) + 1), r.randrange(len(other) + 1)
    if r.random() < 0.5:
        data[at:] = other[start:]
    else:
        data[at:at] = other[start : start + r.choice((4, 16, 64, 256))]


def _deep(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    """Nesting without an end."""
    at = r.randrange(len(data) + 1)
    data[at:at] = r.choice((b"[", b'{"a":', b"\xfe\xff\x00\xe0\xff\xff\xff\xff")) * r.choice(
        (20, 2000, 20_000)
    )


def _zero(r: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = r.randrange(len(data) + 1)
    size = min(r.choice((1, 4, 16, 64)), len(data) - at)
    data[at : at + size] = r.choice((b"\0", b"\xff")) * size


_BYTES: list[Callable[[random.Random, bytearray, list[bytes]], None]] = [
    _flip, _flip, _set, _number, _number, _number, _remaining, _cut, _end, _token, _token, _repeat, _move,
    _splice, _zero, _deep,
]  # fmt: skip
