"""Text of others that people read, without what cannot be seen.

A character that has no shape of its own can make a name read as another one: an override turns its letters round, a
zero-width one hides inside it, a control character moves a terminal's cursor (UTS #39; UAX #9 for the direction of
text). `seen` takes them out wherever text of others is shown or kept; a grant whose name has one is refused.
Letters of any script stay as they are. The page of the phone has the same list (`UNSEEN` in `app.js`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from transfer.errors import HeaderError

NAME_MOST: Final = 80
"""Characters of a person's name, after normalization."""
_SPACES = re.compile(r"[\t-\r\x85\u2028\u2029]")
UNSEEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]"
)
"""Controls, line and paragraph separators, interlinear annotation, and Default_Ignorable_Code_Point (UCD,
DerivedCoreProperties): marks, embeddings, overrides and isolates of direction, zero-width spaces and joiners, variation
selectors, tags. Written out, so that two versions of Unicode do not read one message differently."""


def seen(text: str) -> str:
    """`text` on one line, without what cannot be seen."""
    return UNSEEN.sub("", _SPACES.sub(" ", text))


def one_line(text: str) -> str:
    """`seen`, without spaces around it and with single ones inside."""
    return " ".join(seen(text).split())


def is_seen(text: str) -> bool:
    """Whether each character of `text` has a shape, or is a space."""
    return UNSEEN.search(text) is None


def person_name(text: str) -> str:
    """A name as a person typed or pasted it: visible characters, NFC (UAX #15), single spaces; empty where nothing is
    left. Raises `HeaderError` for one of more than 80 characters.
    """
    name = unicodedata.normalize("NFC", one_line(text))
    if len(name) > NAME_MOST:
        raise HeaderError
    return name
