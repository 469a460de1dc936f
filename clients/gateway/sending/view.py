"""How the desk shows studies and transfers that this site sends."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from clients.gateway.errors import AbsentError
from clients.gateway.meter import Meter
from clients.gateway.peers.relay import hello_path
from clients.gateway.sending import completeness, prepared
from clients.gateway.sending.additions import CLOSED, ELSEWHERE, additions_of
from clients.gateway.sending.codes import locked_by, tries_left
from clients.gateway.sending.diversion import successor_of
from clients.gateway.sending.notes import notes_of
from clients.gateway.sending.offering import alternates_of
from clients.gateway.sending.offers import refused_at
from clients.gateway.sending.words import contents, describe, series_label
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows, value
from clients.gateway.store.vault import Vault
from clients.gateway.views import NoticeView, SeriesProgress, SeriesView, StudyView, TransferView
from transfer import tries
from transfer.door import receipt_code
from transfer.ids import Cid, Tid, stored_mailbox
from transfer.links import Door, make_address, make_link, spoken
from transfer.messages import Grant, Receipt, peek
from transfer.release import peek_grant, rung_of
from transfer.states import OPEN_SENDER

SENTENCES = {
    "PREPARING": "The study is being sealed. The code appears as soon as the destination's key is here.",
    "no-prekey": "The destination has not published a key yet. The offer goes out by itself when it does; "
    "use the existing route if you cannot wait.",
    "addition": "New images or reports of a study that was sent before. They follow under the same yes.",
    CLOSED: "Additions were closed before this one could leave. Send its images as a new transfer.",
    ELSEWHERE: "Its transfer was diverted. The one to the other hospital has these images, or says that they came too"
    " late for it.",
    "OFFERED": "Let the patient, or whoever speaks for them, scan the code and type the PIN.",
    "voice": "Tell the person on the telephone the address, then the number, then the code.",
    "scan": "Tell the PIN to the person whose phone was scanned.",
    "code-over": "The time of this code is over. Who has the question on their screen can still answer it.",
    "no-code": "No code is open. Choose a way to answer, and a new code is made.",
    "locked": "Too many wrong PINs. Re-open the transfer to get a new code and PIN.",
    "crowded": "Too many phones came by this code, and no more are answered. Re-open the transfer to get a new code and"
    " PIN.",
    "kid-unknown": "The destination changed its key. Stop this transfer and send the study again.",
    "clock": "The clocks of the two sites differ by more than ten minutes. Set the clock, then send again.",
    "staff": "Staff decided in the patient's place. The images are on their way into the destination's PACS.",
    "RELEASED": "The answer was yes. The images are on their way into the destination's PACS.",
    "COMPLETE": "Every image is in the destination's PACS.",
    "PARTIAL": "Not every image arrived. Call the destination, and send what is missing again.",
    "unsent": "Some images could not be read here and were not sent. Send the study again from its source.",
    "import-unfinished": "The study could not be read to its end, so this transfer was stopped. See why below, and send"
    " the study again.",
    "grant-type-off": "The destination takes no decision of staff in a patient's place from this hospital, and opened"
    " nothing. Call it, and use the existing route.",
    "no-receipt": "The destination never confirmed. Call it and ask for the images.",
    "DENIED": "The answer was no. Nothing can be opened; use the existing route if it is still needed.",
    "EXPIRED": "Nobody answered in time. Re-open the transfer to ask again.",
    "REVOKED": "This transfer was stopped. What the destination had opened before, it keeps.",
    "DIVERTED": "The study goes to another hospital instead. What this destination had opened before, it keeps.",
    "diverted": "The study goes to another hospital instead. Nothing was offered to this one.",
    "restored": "This gateway was restored from a backup while this transfer was open, which stopped it."
    " Send the study again.",
}

STAFF_WORDS = {"attest": "attested by two clinicians", "override": "emergency override"}
"""How a decision of staff in the patient's place is called."""


def sentence_of(state: str, why: str) -> str:
    """State and code in a sentence, with the next step."""
    return SENTENCES.get(why) or SENTENCES.get(state, "")


def study_view(con: Con, row: sqlite3.Row) -> StudyView:
    """One study of this site."""
    series = [
        SeriesView(
            uid=s["uid"], number=s["number"], modality=s["modality"], description=s["description"],
            instances=s["n"], bytes=s["size"] or 0,
        )
        for s in rows(
            con,
            "SELECT s.*, count(i.id) AS n, sum(i.size) AS size FROM series s LEFT JOIN instances i"
            " ON i.study=s.study AND i.series=s.uid WHERE s.study=? GROUP BY s.uid ORDER BY s.no",
            (row["id"],),
        )
    ]  # fmt: skip
    here = sum(s.instances for s in series)
    said, missing = completeness.words(con, row, here)
    waiting = prepared.waiting(con, row["id"])
    tids = rows(con, "SELECT tid FROM sends WHERE study=? ORDER BY created_at DESC, rowid DESC", (row["id"],))
    return StudyView(
        id=row["id"], uid=row["uid"], patient_name=row["patient_name"], birth_date=row["birth_date"], sex=row["sex"],
        patient_id=row["patient_id"], accession=row["accession"], date=row["date"], time=row["time"],
        description=row["description"], modalities=", ".join(dict.fromkeys(s.modality for s in series if s.modality)),
        instances=here, bytes=sum(s.bytes for s in series), first_at=row["first_at"],
        last_at=row["last_at"], open=not row["closed"], source=row["source"], refused=row["refused"], series=series,
        transfers=[bytes(t["tid"]).hex() for t in tids], completeness=said, missing=missing,
        prepared=waiting["name"] if waiting else "", prepared_by=f"rule {waiting['rule']}" if waiting else "",
    )  # fmt: skip


def send_view(
    con: Con, row: sqlite3.Row, vault: Vault, page: str, meters: Mapping[Cid, Meter]
) -> TransferView:
    """One transfer that this site sends; link and PIN only while somebody may still answer."""
    tid, cid = bytes(row["tid"]), Cid(row["cid"])
    study = one(con, "SELECT * FROM studies WHERE id=?", (row["study"],))
    series = rows(con, "SELECT * FROM series WHERE study=? ORDER BY no", (row["study"],))
    packs = one(
        con,
        "SELECT coalesce(sum(size),0) AS bytes, coalesce(sum(CASE uploaded WHEN 1 THEN size ELSE 0 END),0) AS moved"
        " FROM packs WHERE cid=?",
        (cid,),
    )
    assert packs is not None
    left = tries_left(con, row)
    offered, receipt = row["state"] == "OFFERED", peek(Receipt, row["receipt"]) if row["receipt"] else None
    locked = locked_by(con, row) if offered else ""
    items = value(con, "SELECT count(*) FROM items WHERE cid=?", (cid,))
    spool = one(con, "SELECT ended, unsent FROM spools WHERE cid=?", (cid,))
    ended, unsent = (spool["ended"], spool["unsent"]) if spool else (0, 0)
    meter = meters.get(cid)
    moving = row["state"] in OPEN_SENDER and packs["moved"] < packs["bytes"]
    why = locked or row["why"]
    said = why or ("staff" if row["state"] == "RELEASED" and row["decision"] == "staff" else "")
    said = said or ("addition" if row["kind"] == "add" and row["state"] == "PREPARING" else "")
    after = successor_of(con, row) if row["kind"] != "add" else None
    return TransferView(
        tid=tid.hex(), role="send", **peer_of(con, row["peer"]),
        state=row["state"], why=why, sentence=sentence_of(row["state"], said or _said_of(row)), study=row["study"],
        patient_name=study["patient_name"] if study else "", birth_date=study["birth_date"] if study else "",
        what=describe(study, series) if study else "", reason=row["reason"], created_at=row["created_at"],
        expires_at=row["exp"], ended_at=row["ended_at"],
        codes=value(con, "SELECT count(*) FROM codes WHERE tid=?", (tid,)),
        **_code(con, row, vault, page),
        check=row["check_code"], tries_left=left, locked=bool(locked), reopens_left=tries.REOPENS - row["reopens"],
        joined_at=row["joined_at"], decided_at=row["decided_at"], **decided(vault, row["grant_sealed"]),
        released_at=row["decided_at"] if row["release"] else 0, first_stored_at=0, bytes=packs["bytes"],
        moved=packs["moved"], speed=meter.speed() if meter and moving else 0.0,
        stalled=bool(moving and meter and meter.idle > 5), instances=items, total=items if ended else 0,
        stored=(items - len(receipt.gaps)) if receipt else 0, gaps=len(receipt.gaps) + unsent if receipt else 0,
        proof=receipt.proof if receipt else "", receipt_code=receipt_code(row["receipt"]) if row["receipt"] else "",
        series=[p for p in (_progress(con, cid, row["study"], s) for s in series) if p.want],
        alarms=alarms_of(con, tid), stop_asked=stop_asked(con, tid), notes=notes_of(con, tid),
        kind=row["kind"], before=bytes(row["parent"] or b"").hex(), after=bytes(after["tid"]).hex() if after else "",
        after_peer=value(con, "SELECT name FROM peers WHERE site=?", (after["peer"],)) or "" if after else "",
        alternates=[name for _, name in alternates_of(con, row)], add_until=row["add_until"],
        additions=additions_of(con, tid), contents=_contents(con, cid) if row["kind"] == "add" else "",
    )  # fmt: skip


_HELD = "i.study=p.study AND i.id>p.after AND i.id<=coalesce(p.frozen, i.id)"
"""What of its study a spool holds, or will hold."""


def _contents(con: Con, cid: Cid) -> str:
    found = rows(
        con,
        f"SELECT s.modality, count(*) AS n FROM spools p JOIN instances i ON {_HELD}"
        " JOIN series s ON s.study=i.study AND s.uid=i.series WHERE p.cid=? GROUP BY s.uid ORDER BY s.no",
        (cid,),
    )
    return contents([(r["modality"], r["n"]) for r in found])


def _said_of(row: sqlite3.Row) -> str:
    """What stands at this door, where it is another than the QR."""
    if row["state"] != "OFFERED" or row["door"] == "qr" or row["kind"] == "add":
        return ""
    if row["pin_sealed"] is not None:
        return str(row["door"])
    return "no-code" if row["q_sealed"] is None else "code-over"


def _code(con: Con, row: sqlite3.Row, vault: Vault, page: str) -> dict[str, Any]:
    """How somebody may answer, while somebody may. The voice door's number is told once it is surely ours."""
    door: Door = row["door"]
    mailbox = stored_mailbox(row["mailbox"])
    path = hello_path(mailbox)
    closed = row["state"] != "OFFERED" or row["pin_sealed"] is None
    if closed or (
        door == "voice" and one(con, "SELECT 1 FROM outbox WHERE kind='mailbox' AND target=?", (path,))
    ):
        return {
            "door": door,
            "link": "",
            "pin": "",
            "number": "",
            "code_until": 0 if closed else row["code_exp"],
        }
    pin = vault.open("pin", row["pin_sealed"]).decode()
    return {
        "door": door,
        "link": make_address(page, door)
        if door != "qr"
        else make_link(page, vault.open("q", row["q_sealed"])),
        "pin": spoken(pin) if door == "voice" else pin,
        "number": mailbox.name if door == "voice" else "",
        "code_until": row["code_exp"],
    }


def _progress(con: Con, cid: Cid, study: str, series: sqlite3.Row) -> SeriesProgress:
    want = value(
        con,
        f"SELECT count(*) FROM spools p JOIN instances i ON {_HELD} WHERE p.cid=? AND i.series=?",
        (cid, series["uid"]),
    )
    have = value(
        con,
        "SELECT count(*) FROM items x JOIN instances i ON i.id=x.instance WHERE x.cid=? AND i.series=?",
        (cid, series["uid"]),
    )
    closed = value(con, "SELECT closed FROM studies WHERE id=?", (study,))
    label = series_label(series["modality"], series["number"], series["description"]) or "series"
    return SeriesProgress(label=label, have=have, want=want, closed=bool(closed))


def decided(vault: Vault, grant_sealed: bytes | None) -> dict[str, Any]:
    """The fields of a view that say who decided."""
    if grant_sealed is None:
        return {"decided_by": ""}
    grant = peek_grant(vault.open("grant", grant_sealed).decode())
    rung = rung_of(grant)
    if not isinstance(grant, Grant):
        by = " and ".join(grant.by)
        return {"decided_by": f"{STAFF_WORDS[rung]}: {by}", "rung": rung, "decided_why": grant.reason}
    if grant.by == "patient":
        return {"decided_by": "patient", "rung": rung}
    by = f"proxy: {grant.name} ({grant.rel})" if grant.name else f"proxy ({grant.rel})"
    return {"decided_by": by, "rung": rung, "decided_name": grant.name, "decided_rel": grant.rel}


def peer_of(con: Con, site: bytes) -> dict[str, Any]:
    """The fields of a view that name the other site: its card's name, and whom staff call there."""
    row = one(con, "SELECT name, call FROM peers WHERE site=?", (site,))
    return {"peer": row["name"], "peer_call": row["call"]} if row is not None else {"peer": ""}


def alarms_of(con: Con, tid: bytes) -> list[str]:
    """Sentences for staff, newest first."""
    found = rows(con, "SELECT sentence FROM alarms WHERE tid=? ORDER BY at DESC, id DESC LIMIT 20", (tid,))
    return [r["sentence"] for r in found]


def stop_asked(con: Con, tid: bytes) -> int:
    """When a wish to stop that came after the end became known."""
    return int(value(con, "SELECT at FROM alarms WHERE tid=? AND code=?", (tid, audit.STOP_ASKED)) or 0)


def notice_view(con: Con, tid: Tid, vault: Vault, page: str, call: str) -> NoticeView:
    """What the patient is told on paper where staff decided in their place. Raises `AbsentError`."""
    row = one(con, "SELECT * FROM sends WHERE tid=?", (tid,))
    if row is None or row["decision"] != "staff":
        raise AbsentError("Nobody decided in the patient's place here. There is nothing to print.")
    grant = peek_grant(vault.open("grant", row["grant_sealed"]).decode())
    assert not isinstance(grant, Grant)
    study = one(con, "SELECT * FROM studies WHERE id=?", (row["study"],))
    series = rows(con, "SELECT * FROM series WHERE study=? ORDER BY no", (row["study"],))
    kept, no = row["q_sealed"] is not None, refused_at(con, row["study"])
    return NoticeView(
        tid=tid.hex(), rung=rung_of(grant), by=" and ".join(grant.by), at=row["decided_at"], why=grant.reason,
        to=value(con, "SELECT name FROM peers WHERE site=?", (row["peer"],)) or "",
        what=describe(study, series) if study else "", call=call,
        link=make_link(page, vault.open("q", row["q_sealed"])) if kept else "",
        pin=vault.open("pin", row["pin_sealed"]).decode() if kept else "",
        refused_at=no if no <= row["decided_at"] else 0,
    )  # fmt: skip
