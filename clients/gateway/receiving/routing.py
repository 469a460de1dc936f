"""Which destinations an image goes to: rules of the receiving site, the first that matches counts.

A rule asks for modalities (0008,0060), body parts (0018,0015) and senders; what it does not ask for, it takes. It
names one destination or several, and each of them gets the image. What no rule matches goes to the default.

Modality and body part are attributes of a series (PS3.3 C.7.3.1), and so is the answer: the images of one series are
never spread over two archives because one of them says less than the others. Who sent it is known before any image is
here; where that alone decides, nothing waits for an image. Values are compared without regard to case and spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

DEFAULT = "pacs"
"""The name of the destination in `[pacs]`."""
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z")]
_Word = Annotated[str, Meta(min_length=1, max_length=80)]
_Words = Annotated[tuple[_Word, ...], Meta(max_length=64)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[routes]]` of gateway.toml. An empty condition is none."""

    modality: _Words = ()
    body_part: _Words = ()
    sender: _Words = ()
    """Names of paired sites, or their fingerprints: a name is what a site calls itself."""
    to: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=8)]


class Sender(msgspec.Struct, frozen=True):
    """Who sent a study."""

    name: str
    fingerprint: str


class Kind(msgspec.Struct, frozen=True):
    """What a series is of; empty where its images do not say."""

    modality: str
    body_part: str


def route(rules: Sequence[Rule], sender: Sender, kind: Kind) -> tuple[str, ...]:
    """Names of the destinations of one series, each once."""
    for rule in rules:
        if _is_from(rule, sender) and _is_of(rule, kind):
            return tuple(dict.fromkeys(rule.to))
    return (DEFAULT,)


def early(rules: Sequence[Rule], sender: Sender) -> tuple[str, ...] | None:
    """The destinations of everything that `sender` sends; None where that is to be asked for each series."""
    for rule in rules:
        if not _is_from(rule, sender):
            continue
        if rule.modality or rule.body_part:
            return None
        return tuple(dict.fromkeys(rule.to))
    return (DEFAULT,)


def _is_from(rule: Rule, sender: Sender) -> bool:
    return not rule.sender or any(_same(x, sender.name) or _same(x, sender.fingerprint) for x in rule.sender)


def _is_of(rule: Rule, kind: Kind) -> bool:
    modality = not rule.modality or any(_same(x, kind.modality) for x in rule.modality)
    return modality and (not rule.body_part or any(_same(x, kind.body_part) for x in rule.body_part))


def _same(one: str, other: str) -> bool:
    return "".join(one.split()).casefold() == "".join(other.split()).casefold()
