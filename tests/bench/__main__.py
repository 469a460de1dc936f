"""`make bench`: figures side by side with their gates and goals (performance targets); never a test.

    cpu       encode + proof + pack + seal, and open + decode + verify: MB/s of original bytes per core
    journey   from the yes to the first and the last instance stored, everything prefetched; peak memory of each
              process for a study and for four times as much

    wan       from `send` to the first and last image over links of 10, 50 and 200 Mb/s, 40 ms

`python -m tests.bench cpu` runs one part. Medians of three; the machine should be quiet.
"""

from __future__ import annotations

import sys

from tests.bench import cpu, journey, wan

PARTS = {"cpu": cpu.main, "journey": journey.main, "wan": wan.main}


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    for name in chosen:
        if name not in PARTS:
            sys.exit(f"There is no part '{name}'. Choose from: {', '.join(PARTS)}.")
        print(f"\n{name}")
        PARTS[name]()


if __name__ == "__main__":
    main()
