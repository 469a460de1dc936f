"""`transfer.release`: the offers that R takes, and the receipts, closes and acks that follow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.transfer_kit import (
    H_GRANT,
    H_OFFER,
    HOURS,
    NOW,
    OFFER,
    OFFER_TEXT,
    OTHER,
    OTHER_DIGEST,
    TID,
    R,
    S,
    an_offer,
    fixed,
    no_pair,
    pair_of,
    payload,
    refused,
    signed,
)
from transfer import jws
from transfer.errors import (
    ClockError,
    ExpiredError,
    HashError,
    HeaderError,
    KeyUnknownError,
    NotForMeError,
    SignatureError,
    SizeError,
    TransferError,
    VersionError,
)
from transfer.ids import Digest, Kid, SiteId, Tid
from transfer.messages import Ack, Close, Offer, Receipt, open_message, sign_message
from transfer.release import KEEP, Pin, accept_close, accept_offer, accept_receipt, make_ack

# ---- R takes O


@pytest.mark.parametrize(
    ("offer", "changes", "error"),
    [
        ({}, {"pin": Pin(OTHER.site)}, SignatureError),
        ({"s": OTHER.site}, {}, NotForMeError),
        ({}, {"me": OTHER.site}, NotForMeError),
        ({}, {"prekey": no_pair}, KeyUnknownError),
        ({"kid": Kid(bytes(8))}, {}, KeyUnknownError),
        ({}, {"now": NOW - 601}, ClockError),
        ({}, {"now": OFFER.exp + KEEP + 1}, ExpiredError),
    ],
)
def test_an_offer_that_r_does_not_take(
    offer: dict[str, Any], changes: dict[str, Any], error: type[TransferError]
) -> None:
    text = sign_message(an_offer(**offer), S.key)
    arguments: dict[str, Any] = {"pin": Pin(S.site), "me": R.site, "now": NOW, "prekey": pair_of}
    with refused(error):
        accept_offer(text, **{**arguments, **changes})


@pytest.mark.parametrize("now", [NOW - 600, NOW, OFFER.exp + KEEP])
def test_an_offer_that_r_takes(now: int) -> None:
    assert accept_offer(OFFER_TEXT, pin=Pin(S.site), me=R.site, now=now, prekey=pair_of) == OFFER


def test_an_offer_for_longer_than_a_day_is_no_offer() -> None:
    text = signed(Offer, payload(OFFER, exp=NOW + 24 * HOURS + 1), S.key)
    with refused(HeaderError):
        accept_offer(text, pin=Pin(S.site), me=R.site, now=NOW, prekey=pair_of)


def test_an_offer_with_other_destinations_in_sight_is_taken_as_it_is() -> None:
    """What they allow is for child offers: it does not make O itself anybody else's."""
    text = sign_message(an_offer(alt=[OTHER.site], add=3600), S.key)
    assert accept_offer(text, pin=Pin(S.site), me=R.site, now=NOW, prekey=pair_of).alt == [OTHER.site]
    with refused(NotForMeError):
        accept_offer(text, pin=Pin(S.site), me=SiteId(OTHER.site), now=NOW, prekey=pair_of)


# ---- receipts, closes, acks

MANIFEST = Digest(fixed("manifest"))


def _receipt(key: SigningKey = R.key, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "v": 1, "tid": TID, "offer": H_OFFER, "grant": H_GRANT, "manifest": MANIFEST, "state": "COMPLETE",
        "proof": "store", "gaps": [], "iat": NOW,
    }  # fmt: skip
    return sign_message(Receipt(**{**fields, **changes}), key)


def _take_receipt(text: str) -> Receipt:
    return accept_receipt(
        text,
        r=R.site,
        tid=TID,
        offer=H_OFFER,
        grant=H_GRANT,
        manifests=frozenset({MANIFEST, Digest(bytes(32))}),
    )


def test_a_receipt_of_r_for_this_offer_this_grant_and_a_record_of_ours() -> None:
    assert _take_receipt(_receipt()).state == "COMPLETE"
    assert _take_receipt(_receipt(state="PARTIAL", gaps=[1, 2])).gaps == [1, 2]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (_receipt(OTHER.key), SignatureError),
        (_receipt(S.key), SignatureError),
        (_receipt(tid=Tid(bytes(16))), HashError),
        (_receipt(offer=OTHER_DIGEST), HashError),
        (_receipt(grant=OTHER_DIGEST), HashError),
        (_receipt(manifest=OTHER_DIGEST), HashError),
        (_receipt()[:-2], HeaderError),
        ("x" * 65537, SizeError),
        (signed(Receipt, {"v": 2}, R.key), VersionError),
    ],
)
def test_other_receipts(text: str, error: type[TransferError]) -> None:
    with refused(error):
        _take_receipt(text)


def test_complete_has_no_gaps() -> None:
    with pytest.raises(ValueError, match="gaps"):
        _receipt(gaps=[1])
    body = {**json.loads(jws.verify("receipt", _receipt(), R.site, Receipt.CAP)), "gaps": [1]}
    with refused(HeaderError):
        _take_receipt(signed(Receipt, body, R.key))


def _close(state: str, key: SigningKey = S.key, **changes: Any) -> str:
    fields: dict[str, Any] = {"v": 1, "tid": TID, "offer": H_OFFER, "state": state, "why": "", "iat": NOW}
    return sign_message(Close(**{**fields, **changes}), key)


@pytest.mark.parametrize("state", ["DENIED", "EXPIRED", "REVOKED", "DIVERTED", "DECLINED"])
def test_r_may_only_decline_and_s_may_only_do_the_rest(state: str) -> None:
    for site, key, from_receiver in ((S, S.key, False), (R, R.key, True)):
        text = _close(state, key)
        if (state == "DECLINED") == from_receiver:
            close = accept_close(text, site=site.site, tid=TID, offer=H_OFFER, from_receiver=from_receiver)
            assert close.state == state
        else:
            with refused(HashError):
                accept_close(text, site=site.site, tid=TID, offer=H_OFFER, from_receiver=from_receiver)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (_close("DENIED", OTHER.key), SignatureError),
        (_close("DENIED", R.key), SignatureError),
        (_close("DENIED", tid=Tid(bytes(16))), HashError),
        (_close("DENIED", offer=OTHER_DIGEST), HashError),
        ("", HeaderError),
        ("x" * 1025, SizeError),
    ],
)
def test_other_closes(text: str, error: type[TransferError]) -> None:
    with refused(error):
        accept_close(text, site=S.site, tid=TID, offer=H_OFFER, from_receiver=False)


def test_an_ack_names_the_copy_that_is_on_disk() -> None:
    ack = open_message(Ack, make_ack(R.key, OFFER_TEXT), R.site)
    assert ack.of == H_OFFER
    assert ack.of != jws.digest(OFFER_TEXT + "A")
