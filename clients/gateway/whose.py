"""What the engine shows of whose images a received study is: frozen values, like those of `clients.gateway.views`.

Dates are YYYY-MM-DD, names as people read them ("DOE, JANE"); any text may be empty: not known.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of these views."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A patient of this hospital whom staff chose or typed. Texts as they were typed; the engine reads them."""

    patient_id: str
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    issuer: str = ""
    """Empty: this hospital's own, as [identity] issuer says."""
    source: Literal["typed", "worklist"] = "typed"
    whole: bool = False
    """Write the name, the birth date and the sex into the images too, not the number alone."""


class RowView(View, frozen=True, kw_only=True):
    """One line of the comparison."""

    key: str
    """name, birth_date, sex or number."""
    sender: str
    here: str
    kind: str
    """same, differs, unknown (a side does not say, or says it of an unknown patient), own (each side's own)."""


class ConfirmView(View, frozen=True, kw_only=True):
    """One thing that a person has to confirm for itself."""

    key: str
    sentence: str
    differs: bool


class ComparisonView(View, frozen=True, kw_only=True):
    """Both patients side by side."""

    rows: list[RowView]
    confirm: list[ConfirmView]
    doe: bool
    """One of the names is that of an unknown patient: names and dates of birth say nothing."""
    again: bool
    """The number was typed and is to be typed once more."""
    patient_id: str
    issuer: str
    told: str = ""
    """After it was stored, what the hospital's systems will be told: merge (one number is another's) or update (who is
    behind the number); before: nothing."""


class SenderView(View, frozen=True, kw_only=True):
    """The patient, as the sending hospital says."""

    name: str
    patient_id: str
    issuer: str
    birth_date: str
    sex: str
    accession: str
    what: str


class ChangeView(View, frozen=True, kw_only=True):
    """What was learned of the patient afterwards, once."""

    kind: str
    """merge (the number is another's) or update (who is behind it)."""
    to_id: str
    to_issuer: str
    to_name: str
    by: str
    at: int
    state: str
    """waiting, sent, failed: whether the hospital's systems were told."""
    note: str
    sentence: str
    """All of it in words."""


class IdentityView(View, frozen=True, kw_only=True):
    """Whose images one received study is, and how that was decided."""

    state: str
    """sealed (not opened yet), waits (staff are asked), filed; unknown: it ended unopened, or too long ago."""
    how: str
    """Once it is filed: prefix, match or as-is."""
    filed_id: str
    filed_issuer: str
    now_id: str
    now_issuer: str
    """Whose number it is by now: what it was filed under, or what was said afterwards and not refused."""
    by: str
    at: int
    sender: SenderView | None
    until: int
    """While staff are asked: when the sender's number is taken all the same; 0: never."""
    worklist: bool
    """A worklist can be searched."""
    changes: list[ChangeView]
    """What was said afterwards, oldest first."""
    others: int
    """How many other transfers are filed under that number, and move with it if it is another's."""
    sentence: str
    """All of it in words, with the next step."""


class WorklistItem(View, frozen=True, kw_only=True):
    """One scheduled step."""

    patient_id: str
    issuer: str
    name: str
    """As DICOM writes it, for `Candidate.name`."""
    shown_name: str
    birth_date: str
    sex: str
    accession: str
    what: str
    scheduled: str
    fits: bool
    """It has the name that was asked for; one that does not is another patient's until somebody knows better."""


class WorklistView(View, frozen=True, kw_only=True):
    """What the worklist answered."""

    items: list[WorklistItem]
    dropped: int
    """Answers for another number or accession than asked for, or that cannot be used."""
    more: bool
    """There were more than are shown."""
