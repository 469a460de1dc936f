"""Whatever a stranger sends to any parser of ours, it ends as a value or as a named error.

In CI each harness gets a few hundred to a few thousand inputs, the same each time. Under `SOAK=1` each gets
`FUZZ_SECONDS` (an hour), by coverage where atheris is installed, and what is found is kept in the corpus.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tests.fuzz import guided
from tests.fuzz.campaign import Result, apart, corpus, run
from tests.fuzz.harness import CLASSES, CORPUS, Find, Harness, judge
from tests.fuzz.mutator import LARGEST, Mutator
from tests.fuzz.registry import HARNESSES

SOAK = os.environ.get("SOAK") == "1"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3600"))
SEED = 1 if os.environ.get("CI") == "true" else int.from_bytes(os.urandom(4), "big")
EXECUTIONS = 1500
README = (Path(__file__).parent / "README.md").read_text("utf-8")


def told(result: Result) -> str:
    """The finds, as a person needs them."""
    return "\n".join(
        f"{find.harness}: {find.kind}, base64 {base64.b64encode(find.data[:3000]).decode()}\n{find.why}"
        for find in result.finds
    )


@pytest.mark.parametrize("name", HARNESSES)
@pytest.mark.timeout(2 * SECONDS + 600 if SOAK else 180)
def test_every_input_is_taken_or_refused_by_name(name: str) -> None:
    harness = HARNESSES[name]
    if SOAK:
        result = apart(harness, seed=SEED, seconds=SECONDS, guided=guided.installed())
        for find in result.finds:
            find.save()
        print(f"{name}: {result.executions:,} inputs, {result.taken:,} taken")
    else:
        result = run(harness, seed=SEED, executions=max(60, int(EXECUTIONS * harness.share)))
    assert not result.finds, told(result)
    assert result.taken, "nothing was taken: the samples are no good ones any more"


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_what_was_found_once_is_not_found_again(name: str) -> None:
    files = corpus(name)
    assert {path.name.split("-")[0] for path in files} <= set(CLASSES)
    assert all(path.name == Find(name, path.name.split("-")[0], path.read_bytes(), "").name for path in files)
    result = run(HARNESSES[name], seed=1)
    assert not result.finds, told(result)


def test_the_readme_knows_every_harness_and_every_class() -> None:
    assert all(f"`{name}`" in README for name in (*HARNESSES, *CLASSES))


# That the fuzzer itself finds what is there


def planted(data: bytes) -> None:
    """Takes `{"a":[1,2]}` and its like; knows four ways to fail."""
    if b"FAIL" in data:
        raise ZeroDivisionError
    assert not data.startswith(b"WRONG"), "a promise"
    if data == b"MEMORY":
        bytearray(2**28)
    if data == b"SLOW":
        sum(range(30_000_000))
    if not data.startswith(b"{"):
        raise ValueError


PLANTED = Harness(
    name="planted",
    run=planted,
    samples=lambda: [b'{"a":[1,2]}'],
    family=(ValueError,),
    seconds=0.2,
    memory=2**26,
)


@pytest.mark.parametrize(
    ("data", "kind"), [(b"FAIL", "unnamed"), (b"WRONG", "wrong"), (b"MEMORY", "memory"), (b"SLOW", "slow")]
)
def test_each_class_is_told_from_the_others(data: bytes, kind: str) -> None:
    found = judge(PLANTED, data)
    assert isinstance(found, Find)
    assert (found.kind, found.data) == (kind, data)
    assert judge(PLANTED, b"{}") is True
    assert judge(PLANTED, b"") is False


def test_the_same_seed_makes_the_same_inputs_and_another_one_others() -> None:
    def made(seed: int) -> list[bytes]:
        source = Mutator([b'{"a":[1,2],"b":"text"}', bytes(range(200))], seed)
        return [source.one() for _ in range(500)]

    assert made(1) == made(1) != made(2)
    assert len(set(made(1))) > 400
    assert max(map(len, made(1))) <= LARGEST
