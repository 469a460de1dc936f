"""What a patient reads about a study: no name, no diagnosis, no count (experience: words). And what staff read of a
series that is no image: a report, key images marked by a radiologist, a plan for radiotherapy.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence

_MODALITY = {
    "CT": "CT", "MR": "MRI", "CR": "X-ray", "DX": "X-ray", "US": "Ultrasound", "XA": "Angiography",
    "PT": "PET", "NM": "Nuclear scan", "MG": "Mammogram", "RF": "Fluoroscopy",
}  # fmt: skip
_NOUNS = {
    "DOC": "report", "SR": "report", "PR": "view setting", "KO": "key image list", "AU": "recording",
    "ECG": "waveform", "HD": "waveform", "EPS": "waveform", "RESP": "waveform", "BI": "waveform",
    "SEG": "segmentation", "REG": "registration", "FID": "marker set", "RTSTRUCT": "contour set",
    "RTPLAN": "radiotherapy plan", "RTRECORD": "radiotherapy record", "RWV": "value mapping", "PLAN": "plan",
    "M3D": "model", "HC": "print-out",
}  # fmt: skip
"""What an instance is, by its series' Modality (PS3.3 C.7.3.1.1.1), where that is no image."""
_REPORTS = frozenset({"DOC", "SR"})
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
    if any(s["modality"] in _REPORTS for s in series):
        kind, where = (f"{kind}{where}", " with a report") if any(kinds) else ("Report", where)
    return f"{kind}{where}" + (f", {study['date']}" if study["date"] else "")


def noun(modality: str) -> str:
    """What one instance of a series is called: "image", "report"."""
    return _NOUNS.get(modality.strip().upper(), "image")


def contents(series: Sequence[tuple[str, int]]) -> str:
    """ "574 images, 1 report" of (modality, instances) of each series; the images first."""
    counts: Counter[str] = Counter()
    for modality, instances in series:
        counts[noun(modality)] += instances
    order = sorted(counts, key=lambda name: (name != "image", name != "report"))
    found = [f"{counts[name]:,} {name}{'' if counts[name] == 1 else 's'}" for name in order if counts[name]]
    return ", ".join(found) or "0 images"


def series_label(modality: str, number: str, description: str) -> str:
    """ "CT 2 · head 5 mm" or "SR 99 (report)", for staff; may be empty."""
    name = noun(modality)
    head = " ".join(x for x in (modality, number, f"({name})" if name != "image" else "") if x)
    return f"{head} · {description}" if description else head


def groups(digits: str) -> str:
    """A number or a code as it is read out: "123 4567", "123 456 789"."""
    end = len(digits) - (4 if len(digits) % 3 else 3)
    return " ".join([*(digits[i : i + 3] for i in range(0, end, 3)), digits[end:]])
