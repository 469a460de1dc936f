"""What stands in a URL: ids, numbers and queries, each in its one agreed form or a `HeaderError`.

Everything that a path or a query names becomes a typed value here, at the edge; no text of a caller goes
further inward, and none becomes part of a file's path.
"""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web

from relay.errors import HeaderError
from transfer.ids import Fixed, MailboxId, RunId

F = TypeVar("F", bound=Fixed)
MOST_WAIT = 25
"""Seconds of a long poll."""
_NAMEPLATE = 7


def fixed(request: web.Request, name: str, kind: type[F]) -> F:
    """The id `{name}` of the path, lower-case hex."""
    return kind.from_hex(request.match_info[name])


def number(text: str, most: int) -> int:
    """A decimal number without sign or leading zeros, up to `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16) or (text[0] == "0" and text != "0"):
        raise HeaderError
    if int(text) > most:
        raise HeaderError
    return int(text)


def mailbox(request: web.Request) -> str:
    """`{mb}`: 32 hex digits, or the 7 decimal digits of a nameplate."""
    name = request.match_info["mb"]
    if len(name) == _NAMEPLATE and name.isascii() and name.isdigit():
        return name
    return MailboxId.from_hex(name).hex()


def run(request: web.Request) -> str:
    """`{run}`: 32 hex digits."""
    return fixed(request, "run", RunId).hex()


def slot(request: web.Request, allowed: tuple[int, ...]) -> int:
    """`{slot}`: one of `allowed`."""
    found = number(request.match_info["slot"], 9)
    if found not in allowed:
        raise HeaderError
    return found


def query(request: web.Request, **most: int) -> dict[str, int]:
    """The query's numbers by name, 0 where absent; each up to its `most`. Anything else in it is refused."""
    found = dict.fromkeys(most, 0)
    seen: set[str] = set()
    for name, text in request.query.items():
        if name not in most or name in seen:
            raise HeaderError
        seen.add(name)
        found[name] = number(text, most[name])
    return found
