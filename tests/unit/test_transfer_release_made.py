"""`transfer.release`: S makes a release that R opens, and none without every rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.transfer_kit import (
    ALL,
    EXAMPLES,
    GRANT_TEXT,
    NOW,
    OFFER,
    OFFER_TEXT,
    OTHER,
    OTHER_DIGEST,
    PAIR,
    PHONE,
    PREKEY,
    THEN,
    VP,
    K,
    R,
    S,
    a_grant,
    an_offer,
    pair_of,
    refused,
    signed,
    stream,
)
from transfer import jws
from transfer.encoding import unb64
from transfer.errors import (
    ClockError,
    DecidedError,
    ExpiredError,
    HashError,
    HeaderError,
    KeyUnknownError,
    SignatureError,
    SizeError,
    TransferError,
    VersionError,
)
from transfer.ids import PublicKey, Tid
from transfer.messages import Grant, Release, ReleaseType, sign_message
from transfer.prekeys import LIFE, PrekeyPair
from transfer.release import NO_RUN, Pin, check_grant, make_release, open_release


def _make(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "key": S.key, "offer_text": OFFER_TEXT, "offer": OFFER, "grant_text": GRANT_TEXT, "vp": VP,
        "prekey_text": PREKEY, "content_key": K, "now": THEN,
    }  # fmt: skip
    return make_release(**{**arguments, **changes})


def test_s_makes_what_r_opens() -> None:
    opened = open_release(
        _make(), OFFER_TEXT, pin=Pin(S.site), me=R.site, now=THEN, prekey=pair_of, used=None
    )
    assert (opened.key, opened.grant_text) == (K, GRANT_TEXT)
    assert opened.release.pk == VP


@pytest.mark.parametrize("kind", ["attest", "override"])
def test_s_makes_what_r_opens_for_staff_too(kind: ReleaseType) -> None:
    text = sign_message(EXAMPLES[kind], S.key)
    made = _make(grant_text=text, kind=kind, vp=NO_RUN)
    opened = open_release(made, OFFER_TEXT, pin=ALL, me=R.site, now=THEN, prekey=pair_of, used=None)
    assert (opened.key, opened.grant, opened.grant_text) == (K, EXAMPLES[kind], text)
    for changes, error in (
        ({"grant_text": sign_message(EXAMPLES[kind], PHONE)}, SignatureError),
        ({"grant_text": GRANT_TEXT}, HeaderError),
        ({"now": OFFER.exp}, ExpiredError),
    ):
        with refused(error):
            _make(**{"grant_text": text, "kind": kind, "vp": NO_RUN, **changes})


def test_a_release_shows_neither_key_nor_grant() -> None:
    """The relay carries it: K and a proxy's name are in the sealed part only."""
    grant = sign_message(a_grant(by="proxy", rel="parent", name="Josefina Quill"), PHONE)
    text = _make(grant_text=grant)
    body = jws.verify("release", text, S.site, Release.CAP)
    sealed = unb64(json.loads(body)["sealed"])
    for secret in (bytes(K), K.text.encode(), K.hex().encode(), b"Josefina", grant.encode()[40:80]):
        assert secret not in body
        assert secret not in sealed


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"vp": PublicKey(OTHER.site)}, SignatureError),
        ({"vp": PublicKey(bytes(32))}, SignatureError),
        ({"grant_text": sign_message(a_grant(tid=Tid(bytes(16))), PHONE)}, HashError),
        ({"grant_text": sign_message(a_grant(offer=OTHER_DIGEST), PHONE)}, HashError),
        ({"grant_text": sign_message(a_grant(d="deny"), PHONE)}, DecidedError),
        ({"grant_text": GRANT_TEXT[:-1]}, HeaderError),
        ({"grant_text": "x" * 2049}, SizeError),
        ({"grant_text": signed(Grant, {"v": 2}, PHONE)}, VersionError),
        ({"now": OFFER.exp}, ExpiredError),
        ({"now": OFFER.exp + 1}, ExpiredError),
        ({"prekey_text": PAIR.publish(OTHER.key, NOW)}, SignatureError),
        ({"prekey_text": PAIR.publish(R.key, NOW - LIFE)}, ExpiredError),
        ({"prekey_text": PAIR.publish(R.key, THEN + 601)}, ClockError),
        ({"prekey_text": PrekeyPair.generate(stream("next")).publish(R.key, NOW)}, KeyUnknownError),
        ({"prekey_text": "a.b.c"}, HeaderError),
        ({"offer_text": sign_message(an_offer(iat=NOW + 1), S.key)}, HashError),
    ],
)
def test_s_makes_none_without_every_rule(changes: dict[str, Any], error: type[TransferError]) -> None:
    with refused(error):
        _make(**changes)


def test_the_last_second_counts_at_s() -> None:
    assert _make(now=OFFER.exp - 1)


def test_the_answer_to_an_old_question_comes_first() -> None:
    """Of several broken rules S names the person's: deny before expired before the pre-key."""
    deny = sign_message(a_grant(d="deny"), PHONE)
    with refused(DecidedError):
        _make(grant_text=deny, now=OFFER.exp, prekey_text="")
    with refused(ExpiredError):
        _make(now=OFFER.exp, prekey_text="")


def test_check_grant_takes_either_decision() -> None:
    for d in ("approve", "deny"):
        text = sign_message(a_grant(d=d), PHONE)
        assert check_grant(text, vp=VP, offer_text=OFFER_TEXT, offer=OFFER) == a_grant(d=d)
