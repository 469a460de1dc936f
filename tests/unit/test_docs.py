"""The documents lead where they say: links and their anchors, and every test and model that a claim cites."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MODELS = ROOT.parent / "shared" / "models"
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_cited_test_is_there(page: Path) -> None:
    for file, name in _TEST.findall(page.read_text("utf-8")):
        assert any((ROOT / "tests").rglob(file)), f"{file} is no test"
        assert not name or name in functions(file), f"{file} has no {name}"


def test_every_cited_model_is_there() -> None:
    if not MODELS.is_dir():
        pytest.skip("the models are not beside this repository")
    known = {path.name.partition("_")[0] for path in MODELS.glob("*.pv")}
    pages = [*ROOT.glob("docs/security/*.md"), *ROOT.glob("docs/adr/*.md")]
    cited = {name for page in pages for name in _MODEL.findall(prose(page))}
    assert cited
    assert cited <= known
