"""A parent offer and its children (protocol s. 7)."""

from __future__ import annotations

from typing import Any

from tests.transfer_kit import HOURS, NOW, PAIR2, PHONE, R2, S, a_grant, an_offer, fixed
from transfer import jws
from transfer.ids import Cid, Digest, Tid
from transfer.messages import Offer, sign_message

LATER = NOW + 600
"""When the child offers are made."""
DIVERT: dict[str, Any] = {"kind": "divert", "r": R2.site, "kid": PAIR2.kid}
ADD: dict[str, Any] = {"kind": "add", "cid": Cid(fixed("late", 16))}


def a_parent(**changes: Any) -> tuple[str, str]:
    """O that lets a yes reach R2 and an hour of late images, with `changes`; and the yes to it."""
    text = sign_message(an_offer(**{"alt": [R2.site], "add": HOURS, **changes}), S.key)
    return text, sign_message(a_grant(offer=jws.digest(text)), PHONE)


def a_child(parent: Digest, **changes: Any) -> tuple[str, Offer]:
    """O of the child, and what it says; `changes` begin with `DIVERT` or `ADD`."""
    fields = {"tid": Tid(fixed("child", 16)), "parent": parent, "iat": LATER, "exp": LATER + HOURS}
    offer = an_offer(**{**fields, **changes})
    return sign_message(offer, S.key), offer
