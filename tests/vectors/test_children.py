"""children.json: a parent, its grant, and releases that carry both. `UPDATE_VECTORS=1` makes it anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.transfer_kit import (
    NOW,
    PAIR,
    PAIR2,
    PHONE,
    R2,
    VP,
    K,
    R,
    S,
    a_grant,
    an_offer,
    fixed,
    refused,
)
from tests.vectors.vectors import load, raw
from transfer import jws
from transfer.errors import by_code
from transfer.ids import BlobKey, Cid, Digest, SiteId, Tid
from transfer.messages import Offer, Release, peek, sign_message
from transfer.prekeys import PrekeyPair, seal_to
from transfer.release import Opened, Pin, open_release, release_info

if os.environ.get("UPDATE_VECTORS"):

    def _release(offer_text: str, inside: str, pair: PrekeyPair) -> dict[str, Any]:
        offer, grant = peek(Offer, offer_text), jws.digest(inside.partition("~")[0])
        info = release_info(offer.tid, jws.digest(offer_text), grant)
        release = Release(
            v=1, tid=offer.tid, offer=jws.digest(offer_text), grant=grant, pk=VP, type="patient", r=offer.r,
            kid=offer.kid, sealed=BlobKey(seal_to(pair.public, K + inside.encode(), info)), iat=NOW + 600,
        )  # fmt: skip
        return {"offer": offer_text, "inside": inside, "release": sign_message(release, S.key)}

    def _make() -> dict[str, Any]:
        def parent_of(**changes: Any) -> tuple[str, str]:
            text = sign_message(an_offer(**{"alt": [R2.site], "add": 3600, **changes}), S.key)
            return text, sign_message(a_grant(offer=jws.digest(text)), PHONE)

        def child(parent: str, **changes: Any) -> str:
            fields = {"parent": jws.digest(parent), "iat": NOW + 600, "exp": NOW + 4200}
            return sign_message(an_offer(**{"tid": Tid(fixed("child", 16)), **fields, **changes}), S.key)

        divert: dict[str, Any] = {"kind": "divert", "r": R2.site, "kid": PAIR2.kid}
        add: dict[str, Any] = {"kind": "add", "cid": Cid(fixed("late", 16))}
        parent, grant = parent_of()
        own = child(parent, **divert)
        yes = sign_message(a_grant(tid=Tid(fixed("child", 16)), offer=jws.digest(own)), PHONE)
        nobody, nobodys = parent_of(alt=[])
        late, lates = parent_of(add=599)
        child_parent, childs = parent_of(parent=Digest(fixed("grandparent")), kind="divert")
        return {
            "note": "hex: keys, seeds; the rest is text. R opens with `now`; encapsulation is random, so releases open",
            "S": S.site.hex(), "R": R.site.hex(), "R2": R2.site.hex(), "K": K.hex(), "now": NOW + 600,
            "pairs": [{"mlkem_seed": p.seed.hex(), "x25519_private": p.scalar.hex()} for p in (PAIR, PAIR2)],
            "parent": parent, "grant": grant,
            "good": [
                {"name": "divert", **_release(child(parent, **divert), f"{grant}~{parent}", PAIR2)},
                {"name": "add", **_release(child(parent, **add), f"{grant}~{parent}", PAIR)},
                {"name": "a grant of its own", **_release(own, yes, PAIR2)},
            ],
            "bad": [
                {"name": "alt does not name R2", "code": "not-for-me",
                 **_release(child(nobody, **divert), f"{nobodys}~{nobody}", PAIR2)},
                {"name": "the time for additions is over", "code": "expired",
                 **_release(child(late, **add), f"{lates}~{late}", PAIR)},
                {"name": "a child's child", "code": "hash",
                 **_release(child(child_parent, **divert), f"{childs}~{child_parent}", PAIR2)},
                {"name": "the parent's grant without the parent", "code": "hash",
                 **_release(child(parent, **divert), grant, PAIR2)},
                {"name": "a parent beside an offer that has none", "code": "hash",
                 **_release(parent, f"{grant}~{parent}", PAIR)},
            ],
        }  # fmt: skip

    (Path(__file__).parent / "children.json").write_text(json.dumps(_make(), indent=1) + "\n", "utf-8")

V = load("children")
PAIRS = [PrekeyPair(raw(pair["mlkem_seed"]), raw(pair["x25519_private"])) for pair in V["pairs"]]
PARENT = jws.digest(V["parent"])


def _open(case: dict[str, Any]) -> Opened:
    pairs = {pair.kid: pair for pair in PAIRS}
    return open_release(
        case["release"], case["offer"], pin=Pin(SiteId(raw(V["S"]))), me=peek(Offer, case["offer"]).r,
        now=V["now"], prekey=pairs.get, used=None, opened=lambda parent: True,
    )  # fmt: skip


@pytest.mark.parametrize("case", V["good"], ids=lambda case: case["name"])
def test_it_opens(case: dict[str, Any]) -> None:
    offer, release = peek(Offer, case["offer"]), peek(Release, case["release"])
    assert offer.parent == PARENT
    assert offer.r == SiteId(raw(V["R"] if offer.kind == "add" else V["R2"]))
    pair = PAIRS[offer.kind == "divert"]
    info = release_info(offer.tid, jws.digest(case["offer"]), release.grant)
    assert pair.open(release.sealed, info) == raw(V["K"]) + case["inside"].encode()
    opened = _open(case)
    assert opened.key == raw(V["K"])
    assert case["inside"] == opened.grant_text + ("~" + opened.parent if opened.parent else "")


@pytest.mark.parametrize("case", V["bad"], ids=lambda case: case["name"])
def test_it_is_refused(case: dict[str, Any]) -> None:
    with refused(by_code()[case["code"]]):
        _open(case)
