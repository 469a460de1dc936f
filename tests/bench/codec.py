"""How small and how fast each codec makes a study, and which one each odd file takes: `python -m
tests.bench.codec`.

Speeds are original bytes per second of this thread's CPU time, the best of five rounds: encoding alone, with
the proof that decoding gives the same bytes (what a sender pays), and decoding (what a receiver pays).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from clients.gateway.codec import coding, decode, encode
from tests.bench.studies import Sets, real_and_phantom
from tests.image_kit import DEV, real_files

ROUNDS = 5


def cpu(work: Callable[[], Iterable[Any]]) -> tuple[float, list[Any]]:
    """Seconds of this thread, the best of some rounds, and what came of it."""
    best, made = float("inf"), []
    for _ in range(ROUNDS):
        start = time.thread_time()
        made = list(work())
        best = min(best, time.thread_time() - start)
    return best, made


def by_codec(sets: Sets) -> None:
    """One line for each codec, forced upon every instance of a study that it takes."""
    for codec in ("ht1", "sh1", "zs1"):
        mine = [
            (data, attempts[codec])
            for data, s in sets
            if codec in (attempts := dict(coding._attempts(data, s)))
        ]
        if not mine:
            continue
        seconds, bodies = cpu(lambda mine=mine: (attempt() for _, attempt in mine))
        kept = [(data, body) for (data, _), body in zip(mine, bodies, strict=True) if body]
        size, coded = sum(len(data) for data, _ in kept), sum(len(body) for _, body in kept)
        back, _ = cpu(lambda kept=kept, codec=codec: (decode(codec, body, len(data)) for data, body in kept))
        row(
            codec,
            size / coded,
            ("encode", size, seconds),
            ("+ proof", size, seconds + back),
            ("decode", size, back),
        )


def row(name: str, ratio: float, *speeds: tuple[str, int, float]) -> None:
    """One line: a name, a ratio, and MB/s of what was done."""
    print(
        f"    {name}  ratio {ratio:5.2f}  ",
        *(f"{what} {size / seconds / 1e6:5.0f} MB/s  " for what, size, seconds in speeds),
    )


def as_chosen(name: str, sets: Sets) -> None:
    """The whole of it, as a sender runs it."""
    size = sum(len(data) for data, _ in sets)
    seconds, coded = cpu(lambda: (encode(data, syntax) for data, syntax in sets))
    back, _ = cpu(lambda: (decode(c.codec, c.body, len(d)) for c, (d, _) in zip(coded, sets, strict=True)))
    print(f"{name}: {len(sets)} instances, {size / 1e6:.0f} MB, codecs {sorted({c.codec for c in coded})}")
    ratio = size / sum(len(c.body) for c in coded)
    row("all", ratio, ("find + encode + proof", size, seconds), ("decode", size, back))
    by_codec(sets)


def table() -> None:
    """One line for each real file: what was chosen, and what came of it."""
    print(f"\n{'file':60} {'bytes':>9} codec {'coded':>9} ratio")
    for name, data, syntax in real_files():
        coded = encode(data, syntax)
        wrong = "" if decode(coded.codec, coded.body, len(data)) == data else "  NOT EQUAL"
        ratio = len(data) / max(1, len(coded.body))
        print(f"{name[-60:]:60} {len(data):9} {coded.codec}   {len(coded.body):9} {ratio:5.2f}{wrong}")


def main() -> None:
    """Prints everything."""
    print("development studies:", "present" if DEV.is_dir() else "absent")
    for name, sets in real_and_phantom().items():
        as_chosen(name, sets)
    table()


if __name__ == "__main__":
    main()
