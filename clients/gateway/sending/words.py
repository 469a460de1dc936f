"""What a patient reads about a study: no name, no diagnosis, no count (experience: words)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

_MODALITY = {
    "CT": "CT", "MR": "MRI", "CR": "X-ray", "DX": "X-ray", "US": "Ultrasound", "XA": "Angiography",
    "PT": "PET", "NM": "Nuclear scan", "MG": "Mammogram", "RF": "Fluoroscopy",
}  # fmt: skip
_PARTS = (
    ("head", "head"), ("brain", "head"), ("skull", "head"), ("schaedel", "head"), ("neck", "neck"),
    ("c-spine", "neck"), ("cspine", "neck"), ("chest", "chest"), ("thorax", "chest"), ("lung", "chest"),
    ("abd[a-z]*", "belly"), ("pelvis", "pelvis"), ("spine", "spine"), ("knee", "knee"), ("hip", "hip"),
    ("shoulder", "shoulder"), ("arm", "arm"), ("hand", "hand"), ("leg", "leg"), ("foot", "foot"),
)  # fmt: skip
_WHOLE = tuple((re.compile(rf"(?<![a-z]){key}s?(?![a-z])"), word) for key, word in _PARTS)
"""Whole words: a hippocampus is no hip."""


def initials(name: str, birth_date: str) -> str:
    """ "J. D., born 1970" of "DOE, JANE" and a birth date, or "unknown"."""
    family, _, given = name.partition(",")
    letters = [part.strip()[:1].upper() for part in (given, family) if part.strip()[:1].isalpha()]
    if not letters:
        return "unknown"
    year = birth_date[:4]
    return " ".join(f"{x}." for x in letters) + (
        f", born {year}" if len(year) == 4 and year.isdigit() else ""
    )


def describe(study: sqlite3.Row, series: Sequence[sqlite3.Row]) -> str:
    """ "CT of head, chest, 2026-11-24"."""
    kinds = list(dict.fromkeys(_MODALITY.get(s["modality"], "") for s in series))
    text = " ".join([study["description"], *(s["description"] for s in series)]).lower()
    parts = list(dict.fromkeys(word for key, word in _WHOLE if key.search(text)))[:5]
    kind = ", ".join(k for k in kinds if k) or "Scans"
    where = f" of {', '.join(parts)}" if parts else ""
    return f"{kind}{where}" + (f", {study['date']}" if study["date"] else "")


def series_label(modality: str, number: str, description: str) -> str:
    """ "CT 2 · head 5 mm", for staff; may be empty."""
    head = " ".join(x for x in (modality, number) if x)
    return f"{head} · {description}" if description else head
