"""`make bench`: every figure of the performance targets that one machine can show, in one table with its peers,
its gate and its goal; never a test. docs/operate/performance.md says how to read it.

    cpu      encode + check + pack + seal, and open + decode + verify, beside the raw codecs
    scp      first hop: DCMTK storescu to our SCP and to DCMTK storescp
    scu      last hop: our SCU and DCMTK storescu to the same storescp
    small    the same two with instances of 10 KB, and how many responses were lost
    pacs     coercion on and off, storage commitment on and off, and one instance's wait for its answer
    relay    PUT and GET of 1 MiB packs beside nginx, and a small request meanwhile
    carry    transfers of 140 MB of ciphertext a second through one relay, for a while
    journey  from the yes to the first and the last of 680 instances, prefetched
    divert   to the first instance at another hospital that a study is diverted to
    memory   every process's peak with a study and with one that is eight times as large
    doors    round trips from the PIN to the question, and from the yes to the release, at every door
    phone    the page in Chromium on Slow 3G with a CPU six times slower
    wan      from `send` to the first and the last image over slow links

`make bench ARGS="scp scu"` runs some, `--json` prints one object a row, `--rounds` and `--size` make it
longer or shorter, `--small 100000` is the long count of small instances. Each part is a process group of its
own with a time after which it is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator

import msgspec

from tests.bench import machine
from tests.bench.table import Row, table

PARTS = {
    "cpu": 120, "scp": 90, "scu": 150, "small": 180, "pacs": 240, "relay": 120, "carry": 120, "journey": 240,
    "divert": 240,
    "memory": 300, "doors": 120, "phone": 240, "wan": 540,
}  # fmt: skip
"""Each part and its bound in seconds: two to five times what it takes where nothing else runs."""
_ONCE = "wan"
"""What a run of everything does in one round, because three last half an hour: the link sets the time."""
_LONG_SMALL = 40
"""Small instances a second, both ways and both peers, with which a long count is given its time."""


def options(argv: list[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a row, after one about the machine"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=float, default=1.0, help="of each round; below 1 to try it out")
    parser.add_argument("--small", type=int, default=0, help="small instances each way")
    given = parser.parse_args(argv)
    for name in given.parts:
        if name not in PARTS:
            parser.error(f"There is no part '{name}'. Choose from: {', '.join(PARTS)}.")
    return given


def bound(part: str, rounds: int, given: argparse.Namespace) -> float:
    """Seconds after which a part is ended: longer for more or longer rounds than usual."""
    usual = 1 if part == _ONCE else 3
    size, small = float(given.size), float(given.small)
    seconds = PARTS[part] * max(1.0, rounds / usual) * max(1.0, size)
    return max(seconds, small / _LONG_SMALL) if part == "small" else seconds


def run(part: str, code: str, seconds: float, environment: dict[str, str]) -> Generator[Row, None, None]:
    """The rows that `code` emits, as it makes them; a last one says so where it did not come to its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    try:
        for text in lines(process, time.monotonic() + seconds):
            if text.startswith(b"{"):
                yield msgspec.json.decode(text, type=Row)
            else:  # what a part says besides
                print(text.decode(errors="replace"), file=sys.stderr)
        if status := process.wait():
            yield Row(what=f"{part}: the rest", note=f"it ended with {status}; what it said stands above")
    except TimeoutError:
        yield Row(what=f"{part}: the rest", note=f"it was ended after {seconds:g} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def lines(process: subprocess.Popen[bytes], until: float) -> Iterator[bytes]:
    """What it prints, line by line. Raises `TimeoutError`."""
    assert process.stdout is not None
    kept = b""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise TimeoutError
        if not (data := os.read(process.stdout.fileno(), 2**16)):
            return
        *whole, kept = (kept + data).split(b"\n")
        yield from whole


def measure(given: argparse.Namespace, folder: str, rows: list[Row]) -> None:
    """Runs the parts one after the other, and adds their rows as they come."""
    environment = {
        **os.environ, "BENCH_LINES": "1", "BENCH_SIZE": str(given.size), "BENCH_SMALL": str(given.small or ""),
        "BENCH_DIR": folder, "BENCH_ALL": "" if given.parts else "1",
    }  # fmt: skip
    for part in given.parts or PARTS:
        began = time.monotonic()
        rounds = 1 if part == _ONCE and part not in given.parts else given.rounds
        code = f"from tests.bench.{part} import main; main()"
        seconds = bound(part, rounds, given)
        for row in run(part, code, seconds, {**environment, "BENCH_ROUNDS": str(rounds)}):
            rows.append(row)
            if given.json:
                print(msgspec.json.encode(row).decode(), flush=True)
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Measures, and prints the table of what there is, also where Ctrl-C ends it."""
    given, start, rows = options(), time.monotonic(), list[Row]()
    about = machine.header()
    if given.json:
        print(msgspec.json.encode({"machine": about}).decode(), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.suppress(KeyboardInterrupt):
        measure(given, folder, rows)
    if not given.json:
        print("\n".join(about), table(rows), f"{time.monotonic() - start:.0f} s in all", sep="\n\n")


if __name__ == "__main__":
    main()
