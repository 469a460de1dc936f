"""Every error has a code of its own, a sentence and a next step."""

from __future__ import annotations

import pytest

from relay import errors
from relay.errors import RelayError, of_peer
from transfer import errors as peer

KINDS = [RelayError, *RelayError.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_happened_and_what_to_do(kind: type[RelayError]) -> None:
    why = kind()
    assert why.sentence.endswith(".")
    assert why.next.endswith(".")
    assert 10 < len(why.sentence) < 120
    assert 10 < len(why.next) < 120
    assert str(why).startswith(kind.code + ": ")
    assert f"`{kind.code}`" in (errors.__doc__ or "")


def test_codes_are_unique_and_statuses_are_errors() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert all(400 <= kind.status < 600 for kind in KINDS)


@pytest.mark.parametrize(
    "kind",
    [
        peer.HeaderError,
        peer.VersionError,
        peer.SignatureError,
        peer.SizeError,
        peer.NotForMeError,
        peer.ClockError,
    ],
)
def test_the_protocols_errors_keep_their_codes(kind: type[peer.PeerError]) -> None:
    assert of_peer(kind()).code == kind.code


def test_the_protocols_other_errors_are_bad_requests() -> None:
    assert of_peer(peer.ChainError()).status == 400


def test_how_long_to_wait_is_a_header() -> None:
    assert errors.RateError(retry=7).headers == {"Retry-After": "7"}
    assert errors.RateError().headers == {}
