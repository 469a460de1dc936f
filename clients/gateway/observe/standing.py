"""Why a transfer stands still, and what to do about it, in a sentence.

A transfer that waits is not broken: it waits for the patient, for the other hospital, for a link. Staff who look at
it must see which, and whether that is as it should be (a phone that nobody has answered yet) or somebody has to do
something (`wrong`). Nothing here is asked of the network: it is what the database and the last calls say.
"""

from __future__ import annotations

import shutil
import sqlite3
import time

import msgspec

from clients.gateway.peers.relay import RelayFullError
from clients.gateway.receiving.identity import WAITS
from clients.gateway.rooms import Rooms
from clients.gateway.sending.codes import locked_by
from clients.gateway.sending.view import SENTENCES
from clients.gateway.store.database import Con, one, value
from transfer.ids import Cid
from transfer.messages import Offer, peek
from transfer.prekeys import LIFE

UNHEARD = 180
"""Seconds after which a yes that the destination has not fetched is somebody's business."""
UNCONFIRMED = 1800
"""Seconds after the yes in which a destination has usually confirmed what it has."""


class Standing(msgspec.Struct, frozen=True):
    """What one transfer waits for; nothing where it moves."""

    sentence: str = ""
    wrong: bool = False


MOVES = Standing()


class Facts(msgspec.Struct, frozen=True):
    """What this gateway knows of the world outside its database."""

    now: int
    relay: str
    """Why the relay does not answer us, or empty."""
    full: frozenset[Cid]
    """Studies for which it has no room."""
    low: bool
    """Our own disk is below its floor."""
    pacs: bool
    """A PACS is set."""


def facts_of(rooms: Rooms) -> Facts:
    """The facts of now."""
    free = shutil.disk_usage(rooms.folder).free
    return Facts(
        rooms.clock.now(), rooms.relay.trouble, frozenset(rooms.uploader.full),
        free < rooms.config.dicom.min_free_bytes, rooms.scu is not None,
    )  # fmt: skip


def of_send(con: Con, row: sqlite3.Row, facts: Facts) -> Standing:
    """One transfer that this site sends."""
    match row["state"]:
        case "PREPARING":
            return _key(con, row, facts)
        case "OFFERED":
            return _upload(con, row, facts) or _phone(con, row, facts)
        case "RELEASED":
            return _upload(con, row, facts) or _study(con, row) or _receipt(con, row, facts)
    return MOVES


def of_receive(con: Con, row: sqlite3.Row, facts: Facts) -> Standing:
    """One transfer that this site receives."""
    if row["state"] == "SEEN":
        covered = peek(Offer, row["offer"]).kind == "add"
        return MOVES if covered else Standing("It waits for the answer on the patient's phone.")
    if row["state"] != "OPENED":
        return MOVES
    if not facts.pacs:
        return Standing("No PACS is set here. Set [pacs] in gateway.toml and start again.", wrong=True)
    if facts.low:
        return _DISK
    parent = "SELECT 1 FROM receives WHERE tid=? AND why=? AND state='OPENED'"
    if row["why"] == WAITS or value(con, parent, (row["parent"], WAITS)):
        return _WHO
    return _pacs(con, row) or _packs(con, row, facts)


_WHO = Standing("It waits for somebody here to say who this patient is. Open it in the inbox.", wrong=True)
_DISK = Standing("This gateway's disk is nearly full. Make room: it goes on by itself.", wrong=True)
_RELAY = Standing("The relay does not answer. It goes on by itself; check the network.", wrong=True)
_NOT_KNOWN = Standing(
    "The relay does not know this site. Have its operator enroll the site's card.", wrong=True
)

_REFUSED = {
    "relay-unknown-site": _NOT_KNOWN,
    "relay-not-for-me": Standing(
        "The relay goes by another address than relay.url. Correct gateway.toml.", wrong=True
    ),
    "relay-clock": Standing(
        "This machine's clock differs too much from the relay's. Set the clock.", wrong=True
    ),
}


def _relay(facts: Facts) -> Standing | None:
    if not facts.relay:
        return None
    return _REFUSED.get(facts.relay, _RELAY)


def _key(con: Con, row: sqlite3.Row, facts: Facts) -> Standing:
    if found := _relay(facts):
        return found
    if row["why"] != "no-prekey":
        return MOVES
    return Standing(f"It waits for a key. {absence(con, bytes(row['peer']))}", wrong=True)


def absence(con: Con, site: bytes) -> str:
    """That a paired site has no key at the relay, and since when it was not seen there."""
    peer = one(con, "SELECT name, prekey_exp FROM peers WHERE site=?", (site,))
    if peer is None:
        return "The other site is not paired any more."
    if not peer["prekey_exp"]:
        return (
            f"{peer['name']} was never seen on-line. Call it: its gateway must run and reach the same relay."
        )
    seen = time.strftime("%Y-%m-%d", time.localtime(peer["prekey_exp"] - LIFE))
    return f"{peer['name']} has not been on-line since {seen} or soon after. Call it: its gateway must run."


def _upload(con: Con, row: sqlite3.Row, facts: Facts) -> Standing | None:
    """What keeps sealed packs here."""
    cid = Cid(row["cid"])
    if not value(con, "SELECT 1 FROM packs WHERE cid=? AND uploaded=0 LIMIT 1", (cid,)):
        return None
    if cid in facts.full:
        why = value(
            con, "SELECT sentence FROM alarms WHERE tid=? AND code IN ('relay-quota', 'relay-disk')", (row["tid"],)
        )  # fmt: skip
        return Standing(why or RelayFullError().sentence, wrong=True)
    return _relay(facts)


def _phone(con: Con, row: sqlite3.Row, facts: Facts) -> Standing:
    if locked := locked_by(con, row):
        return Standing(SENTENCES[locked], wrong=True)
    if row["pin_sealed"] is None and row["kind"] != "add":
        return Standing(
            "No code is open. Choose a way to answer at the desk, and a new code is made.", wrong=True
        )
    if found := _relay(facts):
        return found
    until = time.strftime("%H:%M", time.localtime(row["exp"]))
    return Standing(f"It waits for the answer on the patient's phone, until {until}.")


def _study(con: Con, row: sqlite3.Row) -> Standing | None:
    if value(con, "SELECT ended FROM spools WHERE cid=?", (row["cid"],)):
        return None
    if value(con, "SELECT closed FROM studies WHERE id=?", (row["study"],)):
        return MOVES
    return Standing("It waits for the rest of the study, from the scanner or the PACS.")


def _receipt(con: Con, row: sqlite3.Row, facts: Facts) -> Standing:
    name = value(con, "SELECT name FROM peers WHERE site=?", (row["peer"],)) or "The destination"
    waited = facts.now - row["decided_at"]
    unheard = value(
        con, "SELECT 1 FROM outbox WHERE tid=? AND kind='queue' AND target=? LIMIT 1",
        (row["tid"], bytes(row["peer"]).hex()),
    )  # fmt: skip
    if unheard:
        if found := _relay(facts):
            return found
        return Standing(
            f"{name} has not fetched the answer yet. Call it if this stays: its gateway must run.",
            wrong=waited > UNHEARD,
        )
    return Standing(
        f"All is sent. It waits for {name} to confirm that its PACS has the images; call it if this stays.",
        wrong=waited > UNCONFIRMED,
    )


def _pacs(con: Con, row: sqlite3.Row) -> Standing | None:
    """The last word of a PACS, while none has taken anything since."""
    alarm = one(
        con, "SELECT sentence FROM alarms WHERE tid=? AND (code='pacs' OR code LIKE 'pacs-%') AND at>?"
        " ORDER BY at DESC LIMIT 1", (row["tid"], row["last_stored_at"]),
    )  # fmt: skip
    return Standing(alarm["sentence"], wrong=True) if alarm is not None else None


def _packs(con: Con, row: sqlite3.Row, facts: Facts) -> Standing:
    ended = row["total"] and not value(
        con, "SELECT 1 FROM in_packs WHERE cid=? AND have=0 LIMIT 1", (row["cid"],)
    )
    if ended:
        return MOVES
    if found := _relay(facts):
        return found
    missing = value(con, "SELECT 1 FROM in_packs WHERE cid=? AND have=0 LIMIT 1", (row["cid"],))
    return MOVES if missing else Standing("What came is stored. It waits for the sender to send the rest.")
