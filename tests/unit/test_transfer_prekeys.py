from __future__ import annotations

from typing import Any

import pytest

from tests.transfer_kit import (
    HOURS,
    NOW,
    OTHER,
    PAIR,
    PREKEY,
    R,
    S,
    fixed,
    flip,
    payload,
    refused,
    signed,
    stream,
)
from transfer.encoding import b64, sha256
from transfer.errors import (
    ClockError,
    ExpiredError,
    HashError,
    HeaderError,
    NotForMeError,
    SignatureError,
    TransferError,
    VersionError,
)
from transfer.ids import BlobKey
from transfer.messages import Prekey, peek
from transfer.prekeys import DELETE_AFTER, LIFE, RENEW, PrekeyPair, kid_of, read_prekey, seal_to

MESSAGE = peek(Prekey, PREKEY)
BORN = NOW - HOURS


def _published(**changes: Any) -> str:
    return signed(Prekey, payload(MESSAGE, **changes), R.key)


def test_a_pre_key_is_two_keys_and_its_id_is_their_hash() -> None:
    assert len(PAIR.public) == 1184 + 32
    assert PAIR.kid == sha256(PAIR.public)[:8] == kid_of(PAIR.public)
    assert PrekeyPair.generate(stream("pre-key")) == PAIR
    assert PrekeyPair.generate(stream("another")).kid != PAIR.kid
    assert repr(PAIR) == "PrekeyPair(...)"


def test_its_life() -> None:
    assert (LIFE, RENEW, DELETE_AFTER) == (72 * HOURS, 24 * HOURS, 48 * HOURS)
    assert (MESSAGE.nbf, MESSAGE.exp) == (BORN, BORN + LIFE)
    assert read_prekey(PREKEY, site=R.site, now=NOW) == MESSAGE


@pytest.mark.parametrize("now", [BORN - 600, BORN, NOW, BORN + LIFE - 1])
def test_it_may_be_used_from_ten_minutes_before_its_birth(now: int) -> None:
    assert read_prekey(PREKEY, site=R.site, now=now).kid == PAIR.kid


@pytest.mark.parametrize(
    ("now", "error"),
    [(BORN - 601, ClockError), (BORN + LIFE, ExpiredError), (BORN + 10 * LIFE, ExpiredError)],
)
def test_not_yet_and_no_more(now: int, error: type[TransferError]) -> None:
    with refused(error):
        read_prekey(PREKEY, site=R.site, now=now)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"exp": BORN + LIFE + 1}, ExpiredError),
        ({"exp": NOW}, ExpiredError),
        ({"exp": 0}, ExpiredError),
        ({"site": OTHER.site.text}, NotForMeError),
        ({"kid": b64(bytes(8))}, HashError),
        ({"pk": b64(flip(PAIR.public))}, HashError),
        ({"pk": b64(PAIR.public[:-1])}, HashError),
        ({"pk": b64(PAIR.public + b"\x00")}, HashError),
        ({"pk": ""}, HashError),
        ({"pk": b64(bytes(32)), "kid": b64(sha256(bytes(32))[:8])}, HashError),
        ({"pk": ...}, HeaderError),
        ({"pk": "="}, HeaderError),
        ({"kid": ""}, HeaderError),
        ({"x": 1}, HeaderError),
        ({"v": 2}, VersionError),
    ],
)
def test_what_r_published_must_hold_together(changes: dict[str, Any], error: type[TransferError]) -> None:
    with refused(error):
        read_prekey(_published(**changes), site=R.site, now=NOW)


def test_only_the_pinned_site_publishes_its_keys() -> None:
    """A pre-key of the relay's own would open every study (model X05)."""
    forged = PrekeyPair.generate(stream("relay"))
    for text in (forged.publish(OTHER.key, NOW), signed(Prekey, payload(MESSAGE), OTHER.key)):
        with refused(SignatureError):
            read_prekey(text, site=R.site, now=NOW)
    with refused(SignatureError):
        read_prekey(PREKEY, site=S.site, now=NOW)


def test_what_is_sealed_opens_once_for_its_owner_and_purpose() -> None:
    sealed = seal_to(PAIR.public, b"secret", b"for this")
    assert PAIR.open(sealed, b"for this") == b"secret"
    assert len(sealed) == 1120 + 6 + 16
    assert seal_to(PAIR.public, b"secret", b"for this") != sealed
    for pair, info in ((PAIR, b"for that"), (PAIR, b""), (PrekeyPair.generate(stream("x")), b"for this")):
        with refused(HashError):
            pair.open(sealed, info)


@pytest.mark.parametrize("half", [0, 1])
def test_either_half_is_needed(half: int) -> None:
    """A thief of one half (a quantum computer, a broken lattice) opens nothing."""
    sealed = seal_to(PAIR.public, b"secret", b"")
    other = PrekeyPair.generate(stream("other"))
    mixed = PrekeyPair(PAIR.seed, other.scalar) if half else PrekeyPair(other.seed, PAIR.scalar)
    with refused(HashError):
        mixed.open(sealed, b"")


@pytest.mark.parametrize("size", [0, 1, 31, 32, 1087, 1088, 1119, 1120, 1135, 1136, 1141])
def test_a_sealed_text_cut_short(size: int) -> None:
    with refused(HashError):
        PAIR.open(seal_to(PAIR.public, b"secret", b"")[:size], b"")


@pytest.mark.parametrize("at", [0, 700, 1087, 1088, 1119, 1120, 1135, 1136, 1141])
def test_every_part_of_a_sealed_text_counts(at: int) -> None:
    with refused(HashError):
        PAIR.open(flip(seal_to(PAIR.public, b"secret", b""), 8 * at + 7), b"")


def test_a_low_order_point_in_the_sealed_text() -> None:
    sealed = seal_to(PAIR.public, b"secret", b"")
    with refused(HashError):
        PAIR.open(sealed[:1088] + bytes(32) + sealed[1120:], b"")


@pytest.mark.parametrize(
    "public",
    [
        b"",
        PAIR.public[:1184],
        PAIR.public[:-1],
        PAIR.public + b"\x00",
        b"\xff" * 1216,
        PAIR.public[:1184] + bytes(32),
        PAIR.public[:1184] + b"\x01" + bytes(31),
    ],
)
def test_a_public_half_that_is_none(public: bytes) -> None:
    """Also one of small order, which a dishonest or broken R may sign: S must not fall over it."""
    with refused(HashError):
        seal_to(public, b"secret", b"")


def test_a_signed_pre_key_of_small_order_is_an_error_with_a_name() -> None:
    weak = BlobKey(PAIR.public[:1184] + bytes(32))
    text = _published(pk=weak.text, kid=kid_of(weak).text)
    message = read_prekey(text, site=R.site, now=NOW)
    with refused(HashError):
        seal_to(message.pk, b"secret", b"")


def test_the_stored_pair_is_its_96_secret_bytes() -> None:
    assert (len(PAIR.seed), len(PAIR.scalar)) == (64, 32)
    pair = PrekeyPair(bytes(PAIR.seed), bytes(PAIR.scalar))
    assert pair.open(seal_to(PAIR.public, fixed("x"), b"i"), b"i") == fixed("x")
