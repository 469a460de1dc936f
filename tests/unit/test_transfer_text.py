from __future__ import annotations

import sys
import unicodedata

import pytest

from tests.transfer_kit import refused
from transfer.errors import HeaderError
from transfer.text import is_seen, person_name, seen

NAMES = ["María José", "王小明", "نورة العتيبي", "נועה לוי", "Zoë Ünal-李", "🙂", "O'Neil", "สมชาย"]


@pytest.mark.parametrize("name", NAMES)
def test_letters_of_every_script_stay(name: str) -> None:
    assert is_seen(name)
    assert seen(name) == person_name(name) == name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Jane\u202e eoD", "Jane eoD"), ("\u2066Jane\u2069", "Jane"), ("J\u200bane", "Jane"),
        ("\u200eנועה\u200f", "נועה"),
        ("Ja\x00ne\x1b[2J", "Jane[2J"), ("\ufeffJane\u00ad", "Jane"), ("Jane\r\n\tDoe", "Jane Doe"),
        ("Jane\u2028Doe", "Jane Doe"), ("  Jane \u200d  Doe ", "Jane Doe"), ("Jane\U000e0041", "Jane"),
        ("علی\u200cرضا", "علیرضا"), ("e\u0301", "é"), ("\u202e\u200b \x07", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_goes(typed: str, name: str) -> None:
    assert is_seen(typed) == (typed == "e\u0301")
    assert person_name(typed) == name
    assert is_seen(seen(typed))
    assert person_name(person_name(typed)) == name


def test_eighty_characters_after_normalization() -> None:
    assert person_name("e\u0301\u202e" * 80) == "é" * 80
    for long in ("x" * 81, "x" * 10_000, "🙂" * 81, "e\u0301" * 81):
        with refused(HeaderError):
            person_name(long)


def test_every_control_and_mark_of_direction_is_among_them() -> None:
    """By the interpreter's own Unicode data: no control, no line end, nothing that turns or isolates text."""
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN"}
    left = [
        f"{code:x}"
        for code in range(sys.maxunicode + 1)
        if is_seen(chr(code))
        and (
            unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp")
            or unicodedata.bidirectional(chr(code)) in turning
        )
    ]
    assert left == []
