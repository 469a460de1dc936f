"""What one core does: a study's data sets to sealed packs, and back to proven data sets, beside the bare codec.

The peer is what the codec's library does alone with the same images, in the same thread, right before: OpenJPH
as imagecodecs binds it. So the ratio is the price of everything around it: finding the pixels, proof by decoding,
SHA-256 of original and ciphertext, Zstandard of the rest, cutting, AES-GCM.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import Any

import imagecodecs
import msgspec
import numpy as np
from numpy.typing import NDArray

from clients.gateway import codec
from clients.gateway.codec.pixels import find
from tests.bench.studies import Sets, real_and_phantom
from tests.bench.table import ROUNDS, Row, at_least, emit, shrunk
from transfer.ids import Cid, ContentKey
from transfer.packs import BUCKETS, open_pack, seal_pack
from transfer.stream import Assembler, Cutter

KEY, CID = ContentKey(bytes(32)), Cid(bytes(16))
_BUCKET = BUCKETS[4]
"""1 MiB: what a link of some 10 MB/s gets."""

Sealed = tuple[list[bytes], list[tuple[str, int, int, int, bytes]]]


def seal(sets: Sets) -> Sealed:
    """As the sender does it: hash, code with proof, cut, seal, hash the ciphertext."""
    cutter, packs, items = Cutter(_BUCKET), list[bytes](), list[tuple[str, int, int, int, bytes]]()

    def pack(body: bytes | None) -> bool:
        if body is None:
            return False
        ct = seal_pack(KEY, CID, "D", len(packs), body, os.urandom)
        hashlib.sha256(ct).digest()
        packs.append(ct)
        return True

    for data, syntax in sets:
        digest = hashlib.sha256(data).digest()
        coded = codec.encode(data, syntax)
        items.append((coded.codec, cutter.end, len(coded.body), len(data), digest))
        cutter.add(coded.body)
        while pack(cutter.next()):
            pass
    pack(cutter.next(flush=True))
    return packs, items


def open_all(sealed: Sealed) -> None:
    """As the receiver does it: hash and open packs, take items, decode, compare."""
    packs, items = sealed
    stream, n = Assembler(), 0
    for name, offset, length, original, digest in items:
        while stream.end < offset + length:
            hashlib.sha256(packs[n]).digest()
            stream.add(open_pack(KEY, CID, "D", n, packs[n]))
            n += 1
        data = codec.decode(name, stream.take(offset, length), original)
        stream.forget(offset + length)
        assert hashlib.sha256(data).digest() == digest


def images(sets: Sets) -> list[NDArray[Any]]:
    """Their frames as arrays, for the library alone."""
    found = []
    for data, syntax in sets:
        pixels = find(data, syntax)
        grid = pixels.grid if pixels else None
        if pixels is None or grid is None:
            continue
        shape = (grid.rows, grid.columns, grid.samples)[: 2 if grid.samples == 1 else 3]
        dtype = f"<{'i' if grid.signed else 'u'}{grid.width}"
        for i in range(grid.count):
            at = pixels.start + i * grid.frame
            found.append(np.frombuffer(data, dtype, grid.frame // grid.width, at).reshape(shape))
    return found


def bare(frames: list[NDArray[Any]]) -> tuple[float, float]:
    """MB/s of the library: encoding, decoding."""
    size = sum(frame.nbytes for frame in frames) / 1e6
    up, coded = timed(
        lambda: [
            bytes(imagecodecs.htj2k_encode(f, reversible=True, rgb=f.ndim == 3, planar=False)) for f in frames
        ]
    )
    down, _ = timed(lambda: [imagecodecs.htj2k_decode(stream, planar=False) for stream in coded])
    return size / up, size / down


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this thread's CPU time, and what came of it."""
    start = time.thread_time()
    made = work()
    return time.thread_time() - start, made


def main() -> None:
    """Emits a row for each study and direction."""
    for name, whole in real_and_phantom().items():
        sets = whole[: shrunk(len(whole), 2)]
        size = sum(len(data) for data, _ in sets) / 1e6
        frames = images(sets)
        up, down, up_bare, down_bare = list[float](), list[float](), list[float](), list[float]()
        for _ in range(ROUNDS + 1):  # the first warms up
            library = bare(frames)
            took, sealed = timed(lambda sets=sets: seal(sets))  # type: ignore[misc]
            back, _ = timed(lambda sealed=sealed: open_all(sealed))  # type: ignore[misc]
            for found, rate in zip(
                (up, down, up_bare, down_bare), (size / took, size / back, *library), strict=True
            ):
                found.append(rate)
        both = ("encode + check + pack + seal", up, up_bare, "HTJ2K encode", 100, 140)
        back_ = ("open + decode + verify", down, down_bare, "HTJ2K decode", 150, 250)
        for what, ours, theirs, peer, gate, goal in (both, back_):
            row = Row(
                what=f"{what}, per core: {name}", unit="MB/s", values=ours[1:], peer=peer, beside=theirs[1:]
            )
            emit(msgspec.structs.replace(row, gate=at_least(gate), goal=at_least(goal)))
