"""Whose images a received study is, as its sender says: what staff compare with the patient in front of them.

It is what the first restored instance says, kept for as long as the transfer's other words (`store.retention`). The
other instances of the study are held to it: one that names another patient is not filed under this one's number.
"""

from __future__ import annotations

import msgspec

from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.store.database import Con, one, value
from transfer.ids import Tid


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The sender's words, as `InstanceHeader` has them. Its own number is a claim here, not an identity."""

    patient_name: str
    patient_id: str
    issuer: str
    birth_date: str
    sex: str
    accession: str
    what: str
    """Modality, description and date of the study."""
    charset: str
    """Specific Character Set of the instance: what a name would have to be written in."""

    def is_other(self, h: InstanceHeader) -> bool:
        """Whether an instance names another patient: by number, issuer or birth date, where both say one."""
        pairs = ((self.patient_id, h.patient_id), (self.issuer, h.issuer), (self.birth_date, h.birth_date))
        return any(a != b for a, b in pairs if a and b)


def claim_of(h: InstanceHeader) -> Claim:
    """What an instance says of its patient."""
    return Claim(
        patient_name=h.patient_name, patient_id=h.patient_id, issuer=h.issuer, birth_date=h.birth_date, sex=h.sex,
        accession=h.accession, charset=h.charset,
        what=", ".join(x for x in (h.modality, h.study_description, h.study_date) if x),
    )  # fmt: skip


def present(con: Con, tid: Tid, h: InstanceHeader, now: int) -> int:
    """Remembers what the first instance of a transfer says, once; since when."""
    con.execute(
        "INSERT INTO presented (tid, sender, at) VALUES (?,?,?) ON CONFLICT (tid) DO NOTHING",
        (tid, msgspec.json.encode(claim_of(h)), now),
    )
    return int(value(con, "SELECT at FROM presented WHERE tid=?", (tid,)))


def presented(con: Con, tid: Tid) -> tuple[Claim, int] | None:
    """What the sender says of a transfer's patient, and since when it is here; None before it was opened."""
    row = one(con, "SELECT sender, at FROM presented WHERE tid=?", (tid,))
    return None if row is None else (msgspec.json.decode(row["sender"], type=Claim), row["at"])
