"""`python -m tests.fuzz [NAME ...]`: looks for inputs that end as none may, and keeps them in tests/fuzz/corpus."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec


def main() -> int:
    """Runs what was asked for; 1 if anything was found."""
    options = _options()
    if options.guided and options.report:
        from tests.fuzz import guided

        guided.fuzz(options.names[0], seconds=options.seconds, seed=options.seed, note=options.note,
        report=options.report)  # fmt: skip
    from tests.fuzz.campaign import Note, apart, campaign
    from tests.fuzz.registry import HARNESSES

    if options.executions:
        options.seconds = 0.0
    bounds = {"seed": options.seed, "executions": options.executions, "seconds": options.seconds}
    if options.report:
        result = campaign(
            HARNESSES[options.names[0]], **bounds, note=Note(options.note) if options.note else None
        )
        options.report.write_bytes(msgspec.json.encode(result))
        return 0
    found = 0
    for name in options.names or HARNESSES:
        result = apart(HARNESSES[name], **bounds, guided=options.guided)
        found += len(result.finds)
        counts = f"{result.executions:>12,} inputs, {result.taken:>12,} taken, {len(result.finds)} finds"
        print(f"{name:14} {counts}", flush=True)
        for find in result.finds:
            print(f"  {find.save()}\n{find.why}", flush=True)
    return 1 if found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help="harnesses; all of them where none is named")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each; 0: only what is known")
    parser.add_argument("--executions", type=int, default=0, help="inputs for each, instead of a time")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--guided", action="store_true", help="by coverage: needs atheris")
    parser.add_argument("--note", type=Path, help=argparse.SUPPRESS)  # the input under way
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)  # for whoever started this
    return parser.parse_args()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the threads of a server that was fuzzed hold nobody up
