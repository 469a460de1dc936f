"""`clients.gateway.ladder`: the order of the rungs, and a file that is not understood stops the gateway by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.errors import ConfigError
from clients.gateway.ladder import FILE, TEXT, Ladder, load_ladder, parse_ladder

UPPER = (
    TEXT.replace("# [[rungs]]", "[[rungs]]").replace('# name = "', 'name = "').replace("# seconds", "seconds")
)


def test_what_init_writes_is_the_default_and_the_upper_rungs_are_off(tmp_path: Path) -> None:
    assert parse_ladder(TEXT) == load_ladder(tmp_path) == Ladder()
    assert [rung.name for rung in Ladder().rungs] == ["patient", "proxy", "voice"]
    (tmp_path / FILE).write_text(UPPER)
    assert [rung.name for rung in load_ladder(tmp_path).rungs] == [
        "patient",
        "proxy",
        "voice",
        "attest",
        "override",
    ]


def test_each_rung_is_offered_some_time_after_the_one_before() -> None:
    ladder = parse_ladder(UPPER)
    offered = [("patient", 1000), ("proxy", 1180), ("voice", 1360), ("attest", 1660), ("override", 1780)]
    assert ladder.offered(1000) == offered
    assert ladder.after_no(1000) == [("patient", 1000)]
    assert parse_ladder('[refusal]\nnext = ""').after_no(1000) == []


RUNGS = '[[rungs]]\nname = "patient"\n\n[[rungs]]  # second\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (RUNGS + 'name = "nurse"\n', 5, "no rung 'nurse'"),
        (RUNGS + 'seconds = 5\nname = "Override"\n', 6, "no rung 'Override'"),
        (RUNGS + 'name = "attest"\nsecond = 5\n', 6, "unknown field `second`"),
        (RUNGS + 'name = "attest"\nseconds = "5"\n', 6, "Expected `int`"),
        (RUNGS + 'name = "attest"\nseconds = -1\n', 6, ">= 0"),
        (RUNGS + "seconds = 5\n", 4, "missing required field `name`"),
        (RUNGS + 'name = "patient"\n', 5, "twice"),
        ('# one\n[[rungs]]\nname = "attest"\n', 3, "first rung is 'patient'"),
        (RUNGS + 'name = "proxy"\n[refusal]\nnext = "attest"\n', 7, "not among the rungs"),
        (RUNGS + 'name = "proxy"\n[refusal]\nthen = "proxy"\n', 7, "unknown field `then`"),
        (RUNGS + 'name = "proxy"\n[refusals]\nnext = "proxy"\n', 6, "unknown field `refusals`"),
        ("hurry = true\n" + RUNGS + 'name = "proxy"\n', 1, "unknown field `hurry`"),
        (RUNGS + "name = proxy\n", 5, "at line 5"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_its_line(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_ladder(tmp_path)
    assert words in str(caught.value)
    assert f"line {line}" in str(caught.value)
    assert str(tmp_path / FILE) in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff", b"rungs = []", b"rungs = 3", b'rungs = [{name = "nurse"}]'])
def test_what_has_no_line_is_refused_all_the_same(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(ConfigError):
        load_ladder(tmp_path)
