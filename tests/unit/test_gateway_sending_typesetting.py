"""`clients.gateway.sending.typesetting`: every letter of a report is on paper, or there is no paper."""

from __future__ import annotations

import io
from pathlib import Path

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.gateway import fonts
from clients.gateway.errors import IntakeError
from clients.gateway.sending.typesetting import MAX_PAGES, Heading, typeset

HEADING = Heading(
    title="CT head", patient="DOE, JANE", born="1970-01-02", number="4711", study="CT head, 2026-11-24",
    accession="A4711", origin="Written by LEE, KIM, Valley ED, 2026-11-24 12:00", note="corrected report",
)  # fmt: skip
EUROPE = any(path.is_file() for path in fonts._DEJAVU)


def words(pdf: bytes) -> list[str]:
    """The text of each page."""
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf), strict=True).pages]


def test_a_page_has_the_text_and_whose_it_is() -> None:
    (page,) = words(typeset(HEADING, "No bleeding.\n\n  Fracture, 3 mm (left)."))
    for part in (
        "CT head", "DOE, JANE", "born 1970-01-02", "MRN 4711", "accession A4711", "LEE, KIM", "Corrected report",
        "No bleeding.", "Fracture, 3 mm (left).", "Page 1 of 1",
    ):  # fmt: skip
        assert part in page, part


def test_many_pages_each_with_whose_it_is() -> None:
    lines = [f"Line {i} of the report" for i in range(300)]
    pages = words(typeset(HEADING, "\n".join(lines)))
    assert len(pages) > 5
    for number, page in enumerate(pages, 1):
        assert "DOE, JANE" in page
        assert f"Page {number} of {len(pages)}" in page
    found = "\n".join(pages)
    assert all(line in found for line in lines)


def test_a_long_line_is_wrapped_and_nothing_is_lost() -> None:
    text = " ".join(f"word{i}" for i in range(500)) + " " + "x" * 900
    found = "".join("".join(words(typeset(HEADING, text))).split())
    assert found.count("x" * 50) >= 900 // 100
    assert all(f"word{i}" in found for i in range(500))
    assert found.count("x") >= 900


def test_the_same_input_makes_the_same_bytes() -> None:
    assert typeset(HEADING, "No bleeding.") == typeset(HEADING, "No bleeding.")


@pytest.mark.parametrize(
    "text", ["Schädelfraktur, à gauche, niño, 5 µm, ±2 °C", "e\u0301tat", "zero\u200bwidth", "a\tb\r\nc"]
)
def test_western_letters_on_every_machine(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_DEJAVU", ())
    assert words(typeset(HEADING, text))


@pytest.mark.skipif(not EUROPE, reason="DejaVu Sans is not installed here (fonts-dejavu-core)")
@pytest.mark.parametrize("text", ["Żółć, Łódź", "Κάταγμα", "Перелом основания черепа", "Gãy xương sọ"])
def test_letters_of_all_europe_where_the_machine_has_them(text: str) -> None:
    assert text.split()[0].strip(",") in words(typeset(HEADING, text))[0]


@pytest.mark.parametrize("text", ["頭部CT", "שבר", "كسر", "अस्थिभंग", "a\u20dd", "\ue000"])
def test_letters_that_cannot_be_shown_are_refused_with_the_next_step(text: str) -> None:
    with pytest.raises(IntakeError) as caught:
        typeset(HEADING, text)
    assert caught.value.code == "report-letters"
    assert "Give it as a PDF" in caught.value.sentence
    assert text not in caught.value.sentence


def test_a_name_that_cannot_be_shown_is_never_half_a_name() -> None:
    heading = Heading(title="CT", patient="王, 小东", number="4711")
    (page,) = words(typeset(heading, "No bleeding."))
    assert "(see the images)" in page
    assert "MRN 4711" in page


@pytest.mark.parametrize("text", ["x\n" * (MAX_PAGES * 60), "x" * 30_000])
def test_more_than_a_report_is_refused(text: str) -> None:
    with pytest.raises(IntakeError) as caught:
        typeset(HEADING, text)
    assert caught.value.code == "report-long"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.text(max_size=80))
def test_any_text_is_a_pdf_or_named(text: str, name: str) -> None:
    try:
        pdf = typeset(Heading(title=name, patient=name), text)
    except IntakeError as why:
        pdf, code = b"", why.code
    else:
        code = ""
    assert pdf or code in ("report-letters", "report-long")
    assert code or pypdf.PdfReader(io.BytesIO(pdf), strict=True).pages[0]


def test_vera_is_where_it_is_looked_for() -> None:
    assert Path(fonts._fonts()[0][1]).is_file()
