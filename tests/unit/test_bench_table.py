"""The bench's table: figures, ratios of pairs, bounds and verdicts."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import table
from tests.bench.table import Row, Target, at_least, at_most, ratio

RATE: dict[str, Any] = {"what": "SCP", "unit": "MB/s", "peer": "DCMTK"}
SOME = st.floats(0.01, 1e6)


def test_the_figure_is_the_median_and_the_span_stands_beside() -> None:
    row = Row(**RATE, values=[90.0, 100.0, 400.0])
    assert row.figure == 100
    assert table.cells(row)[1] == "100 MB/s (90-400)"


def test_one_round_has_no_span() -> None:
    assert table.cells(Row(what="x", unit="s", values=[0.254]))[1] == "0.25 s"


def test_the_ratio_is_the_median_of_pairs_and_not_a_pair_of_medians() -> None:
    """The second round ran on a machine that was busy: both were slow, and the ratio says what it always said."""
    row = Row(**RATE, values=[100.0, 10.0, 50.0], beside=[200.0, 20.0, 500.0])
    assert row.ratio == 0.5
    assert table.beside(row) == "DCMTK 200 MB/s (20-500), x 0.50"


def test_less_is_better_turns_the_ratio_over() -> None:
    assert Row(what="p99", unit="ms", values=[20.0], beside=[10.0], better="less").ratio == 0.5


@pytest.mark.parametrize(
    ("values", "beside", "better"),
    [
        ([], [], "more"),
        ([1.0], [], "more"),
        ([1.0, 2.0], [1.0], "more"),
        ([1.0], [0.0], "more"),
        ([0.0], [1.0], "less"),
    ],
)
def test_without_pairs_there_is_no_ratio(values: list[float], beside: list[float], better: Any) -> None:
    assert Row(what="x", values=values, beside=beside, better=better).ratio is None


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(70, "MISSED by 30.0%"), (100, "gate"), (139, "gate"), (140, "goal"), (500, "goal")],
)
def test_more_is_better(value: float, verdict: str) -> None:
    assert Row(**RATE, values=[value], gate=at_least(100), goal=at_least(140)).verdict == verdict


@pytest.mark.parametrize(("value", "verdict"), [(2.25, "MISSED by 50.0%"), (1.5, "gate"), (0.6, "goal")])
def test_less_is_better(value: float, verdict: str) -> None:
    row = Row(
        what="first image", unit="s", values=[value], gate=at_most(1.5), goal=at_most(0.6), better="less"
    )
    assert row.verdict == verdict


def test_a_gate_on_the_figure_and_a_goal_on_the_ratio() -> None:
    """The relay's: 150 MB/s, and half of what nginx does."""
    row = Row(**RATE, values=[200.0], beside=[300.0], gate=at_least(150), goal=ratio(0.5))
    assert row.verdict == "goal"
    assert msgspec.structs.replace(row, beside=[900.0]).verdict == "gate"
    assert table.cells(row)[3:5] == [">= 150 MB/s", ">= x 0.5"]


def test_a_missing_peer_fails_nothing() -> None:
    """A gate on the figure is judged without it; one on the ratio is not, and the row says why."""
    row = Row(**RATE, values=[200.0], gate=at_least(150), goal=ratio(0.5), note="nginx is not installed")
    assert row.verdict == "gate"
    assert table.beside(row) == "nginx is not installed"
    assert msgspec.structs.replace(row, gate=ratio(0.3)).verdict == "-"
    assert Row(what="first hop", note="DCMTK is not installed").verdict == "no figure"


def test_a_single_bound_is_met_or_missed() -> None:
    assert Row(what="lost", values=[0.0], gate=at_most(0)).verdict == "met"
    assert Row(what="lost", values=[1.0], gate=at_most(0)).verdict == "MISSED"
    assert Row(what="x", values=[1.0], goal=at_least(2)).verdict == "below goal"
    assert Row(what="x", values=[1.0]).verdict == "-"


@given(SOME, SOME, st.sampled_from(["least", "most"]))
def test_a_bound_is_kept_or_missed_by_something(limit: float, value: float, kind: Any) -> None:
    target = Target(limit, kind)
    assert target.met(value) == (target.missed_by(value) <= 0)


@given(st.lists(st.tuples(SOME, SOME), min_size=1, max_size=5))
def test_a_row_survives_the_way_from_its_process(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = map(list, zip(*pairs, strict=True))
    row = Row(**RATE, values=ours, beside=theirs, gate=ratio(0.3), goal=at_least(5))
    assert msgspec.json.decode(msgspec.json.encode(row), type=Row) == row


def test_the_table_lines_up() -> None:
    rows = [
        Row(**RATE, values=[1.0, 2.0, 3.0], beside=[4.0, 4.0, 4.0], gate=ratio(0.3)),
        Row(what="a row with a long name", note="it was ended after 60 s"),
    ]
    lines = table.table(rows).splitlines()
    assert len(set(map(len, lines))) == 1
    bars = [[i for i, sign in enumerate(line) if sign == "|"] for line in lines]
    assert all(a == b for a, b in itertools.pairwise(bars))
    assert "no figure" in lines[3]


@pytest.mark.parametrize(
    ("measured", "gate", "verdict", "figure"),
    [
        ("23.5 s", "24 s", "gate", "23.5 s"),
        ("20 s", "24 s", "goal", "20 s"),
        ("110 MB/s", "100", "gate", "110 MB/s"),
        ("450 MB", "400 MB", "MISSED by 12.5%", "450 MB"),
    ],
)
def test_a_line_of_texts_is_a_row(
    measured: str,
    gate: str,
    verdict: str,
    figure: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_LINES", "1")
    table.line("x", measured, gate, "21 s" if measured.endswith(" s") else "1000" if "/" in measured else "")
    row = msgspec.json.decode(capsys.readouterr().out, type=Row)
    assert (table.cells(row)[1], row.verdict) == (figure, verdict)


def test_a_line_that_is_no_figure_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    table.line("x", "not here")
    assert "not here" in capsys.readouterr().out


def test_a_part_that_runs_by_itself_prints_for_a_reader(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_LINES", raising=False)
    table.emit(Row(**RATE, values=[140.0], gate=at_least(100), goal=at_least(140)))
    assert capsys.readouterr().out == "  SCP: 140 MB/s; gate >= 100 MB/s, goal >= 140 MB/s: goal\n"


def test_smaller_rounds_are_never_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SIZE", "0.001")
    assert table.shrunk(400, 8) == 8
    assert table.shrunk(400) == 1
    monkeypatch.setenv("BENCH_SIZE", "2")
    assert table.shrunk(400) == 800
