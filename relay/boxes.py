"""Mailboxes, and the letters that tell of them, as works of `relay.sqlite`: plain functions of the connection.

A mailbox has a hello of its site, and messages of phones (odd slots) and of the site (even ones). A phone's message is
a letter in the queue of the site as well, so that it hears of it.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from relay import metastore
from relay.config import Quota
from relay.errors import AbsentError, DifferentError, GoneError, QuotaError, RateError
from relay.ledger import Row
from relay.metastore import Hello, Posted, check_owner
from transfer.encoding import sha256
from transfer.ids import Digest, Nameplate, SiteId
from transfer.mailbox import SLOT_CAPS

Con = sqlite3.Connection
PHONE = b""
"""The sender of a phone's letter."""


class Message(NamedTuple):
    """What is put into a slot."""

    mb: str
    run: str
    slot: int
    body: bytes
    digest: Digest


def put_hello(con: Con, mb: str, site: SiteId, hello: Hello, quota: Quota) -> None:
    """A new mailbox, or what an old one says now. Raises `GoneError`, `QuotaError`, or that it is another's."""
    found = rows_of(con, "SELECT owner, gone, ended FROM mailboxes WHERE mb = ?", mb)
    if not found:
        alive = rows_of(con, "SELECT count(*) FROM mailboxes WHERE owner = ? AND gone = 0", site)[0][0]
        if alive >= quota.site_mailboxes:
            raise QuotaError
        add = "INSERT INTO mailboxes (mb, owner, body, ended, dies) VALUES (?, ?, ?, ?, ?)"
        con.execute(add, (mb, site, hello.body, hello.ended, hello.dies))
        return
    owner, gone, ended = found[0]
    if owner != site and is_nameplate(mb):
        raise DifferentError  # drawn at random, so two sites may draw the same: another number helps
    check_owner(owner, site, bool(gone))
    if ended and not hello.ended:
        raise GoneError
    con.execute(
        "UPDATE mailboxes SET body = ?, ended = ?, dies = iif(ended, dies, ?) WHERE mb = ?",
        (hello.body, hello.ended, hello.dies, mb),
    )


def is_nameplate(mb: str) -> bool:
    """Whether a mailbox is a voice door's: its number is public, and free again once the mailbox has died."""
    return len(mb) == Nameplate.SIZE


def put_message(con: Con, message: Message, site: SiteId | None, now: int, quota: Quota) -> Posted:
    """A message of `site`, or of a phone; the same one again is no second one, after the tombstone too (the phone
    may not have heard that it arrived). Raises what keeps it out.
    """
    mb, run, slot, body, digest = message
    found = rows_of(con, "SELECT owner, gone, ended FROM mailboxes WHERE mb = ?", mb)
    if not found:
        raise AbsentError
    owner, gone, ended = found[0]
    if site is not None:
        check_owner(owner, site, bool(gone))
    before = rows_of(
        con, "SELECT i, digest FROM messages WHERE mb = ? AND run = ? AND slot = ?", mb, run, slot
    )
    for i, other in before:
        if other == digest:
            return Posted(i, SiteId(owner), new=False)
    if site is None and (gone or ended):
        raise GoneError
    if len(before) >= SLOT_CAPS[slot]:
        raise DifferentError
    _check_box(con, mb, slot, phone=site is None, now=now)
    i = len(before)
    con.execute(
        "INSERT INTO messages (mb, run, slot, i, at, digest, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (mb, run, slot, i, now, digest, body),
    )
    if site is None:
        name = sha256(f"{mb}/{run}/{slot}/{i}".encode())
        add_letter(con, owner, PHONE, name, body, now, quota, (mb, run, slot, i))
    return Posted(i, SiteId(owner), new=True)


def _check_box(con: Con, mb: str, slot: int, *, phone: bool, now: int) -> None:
    """That one more message fits into this mailbox."""
    total, phones = rows_of(
        con, "SELECT count(*), coalesce(sum(slot % 2), 0) FROM messages WHERE mb = ?", mb
    )[0]
    if total >= metastore.BOX_MESSAGES or (phone and phones >= metastore.BOX_PHONE_MESSAGES):
        raise QuotaError
    if slot == 1:
        open_runs = rows_of(
            con,
            "SELECT count(*) FROM messages m WHERE mb = ? AND slot = 1 AND at > ? AND NOT EXISTS"
            " (SELECT 1 FROM messages a WHERE a.mb = m.mb AND a.run = m.run AND a.slot = 2)",
            mb,
            now - metastore.RUN_PATIENCE,
        )[0][0]
        if open_runs >= metastore.BOX_OPEN_RUNS:
            raise RateError(retry=60)


def add_letter(
    con: Con, owner: bytes, sender: bytes, digest: bytes, body: bytes, now: int, quota: Quota,
    where: tuple[str, str, int, int] = ("", "", 0, 0),
) -> int:  # fmt: skip
    """A letter in a queue, of a site or of a phone; its number. Raises `QuotaError`."""
    waiting = "SELECT count(*), coalesce(sum(size), 0) FROM letters WHERE owner = ? AND sender = ?"
    count, size = rows_of(con, waiting, owner, sender)[0]
    if count >= quota.pair_letters or size + len(body) > quota.pair_bytes:
        raise QuotaError
    add = (
        "INSERT INTO letters (owner, sender, digest, at, size, body, mb, run, slot, i)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    row = (owner, sender, digest, now, len(body), body, *where)
    return int(con.execute(add, row).lastrowid or 0)


def delete(con: Con, mb: str, site: SiteId) -> None:
    """Its owner takes it away. Raises `AbsentError`, or that it is another's."""
    found = rows_of(con, "SELECT owner FROM mailboxes WHERE mb = ?", mb)
    if not found:
        raise AbsentError
    check_owner(found[0][0], site, gone=False)
    end(con, mb)


def end(con: Con, mb: str) -> None:
    """Its messages go, its name stays; but there are only so many numbers, so a nameplate goes too."""
    con.execute("DELETE FROM messages WHERE mb = ?", (mb,))
    con.execute("DELETE FROM letters WHERE mb = ? AND mb <> ''", (mb,))
    if is_nameplate(mb):
        con.execute("DELETE FROM mailboxes WHERE mb = ?", (mb,))
    else:
        con.execute("UPDATE mailboxes SET gone = 1, body = x'' WHERE mb = ?", (mb,))


def present(rows: list[Row]) -> Any:
    """The first value of (value, gone). Raises `AbsentError`, `GoneError`."""
    if not rows:
        raise AbsentError
    if rows[0][1]:
        raise GoneError
    return rows[0][0]


def rows_of(con: Con, sql: str, *args: Any) -> list[Row]:
    """Every row that a statement finds."""
    return con.execute(sql, args).fetchall()
