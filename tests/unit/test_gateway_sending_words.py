"""`clients.gateway.sending.words`: what a patient reads about a study never says more than it may."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.sending.words import contents, describe, initials, noun, series_label
from transfer.summary import Summary, make_summary


def a_row(**values: Any) -> sqlite3.Row:
    """A row as the database gives it."""
    con = sqlite3.connect(":memory:")
    con.row_factory = sqlite3.Row
    columns = ", ".join(f"? AS {name}" for name in values)
    row: sqlite3.Row = con.execute(f"SELECT {columns}", tuple(values.values())).fetchone()
    con.close()
    return row


def words(description: str = "", date: str = "", *series: tuple[str, str]) -> str:
    study = a_row(description=description, date=date)
    return describe(study, [a_row(modality=m, description=d) for m, d in series])


@pytest.mark.parametrize(
    ("name", "birth_date", "said"),
    [
        ("DOE, JANE", "1970-01-02", "J. D., born 1970"),
        ("DOE, JANE MARY", "", "J. D."),
        ("DOE", "1970-01-02", "D., born 1970"),
        (", JANE", "1970-01-02", "J., born 1970"),
        ("müller, özlem", "1970-01-02", "Ö. M., born 1970"),
        ("山田, 太郎", "", "太. 山."),
        ("", "1970-01-02", "unknown"),
        ("UNKNOWN123", "", "U."),
        ("1234, 5678", "1970-01-02", "unknown"),
        ("DOE, JANE", "19700102", "J. D., born 1970"),
        ("DOE, JANE", "??", "J. D."),
    ],
)
def test_initials_and_the_year(name: str, birth_date: str, said: str) -> None:
    assert initials(name, birth_date) == said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("", "", ("CT", "")), "CT"),
        (("Polytrauma", "2026-11-24", ("CT", "HEAD 5MM"), ("CT", "Thorax")), "CT of head, chest, 2026-11-24"),
        (("CT Abdomen/Pelvis", "", ("CT", "")), "CT of belly, pelvis"),
        (("Polytrauma_ABD_5mm LUNGS, c-spine", "", ("CT", "")), "CT of neck, chest, belly, spine"),
        (("Hippocampus harmonic pharmacy elegance", "", ("MR", "")), "MRI"),
        (("", "", ("MR", ""), ("CT", ""), ("PR", "")), "MRI, CT"),
        (("", "2026-11-24", ("CT", "head"), ("DOC", "Reports")), "CT of head with a report, 2026-11-24"),
        (("", "", ("SR", "Fatal bleeding"), ("DOC", "")), "Report"),
        (("", "", ("XX", "")), "Scans"),
        (("", ""), "Scans"),
        (("", "", ("CR", ""), ("DX", "")), "X-ray"),
    ],
)
def test_kind_part_and_date(args: Any, said: str) -> None:
    assert words(*args) == said


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ([("CT", 574), ("DOC", 1)], "574 images, 1 report"),
        ([("DOC", 1), ("SR", 1), ("KO", 1), ("PR", 2), ("CT", 1200)],
         "1,200 images, 2 reports, 1 key image list, 2 view settings"),
        ([("RTSTRUCT", 1), ("RTPLAN", 1), ("ECG", 3)], "1 contour set, 1 radiotherapy plan, 3 waveforms"),
        ([("", 2), ("XX", 1)], "3 images"), ([("SR", 1)], "1 report"), ([], "0 images"), ([("CT", 0)], "0 images"),
    ],
)  # fmt: skip
def test_what_staff_read_of_what_is_no_image(series: list[tuple[str, int]], said: str) -> None:
    assert contents(series) == said
    assert noun(" sr ") == "report"
    assert series_label("SR", "99", "Findings") == "SR 99 (report) · Findings"
    assert series_label("CT", "2", "head 5 mm") == "CT 2 · head 5 mm"


def test_a_diagnosis_is_not_repeated() -> None:
    said = words("SUBDURAL HEMATOMA R/O METASTASIS, DOE JANE", "2026-11-24", ("CT", "brain mets follow up"))
    assert said == "CT of head, 2026-11-24"


@given(
    st.text(max_size=300),
    st.text(max_size=300),
    st.text(max_size=16),
    st.lists(st.text(max_size=200), max_size=30),
)
def test_whatever_the_scanner_wrote_it_fits_the_summary(
    name: str, description: str, modality: str, series: list[str]
) -> None:
    """The phone takes at most so many characters; nothing from the data set gets in but a known word."""
    what = words(description, "2026-11-24", *((modality, d) for d in series))
    summary = Summary(
        person=initials(name, "1970-01-02"), from_="x" * 80, to="y" * 80, what=what[:120], why="transfer", until=1,
        alt=[], add=0, call="", declined=None,
    )  # fmt: skip
    make_summary(summary)
