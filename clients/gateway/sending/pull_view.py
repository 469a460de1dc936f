"""How the desk shows a pull: its counts, how it ended, and what to do next."""

from __future__ import annotations

import sqlite3

from clients.gateway.pulled import PullView
from clients.gateway.sending import pull_words
from clients.gateway.sending.pull_words import Reach, images
from clients.gateway.sending.pulls import Progress
from clients.gateway.store.database import Con, one, rows, value

_SHOWN = 100


def pull_view(con: Con, row: sqlite3.Row, now: Progress | None, reach: Reach) -> PullView:
    """One pull; `now` is the one that is under way."""
    study = one(con, "SELECT id FROM studies WHERE uid=?", (row["uid"],))
    here = value(con, "SELECT count(*) FROM instances WHERE study=?", (study["id"],)) if study else 0
    live = now if now is not None and now.id == row["id"] else None
    counts = (
        (live.completed, live.failed, live.warned, live.remaining)
        if live
        else (row["completed"], row["failed"], row["warned"], row["remaining"])
    )
    misses = rows(con, "SELECT uid FROM pull_misses WHERE pull=? ORDER BY uid LIMIT ?", (row["id"], _SHOWN))
    return PullView(
        id=row["id"], state=row["state"], code=row["code"], sentence=_sentence(row, reach), how=row["how"],
        patient_name=row["patient_name"], birth_date=row["birth_date"], what=row["what"],
        study=study["id"] if study else "", actor=row["actor"], at=row["at"], ended_at=row["ended_at"],
        wanted=row["wanted"], here=row["here"] if row["ended_at"] else here, missing=row["missing"],
        completed=counts[0], failed=counts[1], warned=counts[2], remaining=counts[3], others=row["others"],
        refused=row["refused"], notes=_notes(row), misses=[r["uid"] for r in misses],
    )  # fmt: skip


def _sentence(row: sqlite3.Row, reach: Reach) -> str:
    """The state, and what stands behind it."""
    state, wanted, here = row["state"], row["wanted"], row["here"]
    if state == "WAITING":
        return "It waits for the pull before it."
    if state == "RUNNING":
        return "Images are on their way here from the PACS."
    if state == "COMPLETE":
        return f"Everything is here: PACS says {wanted:,}, here {here:,}."
    if state == "STOPPED":
        return f"It was stopped. {images(here)} of it {'is' if here == 1 else 'are'} here."
    if state == "UNVERIFIED":
        return (
            f"{images(here)} came. The PACS does not list what belongs to the study, so nothing here can tell whether"
            " it is complete: compare the number with the PACS before you send it."
        )
    why = _why(row, reach)
    if row["missing"] > 0:
        return f"{images(row['missing'])} missing: PACS says {wanted:,}, here {here:,}. {why}"
    return why


def _why(row: sqlite3.Row, reach: Reach) -> str:
    if row["code"] == "source-status":
        return pull_words.retrieve_refused(row["status"] or 0, row["how"], reach)
    return pull_words.trouble(row["code"])


def _notes(row: sqlite3.Row) -> list[str]:
    """What else staff should know."""
    said = []
    if row["stranger"]:
        said.append(
            "The images name another patient than the list of the PACS. Do not send them: call the PACS administrator."
        )
    if row["failed"]:
        said.append(f"The PACS says that it could not send {images(row['failed'])}.")
    if row["warned"]:
        said.append(f"The PACS made a note about {images(row['warned'])}; they were sent.")
    if row["others"]:
        said.append(
            f"The PACS also sent {images(row['others'])} of another study; that is at the desk as what it is."
        )
    if row["refused"]:
        said.append(f"{images(row['refused'])} came and could not be used here.")
    return said
