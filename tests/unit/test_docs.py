"""The documents lead where they say: links and their anchors, and every test and model that a claim cites."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.models import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_TEST = re.compile(r"\b(test_\w+\.py)(?:::(test_\w+))?")
_MODEL = re.compile(r"(?<!\^)\b([ABSX]\d\d[kq]?)\b")  # and not an HL7 event, ADT^A40


def prose(page: Path) -> str:
    """The text of a page without its blocks of code, in which nothing is a link."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


@cache
def anchors(page: Path) -> set[str]:
    """What a heading is called in an address: lower case, punctuation dropped, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


@cache
def functions(file: str) -> set[str]:
    """All test functions in the files of this name."""
    found = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file)]
    return {name for text in found for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{target} leads nowhere"
        assert ROOT in there.parents, f"{target} leads out of the repository"
        assert not anchor or anchor in anchors(there), f"{target} has no such heading"


def test_a_reader_finds_every_page() -> None:
    """By links, from the README on: no decision, guide or model is on no list."""
    seen, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        found = (target.partition("#")[0] for target in _LINK.findall(prose(page)))
        todo += [(page.parent / name).resolve() for name in found if name and ":" not in name]
    assert set(PAGES) <= seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_cited_test_is_there(page: Path) -> None:
    for file, name in _TEST.findall(page.read_text("utf-8")):
        assert any((ROOT / "tests").rglob(file)), f"{file} is no test"
        assert not name or name in functions(file), f"{file} has no {name}"


def test_every_decision_is_on_their_list() -> None:
    folder = ROOT / "docs/adr"
    listed = _LINK.findall(prose(folder / "README.md"))
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def test_every_cited_model_is_there() -> None:
    pages = [*ROOT.glob("docs/security/*.md"), *ROOT.glob("docs/adr/*.md"), ROOT / "docs/spec/protocol.md"]
    cited = {name for page in pages for name in _MODEL.findall(prose(page))}
    assert cited
    assert cited <= set(load()[1])
