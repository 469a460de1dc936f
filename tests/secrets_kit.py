"""Needles: what must not be where, in every form in which it could be written."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import msgspec

from clients.gateway.dicom.header import read_header
from clients.gateway.store.database import one, rows
from tests.world import Site
from transfer.channel import ChannelState
from transfer.ids import Tid


class Secrets(msgspec.Struct, frozen=True):
    """The secrets of one transfer at S, open."""

    key: bytes
    q: bytes
    pin: bytes
    channels: tuple[bytes, ...]


async def secrets_of(site: Site, tid: str) -> Secrets:
    """Reads them through the vault, as only the gateway itself can."""
    vault = site.rooms.vault
    row = await site.rooms.db.run(
        lambda con: one(
            con, "SELECT * FROM sends s JOIN spools p ON p.cid=s.cid WHERE s.tid=?", (Tid.from_hex(tid),)
        )
    )
    assert row is not None
    runs = await site.rooms.db.run(
        lambda con: rows(
            con,
            "SELECT channel_sealed FROM tries WHERE tid=? AND channel_sealed IS NOT NULL",
            (Tid.from_hex(tid),),
        )
    )
    states = [msgspec.json.decode(vault.open("channel", r[0]), type=ChannelState) for r in runs]
    return Secrets(
        vault.open("content-key", row["k_sealed"]), vault.open("q", row["q_sealed"]),
        vault.open("pin", row["pin_sealed"]), tuple(k for s in states for k in (s.out_key, s.in_key)),
    )  # fmt: skip


async def sealed_of(site: Site, tid: str) -> dict[str, bytes]:
    """The same as they lie in the database, sealed; by column, None left out."""
    ident = Tid.from_hex(tid)
    found: dict[str, bytes] = {}
    for table, column in (("sends", "q_sealed"), ("sends", "pin_sealed"), ("tries", "channel_sealed")):
        sql = f"SELECT {column} FROM {table} WHERE tid=? AND {column} IS NOT NULL"
        for i, row in enumerate(await site.rooms.db.run(lambda con, sql=sql: rows(con, sql, (ident,)))):
            found[f"{column}{i}"] = row[0]
    sql = "SELECT k_sealed FROM {} WHERE k_sealed IS NOT NULL AND cid=(SELECT cid FROM {} WHERE tid=?)"
    for tables in (("spools", "sends"), ("receives", "receives")):
        text = sql.format(*tables)
        for row in await site.rooms.db.run(lambda con, text=text: rows(con, text, (ident,))):
            found["k_sealed"] = row[0]
    return found


def forms(secret: bytes) -> list[bytes]:
    """A binary secret raw, as hex, and as either base64 without its last, length-dependent characters."""
    return [
        secret,
        secret.hex().encode(),
        base64.b64encode(secret).rstrip(b"=")[:-1],
        base64.urlsafe_b64encode(secret).rstrip(b"=")[:-1],
    ]


def holds(data: bytes, secret: bytes) -> bool:
    """Whether `data` has the secret in any form; a PIN counts as a number of its own only."""
    if secret.isdigit():
        return re.search(rb"(?<!\d)" + secret + rb"(?!\d)", data) is not None
    return any(form in data for form in forms(secret))


def contents(folder: Path, pattern: str = "*") -> bytes:
    """Every file of a folder, one after the other."""
    return b"\0".join(p.read_bytes() for p in sorted(folder.rglob(pattern)) if p.is_file())


def identity_of(study: Path) -> list[bytes]:
    """What a study says of its patient and itself: names, numbers, every UID of its own."""
    found: set[str] = set()
    for path in study.rglob("*.dcm"):
        h = read_header(path)
        found |= {
            h.patient_id,
            h.study_uid,
            h.series_uid,
            h.sop_uid,
            h.study_description,
            *h.patient_name.split(", "),
        }
    return sorted(x.encode() for x in found if len(x) > 3)
