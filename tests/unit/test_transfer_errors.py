from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import transfer
from tests.transfer_kit import SPEC
from transfer import door, errors
from transfer.errors import LocalError, PeerError, TransferError, by_code


def _all(root: type[TransferError] = TransferError) -> list[type[TransferError]]:
    return [root] + [found for child in root.__subclasses__() for found in _all(child)]


CLASSES = _all()
SETTLED = (
    "version", "header", "signature", "size", "unknown-site", "not-for-me", "expired", "clock", "kid-unknown",
    "grant-type-off", "used", "hash", "pack", "chain", "decided", "locked",
)  # fmt: skip
"""Protocol s. 13."""


def _make(cls: type[TransferError]) -> TransferError:
    if cls is door.WrongPinError:
        return door.WrongPinError(3)
    return door.EndedError("DENIED") if cls is door.EndedError else cls()


def test_codes_are_unique_and_stable() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert {c.code for c in _all(PeerError)} == {*SETTLED, "peer", "wrong", "ended"}
    assert {c.code for c in _all(LocalError)} == {"local", "state"}
    assert by_code() == {cls.code: cls for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_a_person_reads_what_happened_and_what_to_do(cls: type[TransferError]) -> None:
    error = _make(cls)
    sentences = re.findall(r"[A-Z][^.]*\.", error.sentence)
    assert " ".join(sentences) == error.sentence
    assert len(sentences) >= 2 or ";" in error.sentence
    assert len(error.sentence) <= 160
    assert str(error) == f"{cls.code}: {error.sentence}"
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.code)


def test_an_error_keeps_what_the_page_needs_and_does_not_say_it() -> None:
    wrong, ended = door.WrongPinError(3), door.EndedError("DENIED")
    assert wrong.left == 3
    assert ended.state == "DENIED"
    assert "3" not in str(wrong)
    assert "DENIED" not in str(ended)


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = set(re.findall(r"\b([A-Z]\w+Error)\b", errors.__doc__ or ""))
    assert drawn == {cls.__name__ for cls in CLASSES if cls.__module__ == "transfer.errors"}


def test_no_error_is_raised_with_words_of_its_own() -> None:
    """An argument to an exception is where a name or a UID would slip into a log."""
    names = {cls.__name__ for cls in CLASSES} - {"WrongPinError", "EndedError"}
    for path in Path(transfer.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                assert not node.args, f"{path.name}:{node.lineno}"
                assert not node.keywords, f"{path.name}:{node.lineno}"


def test_the_page_names_every_code() -> None:
    """Section 13 of the protocol lists what a peer or a caller may meet; the three roots are never raised."""
    text = (SPEC / "protocol.md").read_text("utf-8")
    section = text[text.index("## 13.") : text.index("## 14.")]
    listed = set(re.findall(r"`([a-z-]+)`", section))
    assert listed == {cls.code for cls in CLASSES} - {"error", "local", "peer"}


def test_the_page_names_every_label() -> None:
    """A label that is in the code and not on the page is a protocol of our own."""
    text = (SPEC / "protocol.md").read_text("utf-8")
    for path in Path(transfer.__path__[0]).glob("*.py"):
        for label in re.findall(r'b"(tt1/[a-z0-9/]+)"', path.read_text("utf-8")):
            assert f'"{label}"' in text, label
