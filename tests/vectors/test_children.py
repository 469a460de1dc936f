"""children.json: a parent, its grant, and releases that carry both. `UPDATE_VECTORS=1` makes it anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.children_kit import ADD, DIVERT, LATER, a_child, a_parent
from tests.transfer_kit import PAIR, PAIR2, PHONE, R2, K, R, S, a_grant, fixed, forged_release, refused
from tests.vectors.vectors import load, raw
from transfer import jws
from transfer.errors import by_code
from transfer.ids import Digest, SiteId, Tid
from transfer.messages import Offer, Release, peek, sign_message
from transfer.prekeys import PrekeyPair
from transfer.release import Opened, Pin, open_release, release_info

if os.environ.get("UPDATE_VECTORS"):

    def _release(offer_text: str, inside: str, pair: PrekeyPair) -> dict[str, Any]:
        release = forged_release(offer_text, inside, pair, iat=LATER)
        return {"offer": offer_text, "inside": inside, "release": release}

    def _make() -> dict[str, Any]:
        def child(parent: str, **changes: Any) -> str:
            return a_child(jws.digest(parent), **changes)[0]

        parent, grant = a_parent()
        own = child(parent, **DIVERT)
        yes = sign_message(a_grant(tid=Tid(fixed("child", 16)), offer=jws.digest(own)), PHONE)
        nobody, nobodys = a_parent(alt=[])
        late, lates = a_parent(add=599)
        child_parent, childs = a_parent(parent=Digest(fixed("grandparent")), kind="divert")
        return {
            "note": "hex: keys, seeds; the rest is text. R opens with `now`; encapsulation is random, so releases open",
            "S": S.site.hex(), "R": R.site.hex(), "R2": R2.site.hex(), "K": K.hex(), "now": LATER,
            "pairs": [{"mlkem_seed": p.seed.hex(), "x25519_private": p.scalar.hex()} for p in (PAIR, PAIR2)],
            "parent": parent, "grant": grant,
            "good": [
                {"name": "divert", **_release(child(parent, **DIVERT), f"{grant}~{parent}", PAIR2)},
                {"name": "add", **_release(child(parent, **ADD), f"{grant}~{parent}", PAIR)},
                {"name": "a grant of its own", **_release(own, yes, PAIR2)},
            ],
            "bad": [
                {"name": "alt does not name R2", "code": "not-for-me",
                 **_release(child(nobody, **DIVERT), f"{nobodys}~{nobody}", PAIR2)},
                {"name": "the time for additions is over", "code": "expired",
                 **_release(child(late, **ADD), f"{lates}~{late}", PAIR)},
                {"name": "a child's child", "code": "hash",
                 **_release(child(child_parent, **DIVERT), f"{childs}~{child_parent}", PAIR2)},
                {"name": "the parent's grant without the parent", "code": "hash",
                 **_release(child(parent, **DIVERT), grant, PAIR2)},
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
