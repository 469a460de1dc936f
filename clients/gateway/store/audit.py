"""The audit log: append-only, each line chained to the one before by a hash, and the alarms that staff see.

Subjects are our own ids (tid, study id), never a name or a UID. SQLite triggers refuse UPDATE and DELETE;
`verify` finds a line that was changed with the file open in another program.

What is recorded here is said in the program's log too, without who and why: the action, and the transfer or
study that it was done to. What staff looked at is not; it would drown the rest.
"""

from __future__ import annotations

import re

from clients.gateway.store.database import Con, after_commit, one, rows
from transfer.encoding import sha256
from transfer.text import seen

STOP_ASKED = "stop-asked"
"""Code of the alarm at a transfer whose person asked to stop sharing after it had ended."""
_ID = re.compile(r"[0-9a-f]{32}\Z")
_SHOWN = "page:"
"""How the actions of the staff pages begin (`console.trail`)."""
_FIELDS = {"transfer": "tid", "incoming": "tid", "receipt": "tid", "study": "study"}
"""What the subject of an action is, by the action's first word, where it is an id of ours."""


def record(con: Con, actor: str, action: str, subject: str, detail: str, now: int) -> None:
    """Adds a line; what cannot be seen is not in it, whoever typed it."""
    actor, subject, detail = seen(actor), seen(subject), seen(detail)
    last = one(con, "SELECT hash FROM audit ORDER BY seq DESC LIMIT 1")
    line = _line(now, actor, action, subject, detail)
    con.execute(
        "INSERT INTO audit (at, actor, action, subject, detail, hash) VALUES (?,?,?,?,?,?)",
        (now, actor, action, subject, detail, sha256(last["hash"] if last else b"", line)),
    )
    if not action.startswith(_SHOWN):
        after_commit(action, **_subject(action, subject))


def _subject(action: str, subject: str) -> dict[str, str]:
    """The id that a line of the log may carry. A member of staff's name is none."""
    field = _FIELDS.get(action.partition(".")[0], "")
    return {field: subject} if field and _ID.match(subject) else {}


def verify(con: Con) -> int:
    """0 if every line follows from the one before, else the number of the first that does not."""
    last = b""
    for row in rows(con, "SELECT * FROM audit ORDER BY seq"):
        line = _line(row["at"], row["actor"], row["action"], row["subject"], row["detail"])
        last, expected = row["hash"], sha256(last, line)
        if last != expected:
            return int(row["seq"])
    return 0


def _line(at: int, *parts: str) -> bytes:
    return str(at).encode() + b"".join(b"\0" + p.encode() for p in parts)


def alarm(con: Con, tid: bytes | None, code: str, sentence: str, now: int) -> bool:
    """Something that staff must see at a transfer (None: at the gateway). True if it is new: the same code again is
    the same alarm, with its newest words.
    """
    known = con.execute(
        "UPDATE alarms SET sentence=?, at=? WHERE tid IS ? AND code=?", (sentence, now, tid, code)
    ).rowcount
    if not known:
        con.execute(
            "INSERT INTO alarms (tid, code, sentence, at) VALUES (?,?,?,?)", (tid, code, sentence, now)
        )
        after_commit("alarm", code=code, **({"tid": bytes(tid).hex()} if tid is not None else {}))
    return not known
