"""What staff and the audit log are told of images that are in the PACS, and not quite as they were sent there.

A warning status (PS3.4 B.2.3) is success with a note of the PACS's: kept in the ledger, and said. So is a transfer
syntax that is not the study's own (`transcoding`). Where a study goes to several destinations, what is missing is said
for each. Nothing of this is in the receipt: it tells the sender which items are stored, and has no field for how.
"""

from __future__ import annotations

from pydicom.uid import UID

from clients.gateway.store.database import Con, rows

_NOTES = {
    0xB000: "changed some of its elements",
    0xB006: "left some of its elements out",
    0xB007: "found its data set not to be what its class says",
}
_OTHER = "made a note that its log explains"
_STORED = "SELECT {}, count(*) AS n FROM ledger WHERE tid=? AND state='stored' AND {} GROUP BY 1 ORDER BY 1"


def sentence(con: Con, tid: bytes) -> str:
    """For staff: empty where all is as usual."""
    said = [
        f" {n} {_images(n)} stored, but the PACS {_NOTES.get(status, _OTHER)} (status {status:04X})."
        for status, n in _warnings(con, tid)
    ]
    said += [
        f" {n} {_images(n)} stored in the transfer syntax {UID(syntax).name}, without loss: the PACS refuses"
        f" {'its' if n == 1 else 'their'} own."
        for syntax, n in _transcoded(con, tid)
    ]
    return "".join(said) + _gaps(con, tid)


def account(con: Con, tid: bytes) -> str:
    """For the audit log: what follows the counts of gaps and proofs, or nothing."""
    said = [f", status {status:04X} {n}" for status, n in _warnings(con, tid)]
    said += [f", transcoded {n} to {syntax}" for syntax, n in _transcoded(con, tid)]
    said += [f", missing at {to or 'no destination'} {n}" for to, n in _missing(con, tid)]
    return "".join(said)


def _images(n: int) -> str:
    return "image was" if n == 1 else "images were"


def _warnings(con: Con, tid: bytes) -> list[tuple[int, int]]:
    return [(r[0], r["n"]) for r in rows(con, _STORED.format("status", "status>0"), (tid,))]


def _transcoded(con: Con, tid: bytes) -> list[tuple[str, int]]:
    return [(r[0], r["n"]) for r in rows(con, _STORED.format("syntax", "syntax<>''"), (tid,))]


def _missing(con: Con, tid: bytes) -> list[tuple[str, int]]:
    """What each destination lacks; nothing where there is only one, of which all that is said is said already."""
    found = rows(
        con,
        "SELECT destination, sum(state='failed') AS n FROM ledger WHERE tid=? GROUP BY destination ORDER BY 1",
        (tid,),
    )
    return [(r["destination"], r["n"]) for r in found if r["n"]] if len(found) > 1 else []


def _gaps(con: Con, tid: bytes) -> str:
    said = [f"{to.rpartition('@')[0] or 'no destination'}: {n}" for to, n in _missing(con, tid)]
    return f" Missing at {', at '.join(said)}." if said else ""
