"""How the inbox shows transfers that this site receives."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from clients.gateway.meter import Meter
from clients.gateway.receiving import remarks, settling
from clients.gateway.receiving.additions import additions_of, changed_reports, contents_of
from clients.gateway.receiving.claim import presented
from clients.gateway.receiving.inbox import unsent
from clients.gateway.sending.view import STAFF_WORDS, alarms_of, decided, peer_of, stop_asked
from clients.gateway.store.database import Con, rows, value
from clients.gateway.store.vault import Vault
from clients.gateway.views import LackingView, SeriesProgress, TransferView
from transfer.door import receipt_code
from transfer.ids import Cid, Tid
from transfer.messages import Offer, Receipt, peek
from transfer.states import OPEN_RECEIVER

_LACKING = 100
SENTENCES = {
    "addition": "New images or reports of a study that is here. They open by themselves, under the same yes.",
    "SEEN": "Still sealed, waiting for the yes. Nothing needs to be done here.",
    "staff": "Staff of the sender decided in the patient's place. The images are going into the PACS.",
    "OPENED": "The answer was yes. The images are going into the PACS.",
    "identity": "The answer was yes. Nothing is stored before somebody here says who this patient is.",
    "identity-prefix": "Nobody knows yet who this is. The images are going into the PACS under our own number for it.",
    "COMPLETE": "Every image is in the PACS.",
    "PARTIAL": "Not every image could be stored. Call the sender about what is missing.",
    "pacs": "The PACS refused some images. Look at its log, then ask the sender to send them again.",
    "uid-conflict": "The PACS has others under the numbers of some of these images, which were not stored. Compare.",
    "lost": "The PACS took some images twice and lost them. Look at its log, then ask the sender to send them.",
    "unsent": "The sender could not read some images of this study and did not send them. Call the sender.",
    "no-end": "The sender never finished this study. Call the sender.",
    "DENIED": "The answer was no. What was fetched is deleted and was never opened.",
    "EXPIRED": "Nobody answered in time. What was fetched is deleted and was never opened.",
    "REVOKED": "The sender stopped this transfer. What was stored before stays in the PACS.",
    "DIVERTED": "Diverted to another hospital: expect no more images. What was fetched is deleted; what was stored"
    " before stays in the PACS.",
    "DECLINED": "This gateway declined the offer. Call the sender.",
    "restored": "This gateway was restored from a backup while this transfer was open. Look in the PACS for what"
    " arrived, and have the sender send it again.",
}


def receive_view(con: Con, row: sqlite3.Row, vault: Vault, meters: Mapping[Cid, Meter]) -> TransferView:
    """One transfer that this site receives; the patient is known only once it is open."""
    tid, cid = bytes(row["tid"]), Cid(row["cid"])
    open_now = row["state"] in OPEN_RECEIVER
    announced = here = row["bytes"]
    if open_now:
        announced = value(con, "SELECT coalesce(sum(size),0) FROM in_packs WHERE cid=?", (cid,))
        here = value(con, "SELECT coalesce(sum(size),0) FROM in_packs WHERE cid=? AND have=1", (cid,))
    counts, have = (
        Counter[str](),
        Counter[int](),
    )  # one look at the ledger: a page may ask many times a second
    sql = "SELECT series, state, count(*) AS n FROM ledger_items WHERE tid=? GROUP BY series, state"
    for found in rows(con, sql, (tid,)):
        counts[found["state"]] += found["n"]
        have[found["series"]] += found["n"] if found["state"] == "stored" else 0
    meter = meters.get(cid)
    receipt = peek(Receipt, row["receipt"]) if row["receipt"] else None
    moving = open_now and here < announced
    listed, stored = sum(counts.values()), counts.get("stored", 0)
    lost = unsent(con, tid, cid)
    claimed = presented(con, Tid(tid))
    who, family = decided(vault, row["grant_sealed"]), _family(con, row)
    by_staff = row["state"] == "OPENED" and who.get("rung") in STAFF_WORDS
    said = "addition" if family["kind"] == "add" and row["state"] == "SEEN" else row["state"]
    words = SENTENCES.get(row["why"] or ("staff" if by_staff else "")) or SENTENCES.get(said, "")
    if receipt and not counts:  # the ledger was forgotten with time; the receipt is kept
        listed, stored = row["total"], row["total"] - len(receipt.gaps)
    return TransferView(
        tid=tid.hex(), role="receive", **peer_of(con, row["peer"]),
        state=row["state"], why=row["why"],
        sentence=words + settling.sentence(con, tid) + remarks.sentence(con, tid), study="",
        patient_name=row["patient_name"], birth_date=row["birth_date"], what=row["what"],
        reason=peek(Offer, row["offer"]).why, created_at=row["created_at"], expires_at=row["exp"],
        ended_at=row["ended_at"], link="", pin="", check="", tries_left=0, locked=False, reopens_left=0, joined_at=0,
        decided_at=row["opened_at"], **who, released_at=row["opened_at"],
        first_stored_at=row["first_stored_at"], bytes=announced, moved=here,
        speed=meter.speed() if meter and moving else 0.0, stalled=bool(moving and meter and meter.idle > 5),
        instances=listed, total=row["total"], stored=stored, gaps=listed - stored + lost if not open_now else 0,
        proof=receipt.proof if receipt else "", receipt_code=receipt_code(row["receipt"]) if row["receipt"] else "",
        series=[
            _progress(s, have[s["no"]]) for s in rows(con, "SELECT * FROM in_series WHERE cid=? ORDER BY no", (cid,))
        ],
        alarms=alarms_of(con, tid), stop_asked=stop_asked(con, tid), **family,
        lacking=[] if open_now else _lacking(con, tid, cid), accession=claimed[0].accession if claimed else "",
    )  # fmt: skip


def _family(con: Con, row: sqlite3.Row) -> dict[str, Any]:
    kind = peek(Offer, row["offer"]).kind
    return {
        "kind": "" if isinstance(kind, msgspec.UnsetType) else kind, "before": bytes(row["parent"] or b"").hex(),
        "additions": additions_of(con, row["tid"]), "contents": contents_of(con, row) if kind == "add" else "",
        "changed_reports": changed_reports(con, row["tid"]),
    }  # fmt: skip


def _lacking(con: Con, tid: bytes, cid: Cid) -> list[LackingView]:
    found = settling.weaker(con, tid, _LACKING)
    labels = {r["no"]: r["label"] for r in rows(con, "SELECT no, label FROM in_series WHERE cid=?", (cid,))}
    return [
        LackingView(number=no + 1, series=labels.get(series) or f"series {series + 1}", uid=uid, why=why)
        for no, series, uid, why in found
    ]


def _progress(series: sqlite3.Row, have: int) -> SeriesProgress:
    label = series["label"] or f"series {series['no'] + 1}"
    return SeriesProgress(label=label, have=have, want=series["want"], closed=bool(series["closed"]))
