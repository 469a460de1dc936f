"""Two identifiers side by side: the sender's patient and this hospital's, before anything is stored.

A person confirms two identifiers, each for itself (Joint Commission NPSG.01.01.01; IHE RAD TF-1 3.22 leaves it to the
importing site how the two are known to be one). Which two is decided here and nowhere else, so that neither a page nor
a command can ask for less:

- the name and the date of birth, where both sides know them and they agree;
- in place of one that is missing, or that differs, what a person can know in another way: the sender's number
  (wristband, ambulance crew, a call to the sending hospital), then that the images fit the patient who is here.

The name and the date of birth of an unknown patient ("DOE, JANE", born 1900-01-01) are no identifiers, whoever gave
them: two hospitals' DOE, JANE are two. What differs is confirmed for itself, on top of the two; and so is, where
images are under a number of this hospital and it is said of them afterwards who it is, that all under it is of the same
patient: what the hospital's systems are told of a number holds for whatever is under it.
"""

from __future__ import annotations

import re

import msgspec

from clients.gateway.dicom.person import Person, shown_date, shown_name
from clients.gateway.receiving.claim import Claim
from clients.gateway.whose import ComparisonView, ConfirmView, RowView

_ALIASES = frozenset({
    "doe", "roe", "unknown", "unk", "unbekannt", "unbekannte", "unbekannter", "desconocido", "desconocida", "inconnu",
    "inconnue", "sconosciuto", "sconosciuta", "onbekend", "anonymous", "anonym", "anonymized", "noname", "nn",
    "unidentified", "trauma", "xx", "xxx", "xxxx", "patient", "emergency",
})  # fmt: skip
"""Words of names that hospitals give to who came in without one."""
_NO_DATES = frozenset({"1800-01-01", "1900-01-01", "1901-01-01", "1111-11-11", "2000-01-01"})
"""Dates of birth that stand for none."""
_SENTENCES = {
    "name": "I have compared the name on both sides.",
    "birth_date": "I have compared the date of birth on both sides.",
    "number": "I know from the wristband, the ambulance crew or the sending hospital that the sender's number"
    " is this patient's.",
    "arrival": "I know that these images are of the patient who is here under our number: place, time and injury fit.",
    "differs-name": "The names differ. I know why, and it is one person.",
    "differs-birth_date": "The dates of birth differ. I know why, and it is one person.",
    "differs-sex": "The sex differs. I know why, and it is one person.",
    "all": "Everything here under the number that these images have now is this patient's: all of it changes too.",
}


class Comparison(msgspec.Struct, frozen=True):
    """What to look at, and what has to be confirmed."""

    rows: list[RowView]
    confirm: list[str]
    """Keys of `_SENTENCES`: first the two identifiers, then what differs."""
    doe: bool

    def view(self, person: Person, *, again: bool, told: str = "") -> ComparisonView:
        """As pages and commands show it."""
        confirm = [
            ConfirmView(key=key, sentence=_SENTENCES[key], differs=key.startswith(("differs-", "all")))
            for key in self.confirm
        ]
        return ComparisonView(
            rows=self.rows, confirm=confirm, doe=self.doe, again=again, patient_id=person.patient_id,
            issuer=person.issuer, told=told,
        )  # fmt: skip


def compare(sender: Claim, person: Person, *, ours: bool = False) -> Comparison:
    """Both sides, and what a person has to confirm before they are one. `ours`: they are under a
    number of this hospital, whose other images change too."""
    doe = is_doe(sender, person)
    name = _row("name", sender.patient_name, shown_name(person.name), vague=doe)
    born = _row(
        "birth_date", sender.birth_date, shown_date(person.birth_date),
        vague=doe or bool(_NO_DATES & {sender.birth_date, shown_date(person.birth_date)}),
    )  # fmt: skip
    sex = _row("sex", sender.sex, person.sex, vague=False)
    agreed = [row.key for row in (name, born) if row.kind == "same"]
    identifiers = [*agreed, "number", "arrival"][:2]
    differs = [f"differs-{row.key}" for row in (name, born, sex) if row.kind == "differs"]
    number = RowView(key="number", sender=_number(sender.patient_id, sender.issuer),
                     here=_number(person.patient_id, person.issuer), kind="own")  # fmt: skip
    whole = ["all"] if ours else []
    return Comparison([name, born, sex, number], identifiers + differs + whole, doe)


def is_doe(sender: Claim, person: Person) -> bool:
    """Whether one of them came without a name of their own. That nobody typed ours says nothing."""
    return unknown(sender.patient_name) or bool(person.name and unknown(shown_name(person.name)))


def _row(key: str, sender: str, here: str, *, vague: bool) -> RowView:
    """`vague`: it may agree or differ, and says nothing; what differs is shown and confirmed all the same."""
    same = _letters(sender) == _letters(here)
    if not sender or not here:
        kind = "unknown"
    elif same:
        kind = "unknown" if vague else "same"
    else:
        kind = "differs"
    return RowView(key=key, sender=sender, here=here, kind=kind)


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _number(number: str, issuer: str) -> str:
    return f"{number} ({issuer})" if number and issuer else number


def unknown(name: str) -> bool:
    """Whether a name stands for somebody whom nobody knew."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    return not words or any(word in _ALIASES for word in words)
