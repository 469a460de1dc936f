"""Every rule of `transfer.release` broken once, alone and together with every later one: the first counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.transfer_kit import (
    ALL,
    EXAMPLES,
    GRANT,
    GRANT_TEXT,
    H_GRANT,
    H_OFFER,
    HOURS,
    NOW,
    OFFER,
    OFFER_TEXT,
    OTHER,
    OTHER_DIGEST,
    PAIR,
    PHONE,
    PREKEY,
    THEN,
    TID,
    VP,
    K,
    R,
    S,
    an_offer,
    fixed,
    flip,
    forged_release,
    no_pair,
    pair_of,
    payload,
    refused,
    signed,
)
from transfer import jws
from transfer.encoding import b64
from transfer.errors import (
    ClockError,
    DecidedError,
    ExpiredError,
    GrantTypeError,
    HashError,
    HeaderError,
    KeyUnknownError,
    NotForMeError,
    SignatureError,
    SizeError,
    TransferError,
    UsedError,
    VersionError,
)
from transfer.ids import Digest, Kid, Tid
from transfer.messages import Grant, Offer, Release, ReleaseType, open_message, sign_message
from transfer.prekeys import PrekeyPair, seal_to
from transfer.release import (
    KEEP,
    NO_RUN,
    SKEW,
    Opened,
    Pin,
    make_release,
    open_release,
    release_info,
    rung_of,
)


class Case:
    """A release as R gets it; each field can be changed, and the rest still fits the change."""

    def __init__(self, **changes: Any) -> None:
        self.offer: dict[str, Any] = {}
        self.offer_key, self.release_key, self.grant_key = S.key, S.key, PHONE
        self.staff_key = S.key
        self.release: dict[str, Any] = {}
        self.kind: ReleaseType = "patient"
        self.grant: dict[str, Any] = {}
        self.info: bytes | None = None
        self.plain: Callable[[bytes], bytes] = lambda grant: K + grant
        self.pin, self.me, self.now = Pin(S.site), R.site, THEN
        self.prekey: Callable[[Kid], PrekeyPair | None] = pair_of
        self.used: Digest | None = None
        for name, value in changes.items():
            assert hasattr(self, name)
            setattr(self, name, value)

    def texts(self) -> tuple[str, str]:
        """(L, O)."""
        offer = signed(Offer, payload(OFFER, **self.offer), self.offer_key)
        h_offer = jws.digest(offer)
        example, key = EXAMPLES[self.kind], self.grant_key if self.kind == "patient" else self.staff_key
        grant = signed(type(example), payload(example, **{"offer": h_offer.text, **self.grant}), key)
        h_grant = jws.digest(grant)
        info = release_info(TID, h_offer, h_grant) if self.info is None else self.info
        fields = {
            "v": 1, "tid": TID.text, "offer": h_offer.text, "grant": h_grant.text, "type": self.kind,
            "pk": (VP if self.kind == "patient" else NO_RUN).text,
            "r": R.site.text, "kid": PAIR.kid.text, "iat": THEN,
            "sealed": b64(seal_to(PAIR.public, self.plain(grant.encode()), info)),
        }  # fmt: skip
        return signed(Release, {**fields, **self.release}, self.release_key), offer

    def open(self) -> Opened:
        release, offer = self.texts()
        return open_release(
            release, offer, pin=self.pin, me=self.me, now=self.now, prekey=self.prekey, used=self.used
        )


def test_an_honest_release_opens() -> None:
    opened = Case().open()
    assert opened.key == K
    assert opened.grant == GRANT
    assert open_message(Grant, opened.grant_text, VP) == opened.grant
    assert opened.release.type == "patient"
    assert repr(opened) == f"Opened({TID})"


@pytest.mark.parametrize("kind", ["attest", "override"])
def test_what_staff_decided_opens_where_the_pin_allows_that_type(kind: ReleaseType) -> None:
    """... and no other: the types are switched on one by one."""
    pin = Pin(S.site, attest=kind == "attest", override=kind == "override")
    opened = Case(kind=kind, pin=pin).open()
    assert (opened.key, opened.release.type, opened.release.pk) == (K, kind, NO_RUN)
    assert rung_of(opened.grant) == kind
    assert Case(pin=pin).open().release.type == "patient"


RULES: list[tuple[str, dict[str, Any], type[TransferError]]] = [
    ("1 L by somebody else", {"release_key": OTHER.key}, SignatureError),
    ("1 O by somebody else", {"offer_key": OTHER.key}, SignatureError),
    ("1 an override with a phone's key", {"kind": "override", "pin": ALL, "release": {"pk": VP.text}}, HeaderError),
    ("2 O names another sender", {"offer": {"s": OTHER.site.text}}, NotForMeError),
    ("2 O is for another site", {"offer": {"r": OTHER.site.text}}, NotForMeError),
    ("2 the pre-key is gone", {"prekey": no_pair}, KeyUnknownError),
    ("2 L is for another site", {"release": {"r": OTHER.site.text}}, NotForMeError),
    ("2 L was sealed to another pre-key", {"release": {"kid": b64(bytes(8))}}, NotForMeError),
    ("3 L is for another offer", {"release": {"offer": OTHER_DIGEST.text}}, HashError),
    ("3 L is for another tid", {"release": {"tid": b64(bytes(16))}}, HashError),
    ("3 O is from the future", {"now": NOW - SKEW - 1}, ClockError),
    ("3 O ended more than two days ago", {"now": OFFER.exp + KEEP + 1}, ExpiredError),
    ("3 L was made too late", {"release": {"iat": OFFER.exp + 1}}, ExpiredError),
    ("4 the offer was used before", {"used": OTHER_DIGEST}, UsedError),
    ("5 sealed for something else", {"info": release_info(TID, H_OFFER, OTHER_DIGEST)}, HashError),
    ("5 sealed without a purpose", {"info": b""}, HashError),
    ("6 nothing behind the key", {"plain": lambda grant: bytes(K)}, SizeError),
    ("6 less than a key", {"plain": lambda grant: b"K"}, SizeError),
    ("6 nothing at all", {"plain": lambda grant: b""}, SizeError),
    ("6 another grant inside", {"plain": lambda grant: K + GRANT_TEXT.encode() + b"A"}, HashError),
    ("6 bytes that are no text", {"plain": lambda grant: K + b"\xff" + grant}, HashError),
    ("6 something behind the grant", {"plain": lambda grant: K + grant + b"~" + OFFER_TEXT.encode()}, HashError),
    ("6 attested", {"kind": "attest"}, GrantTypeError),
    ("6 overridden", {"kind": "override"}, GrantTypeError),
    ("6 attested where only overriding is on", {"kind": "attest", "pin": Pin(S.site, override=True)}, GrantTypeError),
    ("6 overridden where only attesting is on", {"kind": "override", "pin": Pin(S.site, attest=True)}, GrantTypeError),
    ("6 attested by another site", {"kind": "attest", "pin": ALL, "staff_key": OTHER.key}, SignatureError),
    ("6 overridden by R", {"kind": "override", "pin": ALL, "staff_key": R.key}, SignatureError),
    ("6 one of the two", {"kind": "attest", "pin": ALL, "grant": {"by": ["dr.quill"]}}, HeaderError),
    ("6 one of them twice", {"kind": "attest", "pin": ALL, "grant": {"by": ["dr.quill"] * 2}}, HeaderError),
    ("6 attested another offer", {"kind": "attest", "pin": ALL, "grant": {"offer": OTHER_DIGEST.text}}, HashError),
    ("6 overridden another tid", {"kind": "override", "pin": ALL, "grant": {"tid": b64(bytes(16))}}, HashError),
    ("6 a yes in their place", {"pin": ALL, "release": {"type": "attest", "pk": NO_RUN.text}}, HeaderError),
    ("6 an override in the place of two", {"kind": "override", "pin": ALL, "release": {"type": "attest"}}, HeaderError),
    ("6 an override in the place of a yes",
     {"kind": "override", "pin": ALL, "release": {"type": "patient", "pk": S.site.text}}, HeaderError),
    ("6 G by another phone", {"grant_key": SigningKey(fixed("other phone"))}, SignatureError),
    ("6 G for another phone key", {"release": {"pk": OTHER.site.text}}, SignatureError),
    ("6 G under no key", {"release": {"pk": b64(bytes(32))}}, SignatureError),
    ("6 G is no grant", {"grant": {"d": ...}}, HeaderError),
    ("6 G of another version", {"grant": {"v": 2}}, VersionError),
    ("6 G for another offer", {"grant": {"offer": OTHER_DIGEST.text}}, HashError),
    ("6 G for another tid", {"grant": {"tid": b64(bytes(16))}}, HashError),
    ("6 G says no", {"grant": {"d": "deny"}}, DecidedError),
]  # fmt: skip
"""In the order of the module's docstring."""


@pytest.mark.parametrize(("name", "changes", "error"), RULES, ids=[name for name, _, _ in RULES])
def test_each_rule_broken_once(name: str, changes: dict[str, Any], error: type[TransferError]) -> None:
    with refused(error):
        Case(**changes).open()


def test_the_first_broken_rule_counts() -> None:
    """Rules of different numbers, two at a time, wherever both can be broken in one message."""
    seen = 0
    for (first, one, error), (second, two, _) in itertools.combinations(RULES, 2):
        both: dict[str, Any] = {**one}
        clash = False
        for name, value in two.items():
            mine = both.setdefault(name, value)
            if mine is not value:
                clash = not (isinstance(mine, dict) and not set(mine) & set(value))
                both[name] = {**mine, **value} if not clash else mine
        if clash or first[0] == second[0]:
            continue
        seen += 1
        with refused(error):
            Case(**both).open()
    assert seen > 150


# ---- the edges of the times


@pytest.mark.parametrize("now", [NOW - 600, NOW, OFFER.exp, OFFER.exp + 600, OFFER.exp + 48 * HOURS])
def test_r_s_clock_may_be_ten_minutes_behind_and_two_days_late(now: int) -> None:
    assert Case(now=now).open().key == K


@pytest.mark.parametrize("iat", [0, NOW, OFFER.exp - 1, OFFER.exp])
def test_l_may_be_made_until_o_ends(iat: int) -> None:
    assert Case(release={"iat": iat}).open().key == K


@pytest.mark.parametrize(
    ("skew", "error"),
    [(-601, ClockError), (-600, None), (0, None), (600, None), (601, None), (2 * HOURS, None)],
)
def test_a_skewed_clock_at_r(skew: int, error: type[TransferError] | None) -> None:
    """Ten minutes each way are taken; further ahead harms nobody while the offer is kept, further behind is named."""
    if error is None:
        assert Case(now=NOW + skew, release={"iat": NOW}).open().key == K
    else:
        with refused(error):
            Case(now=NOW + skew, release={"iat": NOW}).open()


# ---- once


def test_the_same_release_again_is_the_same_answer() -> None:
    case = Case()
    release, offer = case.texts()
    for used in (None, jws.digest(release)):
        opened = open_release(release, offer, pin=case.pin, me=R.site, now=THEN, prekey=pair_of, used=used)
        assert opened.key == K


def test_another_release_for_a_used_offer_is_refused_however_good_it_is() -> None:
    first, offer = Case().texts()
    again = make_release(
        key=S.key, offer_text=offer, offer=OFFER, grant_text=GRANT_TEXT, vp=VP, prekey_text=PREKEY, content_key=K,
        now=THEN + 1,
    )  # fmt: skip
    assert offer == OFFER_TEXT
    with refused(UsedError):
        open_release(
            again, offer, pin=Pin(S.site), me=R.site, now=THEN, prekey=pair_of, used=jws.digest(first)
        )


def test_a_release_is_no_use_beside_another_offer() -> None:
    """A photo of one release and a second offer of the same two sites."""
    release, _ = Case().texts()
    second = sign_message(an_offer(tid=Tid(bytes(16))), S.key)
    with refused(HashError):
        open_release(release, second, pin=Pin(S.site), me=R.site, now=THEN, prekey=pair_of, used=None)


def test_a_stored_grant_opens_no_second_offer() -> None:
    """Model A23: S is not tricked by an old yes, and R does not take it from a dishonest S either."""
    second = an_offer(tid=Tid(bytes(16)))
    text = sign_message(second, S.key)
    with refused(HashError):
        make_release(
            key=S.key, offer_text=text, offer=second, grant_text=GRANT_TEXT, vp=VP, prekey_text=PREKEY, content_key=K,
            now=THEN,
        )  # fmt: skip
    old = forged_release(text, GRANT_TEXT)
    with refused(HashError):
        open_release(old, text, pin=Pin(S.site), me=R.site, now=THEN, prekey=pair_of, used=None)


@pytest.mark.parametrize(
    ("release", "offer", "error"),
    [
        ("", OFFER_TEXT, HeaderError),
        (OFFER_TEXT, OFFER_TEXT, HeaderError),
        ("x" * 16385, OFFER_TEXT, SizeError),
        (None, "", HeaderError),
        (None, "x" * 4097, SizeError),
        (None, GRANT_TEXT, HeaderError),
        (None, signed(Offer, {"v": 2}, S.key), VersionError),
        (signed(Release, {"v": 2}, S.key), OFFER_TEXT, VersionError),
        (signed(Release, b"{}", S.key), OFFER_TEXT, HeaderError),
    ],
)
def test_texts_of_another_form(release: str | None, offer: str, error: type[TransferError]) -> None:
    good, _ = Case().texts()
    with refused(error):
        open_release(
            good if release is None else release,
            offer,
            pin=Pin(S.site),
            me=R.site,
            now=THEN,
            prekey=pair_of,
            used=None,
        )


def test_info_binds_all_three() -> None:
    base = release_info(TID, H_OFFER, H_GRANT)
    assert base == b"tt1/release" + TID + H_OFFER + H_GRANT
    assert (
        len({base, release_info(Tid(flip(TID)), H_OFFER, H_GRANT), release_info(TID, H_GRANT, H_OFFER)}) == 3
    )
