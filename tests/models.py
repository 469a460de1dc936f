"""The formal models of `docs/spec/model`: one text, and scenarios as edits of it.

`python -m tests.models DIR` writes each scenario as a ProVerif file into DIR and, where ProVerif is installed, runs
it and holds its verdicts against those of `scenarios.toml`. `make models` calls it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parents[1] / "docs/spec/model"
_LIMIT = 600
"""Seconds for one scenario; each takes a few."""
_COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
_RESULT = re.compile(r"^RESULT .*? (is true|is false|cannot be proved)\.$", re.MULTILINE)
_QUESTIONS = (
    ("pin", r"weaksecret PIN$"),
    ("guess", r"weaksecret SUMMARY$"),
    ("secret", r"query attacker\(STUDY\)$"),
    ("summary", r"query attacker\(SUMMARY\)$"),
    ("staff", r"\|\| \(event\(Attested"),
    ("once", r"inj-event\(Approved"),
    ("approved", r"event\(Approved"),
    ("authentic", r"==>\s*content = STUDY$"),
    ("receipt", r"==>\s*event\(Delivered"),
    ("reached", r"event\((Opened|ReceiptTaken)\([^>]*\)$"),
)
"""What each query of the text asks, by its end."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whole lines that stand once in the text, and what stands there instead."""

    old: str
    new: str


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an attacker has or a protocol lacks; which questions hold and which fail, where a run is on record."""

    title: str
    holds: list[str]
    fails: list[str]
    edits: list[Edit] = []

    def expand(self, text: str) -> str:
        """The whole model. Raises `ValueError` for an edit that does not fit."""
        for edit in self.edits:
            if ("\n" + text).count("\n" + edit.old) != 1:
                raise ValueError(edit.old)
            text = ("\n" + text).replace("\n" + edit.old, "\n" + edit.new)[1:]
        return f"(* {self.title} *)\n{text}"


def load() -> tuple[str, dict[str, Scenario]]:
    """The text and its scenarios, by name."""
    scenarios = msgspec.convert(
        tomllib.loads((FOLDER / "scenarios.toml").read_text("utf-8")), dict[str, Scenario]
    )
    return (FOLDER / "tt1.pv").read_text("utf-8"), scenarios


def questions(model: str) -> list[str]:
    """What a model asks, in its order: the names that README.md explains, or `other`."""
    found = []
    for part in _COMMENT.sub("", model).split(".\n"):
        part = part.strip()
        if part.startswith(("query", "weaksecret")):
            found += [
                next((name for name, end in _QUESTIONS if re.search(end, one.strip())), "other")
                for one in re.split(r"\.\s+(?=query)", part)
            ]
    return found


def run(path: Path, scenario: Scenario) -> list[str]:
    """What ProVerif says otherwise than the record, in words."""
    asked = questions(path.read_text("utf-8"))
    done = subprocess.run(
        ["proverif", str(path)], capture_output=True, text=True, timeout=_LIMIT, check=False
    )
    said = dict(zip(asked, _RESULT.findall(done.stdout), strict=True))
    wanted = dict.fromkeys(scenario.holds, "is true") | dict.fromkeys(scenario.fails, "is false")
    return [
        f"{name} {said[name]}, not: {verdict}" for name, verdict in wanted.items() if said[name] != verdict
    ]


def main(folder: Path) -> int:
    """The number of scenarios with another verdict than the record's."""
    folder.mkdir(parents=True, exist_ok=True)
    text, scenarios = load()
    there, wrong = shutil.which("proverif") is not None, 0
    for name, scenario in scenarios.items():
        path = folder / f"{name}.pv"
        path.write_text(scenario.expand(text), "utf-8")
        if there:
            differences = run(path, scenario)
            wrong += bool(differences)
            print(name, "; ".join(differences) or "as recorded")
    print(f"{len(scenarios)} models are in {folder}." + ("" if there else " ProVerif is not installed here."))
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
