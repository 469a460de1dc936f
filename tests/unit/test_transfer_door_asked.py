"""`transfer.door`: what S asks has to fit the run, and what a person may answer."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.door_kit import YES, make_m4
from tests.transfer_kit import (
    HOURS,
    NOW,
    OFFER,
    OFFER_TEXT,
    OTHER,
    SALT,
    SUMMARY,
    TID,
    S,
    a_question,
    an_offer,
    doors,
    fixed,
    flip,
    joined,
    refused,
)
from transfer import jws
from transfer.door import PhoneDoor, read_wish
from transfer.errors import (
    ExpiredError,
    HashError,
    HeaderError,
    SignatureError,
    SizeError,
    StateError,
    TransferError,
    VersionError,
)
from transfer.ids import BlobKey, Digest, PublicKey, Tid
from transfer.mailbox import BODY_CAP, Decided, Stop
from transfer.messages import Grant, Offer, encode, sign_message
from transfer.summary import Summary, make_summary, summary_hash

# ---- what S asks


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"offer": sign_message(an_offer(iat=NOW + 1), S.key)}, HashError),
        ({"offer": OFFER_TEXT + "A"}, HashError),
        ({"offer": ""}, HashError),
        ({"offer": "é"}, HeaderError),
        ({"summary": SUMMARY.replace("Valley", "Volley")}, HashError),
        ({"summary": ""}, HashError),
        ({"salt": BlobKey(flip(SALT))}, HashError),
        ({"salt": BlobKey(b"")}, HashError),
        ({"summary": "x" * 4097}, SizeError),
        ({"summary": "é" * 2049}, SizeError),
        ({"now": OFFER.exp}, ExpiredError),
        ({"now": OFFER.exp + 1}, ExpiredError),
    ],
)
def test_a_question_that_does_not_fit_the_run(changes: dict[str, Any], error: type[TransferError]) -> None:
    ends = doors()
    m4 = make_m4(ends, a_question(**changes))
    with refused(error):
        ends.phone.answer(m4)
    with refused(StateError):
        ends.phone.decide(**YES)


def test_the_last_second_still_counts() -> None:
    ends = doors()
    assert ends.phone.answer(make_m4(ends, a_question(now=OFFER.exp - 1))).now == OFFER.exp - 1


@pytest.mark.parametrize("state", ["RELEASED", "COMPLETE", "DENIED", "EXPIRED"])
def test_after_the_end_there_is_a_page_and_no_clock(state: str) -> None:
    ends = doors()
    decided = Decided(d="approve", at=NOW + 60)
    asked = ends.phone.answer(
        make_m4(ends, a_question(state=state, decided=decided, now=OFFER.exp + 5 * HOURS))
    )
    assert (asked.state, asked.decided) == (state, decided)
    stop = read_wish(
        ends.site.channel.open(ends.phone.stop().box), vp=ends.site.vp, tid=TID, offer=OFFER_TEXT
    )
    assert isinstance(stop, Stop)


def _dishonest(offer: str | Offer, **question: Any) -> tuple[PhoneDoor, bytes]:
    """A run in which S itself speaks of something else: its m2 and m4 agree with each other."""
    text = offer if isinstance(offer, str) else sign_message(offer, S.key)
    ends = doors(offer=text)
    return ends.phone, make_m4(ends, a_question(offer=text, **question))


@pytest.mark.parametrize(
    ("offer", "error"),
    [
        (an_offer(tid=Tid(bytes(16))), HashError),
        (an_offer(s=OTHER.site), HashError),
        (an_offer(sum=Digest(bytes(32))), HashError),
        ("e30.e30.e30", HeaderError),
        (jws.sign("offer", b"{}", S.key), HeaderError),
        (jws.sign("offer", b'{"v":2}', S.key), VersionError),
        (jws.sign("offer", b" " * 3200, S.key), SizeError),
        (jws.sign("grant", encode(OFFER), S.key), HeaderError),
    ],
)
def test_an_offer_that_is_not_the_mailbox_s(offer: str | Offer, error: type[TransferError]) -> None:
    phone, m4 = _dishonest(offer)
    with refused(error):
        phone.answer(m4)
    assert phone.state == "DEAD"


@pytest.mark.parametrize(
    ("summary", "error"),
    [
        ("{}", HeaderError),
        ("[]", HeaderError),
        ("x", HeaderError),
        (" " * 2049, SizeError),
        ("\x00", HeaderError),
    ],
)
def test_words_that_nobody_can_read(summary: str, error: type[TransferError]) -> None:
    phone, m4 = _dishonest(an_offer(sum=summary_hash(SALT, summary)), summary=summary)
    with refused(error):
        phone.answer(m4)


def test_m4_may_be_as_long_as_the_protocol_allows() -> None:
    summary = make_summary(
        Summary(
            person="\U0001f3e5" * 40, from_="é" * 120, to="é" * 120, what="é" * 120, why="transfer",
            until=NOW, alt=["é" * 120] * 3, add=0, call='"' * 80, declined=None,
        )
    )  # fmt: skip
    assert len(summary.encode()) > 1800
    phone, m4 = _dishonest(an_offer(sum=summary_hash(SALT, summary)), summary=summary)
    assert len(m4) <= BODY_CAP
    assert phone.answer(m4).summary.call == '"' * 80


# ---- the wish


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "J. Doe"}, {"rel": "parent"}, {"by": "proxy"}, {"by": "proxy", "rel": "parent", "name": "x" * 81},
        {"d": "maybe"}, {"lang": "english"}, {"lang": ""}, {"t": -1}, {"rel": ""},
        {"by": "proxy", "rel": "parent", "name": "\ud800"}, {"by": "proxy", "rel": "parent", "name": "\u202eeoD"},
    ],
)  # fmt: skip
def test_the_phone_signs_no_grant_that_everybody_would_refuse(changes: dict[str, Any]) -> None:
    """Nothing was sent, so the person may correct the form and go on."""
    ends = joined()
    with refused(HeaderError):
        ends.phone.decide(**{**YES, **changes})
    m5 = ends.phone.decide(**YES)
    assert ends.site.channel.open(m5.box)


@pytest.mark.parametrize("name", ["", "x" * 80, "María José 王小明 🙂", "נועה לוי"])
def test_a_proxy_may_have_any_name(name: str) -> None:
    ends = joined()
    m5 = ends.phone.decide(**{**YES, "by": "proxy", "rel": "guardian", "name": name})
    wish = read_wish(ends.site.channel.open(m5.box), vp=ends.site.vp, tid=TID, offer=OFFER_TEXT)
    assert isinstance(wish, tuple)
    assert wish[0].name == name


def _grant(key: SigningKey, **changes: Any) -> bytes:
    fields: dict[str, Any] = {"v": 1, "tid": TID, "offer": jws.digest(OFFER_TEXT), **YES}
    return sign_message(Grant(**{**fields, **changes}), key).encode()


def test_a_wish_is_for_this_run_and_this_offer() -> None:
    key = SigningKey(fixed("run"))
    vp = PublicKey(key.verify_key.encode())

    def read(plain: bytes) -> object:
        return read_wish(plain, vp=vp, tid=TID, offer=OFFER_TEXT)

    assert isinstance(read(_grant(key)), tuple)
    for plain, error in (
        (_grant(key, tid=Tid(bytes(16))), HashError),
        (_grant(key, offer=Digest(bytes(32))), HashError),
        (_grant(SigningKey(fixed("other"))), SignatureError),
        (_grant(key)[:-1], HeaderError),
        (b"x" * 2049, SizeError),
        (b"", HeaderError),
        (b"\xff\xfe", HeaderError),
        (b"{}", HeaderError),
        (b'{"v":1,"stop":false}', HeaderError),
        (b'{"v":2,"stop":true}', VersionError),
        (b'{"v":1,"stop":true,"x":1}', HeaderError),
        (b' {"v":1,"stop":true}', HeaderError),
    ):
        with refused(error):
            read(plain)


def test_a_denied_grant_is_read_as_denied() -> None:
    ends = joined()
    wish = read_wish(
        ends.site.channel.open(ends.phone.decide(**{**YES, "d": "deny"}).box),
        vp=ends.site.vp, tid=TID, offer=OFFER_TEXT,
    )  # fmt: skip
    assert isinstance(wish, tuple)
    assert wish[0].d == "deny"
