"""What one core does: a study's data sets to sealed packs, and back to proven data sets."""

from __future__ import annotations

import hashlib
import os
import time

from clients.gateway import codec
from tests.bench.codec import studies
from tests.bench.table import ROUNDS, line
from transfer.ids import Cid, ContentKey
from transfer.packs import BUCKETS, open_pack, seal_pack
from transfer.stream import Assembler, Cutter

KEY, CID = ContentKey(bytes(32)), Cid(bytes(16))
_BUCKET = BUCKETS[4]
"""1 MiB: what a link of some 10 MB/s gets."""

Sealed = tuple[list[bytes], list[tuple[str, int, int, int, bytes]]]


def seal(sets: list[tuple[bytes, str]]) -> Sealed:
    """As the sender does it: hash, code with proof, cut, seal, hash the ciphertext."""
    cutter, packs, items = Cutter(_BUCKET), [], []

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


def main() -> None:
    """Prints a row for each study and direction; seconds are this thread's CPU time, best of three."""
    for name, sets in studies().items():
        size = sum(len(data) for data, _ in sets) / 1e6
        best = {"seal": float("inf"), "open": float("inf")}
        for _ in range(ROUNDS):
            start = time.thread_time()
            sealed = seal(sets)
            best["seal"] = min(best["seal"], time.thread_time() - start)
            start = time.thread_time()
            open_all(sealed)
            best["open"] = min(best["open"], time.thread_time() - start)
        line(
            f"encode + check + pack + seal, per core, {name}", f"{size / best['seal']:.0f} MB/s", "100", "140"
        )
        line(f"open + decode + verify, per core, {name}", f"{size / best['open']:.0f} MB/s", "150", "250")
