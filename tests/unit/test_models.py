"""`tests.models`: the formal models are whole, ask what their README says, and speak of the code's messages.

ProVerif is not packaged everywhere, so the text is read here: each edit fits, and each name that a model uses is one
that it declares. `make models` runs them where ProVerif is.
"""

from __future__ import annotations

import re

import pytest

from tests.models import FOLDER, Edit, Scenario, load, questions
from transfer import messages

TEXT, SCENARIOS = load()
_WORDS = {
    *(
        "free",
        "channel",
        "type",
        "fun",
        "reduc",
        "forall",
        "equation",
        "const",
        "event",
        "restriction",
        "query",
    ),
    *("attacker", "inj", "let", "in", "out", "new", "if", "then", "else", "process", "private", "data"),
    *("typeConverter", "bitstring", "true", "weaksecret", "phase", "table", "insert", "get"),
}
_DECLARES = (
    r"\b(?:type|fun|event|table|free|new) ([A-Za-z_]\w*)", r"\blet ([A-Za-z_]\w*)", r"([A-Za-z_]\w*): [a-z_]+",
    r"reduc [^;]*; ([a-z_]+)\(", r"(?:table|get|insert) (\w+)\(", r"let of_\w+\((\w+)\)",
)  # fmt: skip


def test_there_are_as_many_as_were_checked() -> None:
    assert len(SCENARIOS) == 55


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_name_is_declared_and_each_bracket_closed(name: str) -> None:
    model = re.sub(r"\(\*.*?\*\)", "", SCENARIOS[name].expand(TEXT), flags=re.DOTALL)
    declared = set(_WORDS)
    for pattern in _DECLARES:
        declared |= set(re.findall(pattern, model))
    for names in re.findall(r"(?:const|free) ([^:]+):", model):
        declared |= set(re.findall(r"\w+", names))
    for pattern in re.findall(r"let \(([^)]*(?:\([^)]*\)[^)]*)*)\) =", model) + re.findall(
        r"get \w+\(([^)]*)\)", model
    ):
        declared |= set(re.findall(r"(?:^|, )(\w+)", pattern))
    assert set(re.findall(r"[A-Za-z_]\w*", model)) <= declared
    assert model.count("(") == model.count(")")
    assert model.count("[") == model.count("]")


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_recorded_is_asked(name: str) -> None:
    scenario = SCENARIOS[name]
    asked = questions(scenario.expand(TEXT))
    assert asked
    assert set(scenario.holds) | set(scenario.fails) <= set(asked)
    assert not set(scenario.holds) & set(scenario.fails)


def test_the_readme_shows_each_scenario_and_its_verdicts() -> None:
    """Run with the rows printed by this failure to bring README.md in step."""
    text = (FOLDER / "README.md").read_text("utf-8")
    rows = [
        f"| {name} | {s.title} | {', '.join(s.holds) or '-'} | {', '.join(s.fails) or '-'} |"
        for name, s in SCENARIOS.items()
    ]
    missing = [row for row in rows if row not in text]
    assert not missing, "\n".join(rows)


def test_the_messages_are_those_of_the_code() -> None:
    (names,) = re.findall(r"^const ([^:]+): bitstring\.$", TEXT, re.MULTILINE)
    modelled = {"Offer", "Grant", "Release", "Manifest", "Receipt", "Prekey"}
    assert {name.upper() for name in modelled} <= set(names.split(", "))
    assert {name for name in modelled if hasattr(messages, name)} == modelled


def test_an_edit_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no such line"):
        Scenario("x", [], [], [Edit("no such line\n", "")]).expand(TEXT)
