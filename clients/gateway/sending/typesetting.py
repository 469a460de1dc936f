"""A report's text as a PDF: A4, its lines as they are, and on each page whose it is and who brought it.

The letters must all be there: a PDF with a box where the finding was is worse than none. The font is the first one that
has every letter of the text: Bitstream Vera, which comes with reportlab (Western Europe), else DejaVu Sans where the
machine has it (Debian `fonts-dejavu-core`: all of Europe, Greek, Cyrillic, Vietnamese). What neither can show, or what
reportlab does not shape (Arabic, Hebrew, Indic scripts, Chinese, Japanese, Korean), is refused by name: such a report
comes as a PDF from the system that wrote it.

The same input makes the same bytes: no clock and no chance is in them.
"""

from __future__ import annotations

import io
import threading
import unicodedata
from typing import Any

import msgspec

from clients.gateway.errors import IntakeError
from clients.gateway.fonts import font_for, is_plain

MAX_PAGES = 200
_WIDTH, _HEIGHT = 595.28, 841.89
_MARGIN, _TOP, _BOTTOM = 56.0, 760.0, 62.0
_HEAD = 108.0
"""From the title down to the text, in points (1/72 inch)."""
_SIZE, _LEADING, _SMALL = 10.0, 14.5, 8.0
_LINE = 20_000
"""Characters of one line before it is wrapped: more is no line."""
_UNSHOWN = "(see the images)"
"""Instead of a name that no font shows."""
_lock = threading.Lock()
"""reportlab keeps its fonts in a table of the process."""


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on each page. Any but `title` may be empty."""

    title: str
    patient: str = ""
    born: str = ""
    number: str = ""
    study: str = ""
    accession: str = ""
    origin: str = ""
    """Who brought it or wrote it, and when."""
    note: str = ""
    """In front of the text: that it is preliminary, or corrects another."""


def typeset(heading: Heading, text: str) -> bytes:
    """The PDF. Raises `IntakeError`: `report-letters`, `report-long`."""
    with _lock:
        return _Setter(_clean(text), heading).pdf()


def _clean(text: str) -> str:
    """Composed letters, spaces for tabs; nothing that only steers a terminal or a direction (Unicode Cc, Cf)."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n"))
    lines = (line.expandtabs(8).rstrip() for line in text.split("\n"))
    return "\n".join(
        "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf")) for line in lines
    ).strip("\n")


class _Setter:
    """One document."""

    def __init__(self, text: str, heading: Heading) -> None:
        self._text = text
        self._font, self._letters = font_for(text)
        shown = {f: self._shown(getattr(heading, f)) for f in heading.__struct_fields__}
        self._heading = Heading(**shown)

    def _shown(self, fact: str) -> str:
        fact = " ".join(_clean(fact).split())[:160]
        return fact if all(c in self._letters and is_plain(c) for c in fact) else _UNSHOWN

    def pdf(self) -> bytes:
        """All pages."""
        from reportlab.pdfgen.canvas import Canvas

        lines = [line for part in self._text.split("\n") for line in self._wrap(part)]
        room = int((_TOP - _BOTTOM - _HEAD) // _LEADING)
        pages = [lines[at : at + room] for at in range(0, max(len(lines), 1), room)]
        if len(pages) > MAX_PAGES:
            raise IntakeError(
                f"This report has more than {MAX_PAGES} pages. Give it as a PDF.", code="report-long"
            )
        buffer = io.BytesIO()
        canvas = Canvas(buffer, pagesize=(_WIDTH, _HEIGHT), invariant=1, pageCompression=1, lang="")
        canvas.setTitle(self._heading.title)
        canvas.setCreator("Trauma Transfer")
        for number, page in enumerate(pages, 1):
            self._page(canvas, page, f"Page {number} of {len(pages)}")
        canvas.save()
        return buffer.getvalue()

    def _page(self, canvas: Any, lines: list[str], foot: str) -> None:
        h = self._heading
        canvas.setFont(self._font, 15)
        canvas.drawString(_MARGIN, _TOP, self._fit(h.title, 15))
        canvas.setFont(self._font, _SIZE)
        who = ", ".join(
            filter(
                None, (h.patient, f"born {h.born}" if h.born else "", f"MRN {h.number}" if h.number else "")
            )
        )
        what = ", ".join(filter(None, (h.study, f"accession {h.accession}" if h.accession else "")))
        at = _TOP - 22
        for line in (who or "No patient is named in the study", what, h.origin):
            canvas.drawString(_MARGIN, at, self._fit(line, _SIZE))
            at -= _LEADING
        canvas.setLineWidth(0.6)
        canvas.line(_MARGIN, at + 4, _WIDTH - _MARGIN, at + 4)
        if h.note:
            canvas.setFillGray(0.9)
            canvas.rect(_MARGIN, at - 20, _WIDTH - 2 * _MARGIN, 19, stroke=0, fill=1)
            canvas.setFillGray(0)
            canvas.drawString(_MARGIN + 5, at - 14, self._fit(h.note[:1].upper() + h.note[1:], _SIZE))
        at = _TOP - _HEAD
        for line in lines:
            canvas.drawString(_MARGIN, at, line)
            at -= _LEADING
        canvas.setFont(self._font, _SMALL)
        canvas.drawString(_MARGIN, _BOTTOM - 26, self._fit(h.patient or h.number, _SMALL))
        canvas.drawRightString(_WIDTH - _MARGIN, _BOTTOM - 26, foot)
        canvas.showPage()

    def _wide(self, text: str, size: float = _SIZE) -> float:
        from reportlab.pdfbase.pdfmetrics import stringWidth

        return float(stringWidth(text, self._font, size))

    def _fit(self, text: str, size: float) -> str:
        room = _WIDTH - 2 * _MARGIN
        while text and self._wide(text, size) > room:
            text = text[:-2].rstrip() + "…" if "…" in self._letters else text[:-1]
        return text

    def _wrap(self, line: str) -> list[str]:
        """A line as lines that fit; broken at blanks, in a word only where it does not fit by itself."""
        room, found = _WIDTH - 2 * _MARGIN, []
        if len(line) > _LINE:
            raise IntakeError("A line of this report has no end. Give it as a PDF.", code="report-long")
        while self._wide(line) > room:
            low, high = 1, min(len(line), 400)
            while low < high:  # the longest beginning that fits
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self._wide(line[:middle]) <= room else (low, middle - 1)
            blank = line.rfind(" ", 1, low + 1)
            cut = blank if line[:blank].strip() and blank > 0 else low
            found.append(line[:cut].rstrip())
            line = line[cut:].lstrip(" ")
        return [*found, line]
