"""Fonts for what is put on paper: the first that has every letter of a text.

Bitstream Vera comes with reportlab (Western Europe); DejaVu Sans is taken where the machine has it (Debian
`fonts-dejavu-core`: all of Europe, Greek, Cyrillic, Vietnamese). reportlab shapes nothing, so scripts that join or turn
their letters (Arabic, Hebrew, Indic) are in none of them.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from clients.gateway.errors import IntakeError

_DEJAVU = (
    Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    Path("/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf"),
    Path("/usr/share/fonts/TTF/DejaVuSans.ttf"),
)
"""Debian and Ubuntu, Fedora and RHEL, Arch."""


def is_plain(letter: str) -> bool:
    """Whether a letter stands for itself, from left to right: reportlab joins and turns nothing."""
    direction, kind = unicodedata.bidirectional(letter), unicodedata.category(letter)
    return direction not in ("R", "AL", "AN") and kind not in ("Mn", "Mc", "Me")


def font_for(text: str) -> tuple[str, frozenset[str]]:
    """(name of the font that shows every letter of `text`, what it shows). Raises `IntakeError`."""
    letters = set(text) - {"\n"}
    plain = all(map(is_plain, letters))
    for name, path in _fonts():
        shown = _glyphs(name, path)
        if plain and letters <= shown:
            return name, shown
    raise IntakeError(
        "This report has letters that cannot be typeset here. Give it as a PDF from the system that it was written in.",
        code="report-letters",
    )


def _fonts() -> list[tuple[str, Path]]:
    import reportlab

    found = [("Vera", Path(reportlab.__file__).parent / "fonts" / "Vera.ttf")]
    return found + [("DejaVuSans", path) for path in _DEJAVU if path.is_file()][:1]


def _glyphs(name: str, path: Path) -> frozenset[str]:
    """What a font shows; it is read when it is first needed."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    if name not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(name, str(path)))
    return frozenset(map(chr, pdfmetrics.getFont(name).face.charToGlyph))


def substitute(text: str) -> tuple[str, frozenset[str]]:
    """As `font_for`; where no font shows all of `text`, the one that shows most of it."""
    try:
        return font_for(text)
    except IntakeError:
        return max(
            ((name, _glyphs(name, path)) for name, path in _fonts()), key=lambda f: len(f[1] & set(text))
        )
