"""Child offers (protocol s. 7) at `transfer.release`: how far a parent's grant reaches, each bound broken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.children_kit import ADD, DIVERT, LATER, a_child, a_parent
from tests.transfer_kit import (
    CID,
    GRANT_TEXT,
    H_OFFER,
    HOURS,
    NOW,
    OFFER_TEXT,
    OTHER,
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
    forged_release,
    refused,
)
from transfer import jws
from transfer.errors import (
    DecidedError,
    ExpiredError,
    HashError,
    HeaderError,
    NotForMeError,
    SignatureError,
    TransferError,
)
from transfer.ids import Digest, Kid, PublicKey
from transfer.messages import Offer, Release, peek, sign_message
from transfer.prekeys import PrekeyPair
from transfer.release import Opened, Pin, accept_offer, make_release, open_release

PARENT_TEXT, YES = a_parent()
H_PARENT = jws.digest(PARENT_TEXT)
FORGED_PARENT = sign_message(peek(Offer, PARENT_TEXT), OTHER.key)
KINDS = pytest.mark.parametrize("kind", [DIVERT, ADD], ids=["divert", "add"])


def _child(kind: dict[str, Any]) -> tuple[str, Offer]:
    return a_child(**{"parent": H_PARENT, **kind})


def _make(kind: dict[str, Any], *, parent: str = PARENT_TEXT, grant: str = YES) -> str:
    text, offer = _child(kind)
    pair, key = (PAIR2, R2.key) if offer.r == R2.site else (PAIR, R.key)
    return make_release(
        key=S.key, offer_text=text, offer=offer, grant_text=grant, vp=VP, prekey_text=pair.publish(key, NOW),
        content_key=K, now=LATER, parent_text=parent,
    )  # fmt: skip


def _forge(kind: dict[str, Any], *, parent: str = PARENT_TEXT, grant: str = YES) -> str:
    """What an S would send that does not look."""
    text, offer = _child(kind)
    pair = PAIR2 if offer.r == R2.site else PAIR
    return forged_release(text, f"{grant}~{parent}", pair, iat=LATER)


def _open(
    release: str, kind: dict[str, Any], opened: Callable[[Digest], bool] = lambda parent: True
) -> Opened:
    text, offer = _child(kind)
    pair, me = (PAIR2, R2) if offer.r == R2.site else (PAIR, R)

    def prekey(kid: Kid) -> PrekeyPair | None:
        return pair if kid == pair.kid else None

    return open_release(
        release, text, pin=Pin(S.site), me=me.site, now=LATER, prekey=prekey, used=None, opened=opened
    )


@KINDS
def test_a_yes_to_the_parent_opens_what_it_named(kind: dict[str, Any]) -> None:
    opened = _open(_make(kind), kind)
    assert (opened.key, opened.grant_text, opened.parent) == (K, YES, PARENT_TEXT)


@KINDS
def test_a_child_may_have_a_yes_of_its_own(kind: dict[str, Any]) -> None:
    """Then nothing of the parent is asked or sent: R2 is not in alt, and nobody opened the parent."""
    orphan = {**kind, "parent": Digest(fixed("unknown"))}
    text, offer = _child(orphan)
    own = sign_message(a_grant(tid=offer.tid, offer=jws.digest(text)), PHONE)
    opened = _open(_make(orphan, parent="", grant=own), orphan, lambda h: False)
    assert (opened.grant_text, opened.parent) == (own, "")


@KINDS
def test_r_takes_a_child_into_its_inbox(kind: dict[str, Any]) -> None:
    text, offer = _child(kind)
    taken = accept_offer(
        text, pin=Pin(S.site), me=offer.r, now=LATER, prekey=lambda kid: PAIR2 if kid == PAIR2.kid else PAIR
    )
    assert taken == offer


def _parent(**changes: Any) -> dict[str, Any]:
    """A parent with `changes`, and a yes and a child that fit it."""
    text, yes = a_parent(**changes)
    return {"parent_text": text, "grant": yes, "parent": jws.digest(text)}


_BAD: list[tuple[str, dict[str, Any], dict[str, Any], type[TransferError]]] = [
    ("the parent names other places", DIVERT, _parent(alt=[OTHER.site]), NotForMeError),
    ("the parent names no place", DIVERT, _parent(alt=[]), NotForMeError),
    ("back to the parent's own place", {**DIVERT, "r": R.site, "kid": PAIR.kid}, {}, NotForMeError),
    ("the parent's question is over", DIVERT, _parent(iat=NOW - HOURS, exp=LATER), ExpiredError),
    ("an addition to another place", {**ADD, "r": R2.site, "kid": PAIR2.kid}, {}, NotForMeError),
    ("the parent allows no additions", ADD, _parent(add=0), ExpiredError),
    ("the time for additions is over", ADD, _parent(add=599), ExpiredError),
    ("an addition to the same content", {**ADD, "cid": CID}, {}, HashError),
    ("another parent inside", DIVERT, {"parent_text": OFFER_TEXT, "grant": GRANT_TEXT}, HashError),
    ("a parent that is a child", DIVERT, _parent(parent=H_OFFER, kind="divert"), HashError),
    ("a parent of another signer", DIVERT, {"parent_text": FORGED_PARENT}, SignatureError),
    ("a parent that is none", DIVERT, {"parent_text": "a.b.c"}, HeaderError),
    ("a grant for something else", DIVERT, {"grant": GRANT_TEXT}, HashError),
    ("a no", DIVERT, {"grant": sign_message(a_grant(offer=H_PARENT, d="deny"), PHONE)}, DecidedError),
]


@pytest.mark.parametrize(("name", "kind", "broken", "error"), _BAD, ids=[bad[0] for bad in _BAD])
def test_further_a_yes_does_not_reach(
    name: str, kind: dict[str, Any], broken: dict[str, Any], error: type[TransferError]
) -> None:
    """At S, which makes no release, and at R, which does not believe an S that made one."""
    fields = {"parent": broken["parent"]} if "parent" in broken else {}
    inside = {"parent": broken.get("parent_text", PARENT_TEXT), "grant": broken.get("grant", YES)}
    whole = {**kind, **fields}
    with refused(error):
        _make(whole, **inside)
    with refused(error):
        _open(_forge(whole, **inside), whole)


def test_the_last_second_of_each_reach() -> None:
    for kind, changes in ((DIVERT, _parent(iat=NOW - HOURS, exp=LATER + 1)), (ADD, _parent(add=600))):
        whole = {**kind, "parent": changes["parent"]}
        assert _open(_make(whole, parent=changes["parent_text"], grant=changes["grant"]), whole).key == K


def test_r_adds_to_what_it_opened_and_to_nothing_else() -> None:
    asked: list[Digest] = []

    def closed(parent: Digest) -> bool:
        asked.append(parent)
        return False

    with refused(HashError):
        _open(_make(ADD), ADD, closed)
    assert asked == [H_PARENT]
    assert _open(_make(DIVERT), DIVERT, closed).key == K


def test_a_parent_of_another_s_is_no_parent() -> None:
    text, grant = a_parent(s=OTHER.site)
    for kind in (DIVERT, ADD):
        whole = {**kind, "parent": jws.digest(text)}
        with refused(NotForMeError):
            _open(_forge(whole, parent=text, grant=grant), whole)


def test_an_offer_without_a_parent_is_covered_by_nothing() -> None:
    """An S that passes another yes beside an offer of its own."""
    release = forged_release(PARENT_TEXT, f"{YES}~{OFFER_TEXT}", iat=LATER)
    with refused(HashError):
        open_release(
            release, PARENT_TEXT, pin=Pin(S.site), me=R.site, now=LATER, prekey=lambda kid: PAIR, used=None
        )


def test_a_run_s_key_that_did_not_sign() -> None:
    text, offer = _child(DIVERT)
    with refused(SignatureError):
        make_release(
            key=S.key, offer_text=text, offer=offer, grant_text=YES, vp=PublicKey(OTHER.site),
            prekey_text=PAIR2.publish(R2.key, NOW), content_key=K, now=LATER, parent_text=PARENT_TEXT,
        )  # fmt: skip


def test_the_largest_child_release_fits() -> None:
    four = an_offer(alt=[R2.site, OTHER.site, R.site, S.site], add=HOURS, ct="c" * 32)
    parent = sign_message(four, S.key)
    grant = sign_message(
        a_grant(offer=jws.digest(parent), by="proxy", rel="guardian", name="\U0001f600" * 80), PHONE
    )
    whole = {**DIVERT, "parent": jws.digest(parent)}
    text = _make(whole, parent=parent, grant=grant)
    assert len(text) < Release.CAP
    assert _open(text, whole).parent == parent
    assert peek(Release, text).r == R2.site
