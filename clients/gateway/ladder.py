"""`DIR/ladder.toml`: in which order this hospital asks for the yes, and what it does where nobody can be asked.

Approval by the patient is a right and a courtesy, not a gate for treatment (45 CFR 164.506), so each hospital decides
what follows when it cannot be had. The file lists the rungs in their order; a rung that is not listed is off. Without
the file, or as `gateway init` writes it, the two upper ones are.

    patient    the patient answers on a phone
    proxy      someone who is with them answers
    voice      someone answers by telephone
    attest     two clinicians attest that nobody can be asked (protocol s. 8)
    override   one clinician decides in an emergency (protocol s. 8)

Read at each start, strictly: what it does not know is a `ConfigError` that names the line.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from clients.gateway.config import Section
from clients.gateway.errors import ConfigError

FILE: Final = "ladder.toml"
RungName = Literal["patient", "proxy", "voice", "attest", "override"]
NAMES: Final[tuple[RungName, ...]] = get_args(RungName)
STAFF: Final = frozenset({"attest", "override"})
"""Rungs on which staff decide in the patient's place."""
_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.-]+)\s*\]")
_PATH = re.compile(r"\$\.rungs\[(\d+)\](?:\.(\w+))?|\$\.(\w+)(?:\.(\w+))?")
_FIELD = re.compile(r"unknown field `([^`]*)`")

TEXT: Final = """\
# In which order this hospital asks for the yes. Restart `trauma-transfer gateway run` after a change.
# Each [[rungs]] is offered some time after the one before; none is ever taken by itself. What is not here is off.

[[rungs]]
name = "patient"       # the patient answers on a phone; always the first
seconds = 180          # then the next one is offered

[[rungs]]
name = "proxy"         # someone who is with them answers
seconds = 180

[[rungs]]
name = "voice"         # someone answers by telephone
seconds = 300

# On these two, staff decide in the patient's place. The other hospital must allow it as well
# (`trauma-transfer gateway allow`), and the patient is told afterwards, on paper.

# [[rungs]]
# name = "attest"      # two clinicians attest that nobody can be asked
# seconds = 120

# [[rungs]]
# name = "override"    # one clinician decides, in an emergency

[refusal]              # after a no: the one rung that may follow, in a new transfer and with a reason
next = "patient"       # a rung from above; "": none, the no is the end
"""


class Rung(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to a yes; `seconds` after it was offered, the next one is."""

    name: str
    seconds: Annotated[int, Meta(ge=0, le=86400)] = 300


class Refusal(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """After a person's no."""

    next: str = "patient"


class Ladder(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    rungs: Annotated[tuple[Rung, ...], Meta(min_length=1, max_length=len(NAMES))] = (
        Rung(name="patient", seconds=180),
        Rung(name="proxy", seconds=180),
        Rung(name="voice", seconds=300),
    )
    refusal: Refusal = Refusal()

    def offered(self, since: int) -> list[tuple[str, int]]:
        """(name, Unix seconds from which it is offered) of each rung, for an offer made at `since`."""
        found, at = [], since
        for rung in self.rungs:
            found.append((rung.name, at))
            at += rung.seconds
        return found

    def after_no(self, since: int) -> list[tuple[str, int]]:
        """The same for an offer of what a person has said no to: the one rung that may follow."""
        return [(self.refusal.next, since)] if self.refusal.next else []


def load_ladder(folder: Path) -> Ladder:
    """The ladder of `folder`; the default where it has none. Raises `ConfigError` with file and line."""
    path = folder / FILE
    try:
        return parse_ladder(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return Ladder()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8. Correct it and start again.") from None
    except OSError:
        raise ConfigError(f"{path} cannot be read. Check its owner and rights.") from None


def parse_ladder(text: str, file: str = FILE) -> Ladder:
    """The ladder of a TOML text. Raises `ConfigError`."""
    try:
        ladder = msgspec.convert(tomllib.loads(text), Ladder)
    except tomllib.TOMLDecodeError as why:  # says line and column itself
        raise ConfigError(f"{file}: {why}. Correct it and start again.") from None
    except msgspec.ValidationError as why:
        raise _wrong(file, _line_of(text, str(why)), str(why)) from None
    _check(ladder, text, file)
    return ladder


def _check(ladder: Ladder, text: str, file: str) -> None:
    """Every rung is one that there is, once; the patient comes first; what follows a no is on."""
    known: list[str] = []
    for i, rung in enumerate(ladder.rungs):
        line = _find(text, "rungs", i, "name")
        if rung.name not in NAMES:
            raise _wrong(file, line, f"there is no rung '{rung.name}': the rungs are {', '.join(NAMES)}")
        if rung.name in known:
            raise _wrong(file, line, f"the rung '{rung.name}' is there twice")
        if not known and rung.name != "patient":
            raise _wrong(file, line, "the first rung is 'patient': they are always asked first")
        known.append(rung.name)
    if ladder.refusal.next not in ("", *known):
        line = _find(text, "refusal", 0, "next")
        raise _wrong(
            file, line, f"after a no, '{ladder.refusal.next}' cannot follow: it is not among the rungs above"
        )


def _wrong(file: str, line: int, what: str) -> ConfigError:
    where = f"{file}, line {line}" if line else file
    return ConfigError(f"{where}: {what}. Correct it and start again.")


def _line_of(text: str, why: str) -> int:
    """The line that a message of msgspec is about."""
    path, field = _PATH.search(why), _FIELD.search(why)
    key = field[1] if field else ""
    if path is None:
        return _find(text, key, 0) or _find(text, "", 0, key)
    if path[1]:
        return _find(text, "rungs", int(path[1]), key or path[2] or "")
    return _find(text, path[3], 0, key or path[4] or "")


def _find(text: str, header: str, nth: int, key: str = "") -> int:
    """The line, from 1, of `key` in the `nth` table called `header` ("": before any table), else of that table; 0 where
    the file writes it in another way.
    """
    seen, inside, at = -1, header == "", 0
    assign = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
    for number, line in enumerate(text.splitlines(), 1):
        if (found := _HEADER.match(line)) is not None:
            seen += found[1] == header
            inside = found[1] == header and seen == nth
            at = number if inside else at
        elif inside and key and assign.match(line):
            return number
    return at
