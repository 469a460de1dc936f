"""`clients.gateway.fonts`: a letter is shown, or it is said that it is not."""

from __future__ import annotations

import pytest

from clients.gateway.errors import IntakeError
from clients.gateway.fonts import font_for, is_plain, substitute


def test_western_letters_need_nothing_installed() -> None:
    name, letters = font_for("Größe: 5 cm, señal\n")
    assert name == "Vera"
    assert set("Größeñ") <= letters


@pytest.mark.parametrize("text", ["東京", "שלום", "مرحبا", "e\u0301"])
def test_what_no_font_shows_is_refused_by_name(text: str) -> None:
    with pytest.raises(IntakeError) as caught:
        font_for("finding " + text)
    assert caught.value.code == "report-letters"


def test_a_substitute_shows_as_much_as_there_is() -> None:
    _, letters = substitute("Zürich 東京")
    assert set("Zürich") <= letters
    assert "東" not in letters


@pytest.mark.parametrize(("letter", "plain"), [("a", True), ("ß", True), ("ש", False), ("\u0301", False)])
def test_a_letter_that_stands_for_itself(letter: str, plain: bool) -> None:
    assert is_plain(letter) is plain
