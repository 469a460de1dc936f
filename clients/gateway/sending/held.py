"""What the archive lists, held against what is here."""

from __future__ import annotations

import sqlite3

import msgspec

from clients.gateway.dicom.query import Match
from clients.gateway.dicom.source import Listing
from clients.gateway.pulled import MatchView
from clients.gateway.store.database import Con, rows, value


def here_of(con: Con, uid: str) -> dict[str, str]:
    """The images of a study that are here: series by SOP Instance UID."""
    found = rows(
        con,
        "SELECT i.sop_uid, i.series FROM instances i JOIN studies s ON s.id=i.study WHERE s.uid=?",
        (uid,),
    )
    return {str(r["sop_uid"]): str(r["series"]) for r in found}


def held_against(listing: Listing, here: dict[str, str]) -> tuple[int, int]:
    """(images that the archive has, how many of them are not here); -1 where it does not say."""
    if not listing.answered:
        return -1, -1
    if listing.by_image:
        return len(listing.images), len(listing.images.keys() - here.keys())
    if not listing.series or min(listing.series.values()) < 0:
        return -1, -1
    own = list(here.values())
    return (
        sum(listing.series.values()),
        sum(max(0, number - own.count(series)) for series, number in listing.series.items()),
    )


def says(con: Con, study: str, at: int, code: str, listed: int, missing: int) -> None:
    """Keeps what the archive says of a study here."""
    con.execute(
        "INSERT OR REPLACE INTO archive_says (study, at, code, listed, missing) VALUES (?,?,?,?,?)",
        (study, at, code, listed, missing),
    )


def name_pull(con: Con, ident: str, match: Match) -> None:
    """A pull shows whose study it fetches."""
    what = " ".join(filter(None, (match.modalities, match.date, match.description)))
    con.execute(
        "UPDATE pulls SET patient_name=?, patient_id=?, birth_date=?, what=? WHERE id=?",
        (match.patient_name, match.patient_id, match.birth_date, what, ident),
    )


def is_stranger(row: sqlite3.Row, study: sqlite3.Row) -> bool:
    """Whether the images name another patient than the archive's list."""
    pairs = ((row["patient_id"], study["patient_id"]), (row["birth_date"], study["birth_date"]))
    return any(a and b and a != b for a, b in pairs)


def match_view(con: Con, match: Match) -> MatchView:
    """A study of a search, with how much of it is here."""
    here = value(
        con, "SELECT count(*) FROM instances i JOIN studies s ON s.id=i.study WHERE s.uid=?", (match.uid,)
    )
    return MatchView(here=here, **msgspec.structs.asdict(match))
