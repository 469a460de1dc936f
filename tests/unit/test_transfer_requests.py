from __future__ import annotations

import json
from typing import Any

import pytest

from tests.transfer_kit import NOW, OTHER, S, fixed, flip, refused, signed
from transfer import jws
from transfer.encoding import sha256
from transfer.errors import (
    ClockError,
    HashError,
    HeaderError,
    NotForMeError,
    SignatureError,
    SizeError,
    TransferError,
    VersionError,
)
from transfer.messages import Request, peek
from transfer.requests import EMPTY, HEADER, REMEMBER, SKEW, check, check_body, claimed_site, make_request

AUD = "https://relay.example"
PATH = "/v1/packs/00ff/3?kind=D"
BODY = b"ciphertext"


def _request(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "aud": AUD, "method": "PUT", "path": PATH, "body": BODY, "now": NOW, "jti": fixed("jti", 16)
    }  # fmt: skip
    return make_request(S.key, **{**arguments, **changes})


def _check(text: str, **changes: Any) -> Request:
    arguments: dict[str, Any] = {"site": S.site, "aud": AUD, "method": "PUT", "path": PATH, "now": NOW}
    return check(text, **{**arguments, **changes})


def test_an_honest_call() -> None:
    request = _check(_request())
    check_body(request, sha256(BODY))
    assert claimed_site(_request()) == S.site
    assert request.jti == fixed("jti", 16)
    assert len(_request()) <= Request.CAP
    assert HEADER == "TT1-Request"


def test_a_call_without_a_body() -> None:
    request = _check(_request(method="GET", body=b""), method="GET")
    assert request.h == EMPTY == sha256(b"")
    check_body(request, sha256())


@pytest.mark.parametrize(
    ("made", "checked", "error"),
    [
        ({}, {"site": OTHER.site}, SignatureError),
        ({}, {"site": flip(S.site)}, SignatureError),
        ({"aud": "https://other.example"}, {}, NotForMeError),
        ({"aud": AUD + "/"}, {}, NotForMeError),
        ({"aud": ""}, {}, NotForMeError),
        ({"method": "GET"}, {}, NotForMeError),
        ({"path": "/v1/packs/00ff/3"}, {}, NotForMeError),
        ({"path": PATH + "&x=1"}, {}, NotForMeError),
        ({"path": PATH.replace("D", "M")}, {}, NotForMeError),
        ({"path": "/v1/../v1/packs/00ff/3?kind=D"}, {}, NotForMeError),
        ({"now": NOW - SKEW - 1}, {}, ClockError),
        ({"now": NOW + SKEW + 1}, {}, ClockError),
        ({"method": "PATCH"}, {"method": "PATCH"}, HeaderError),
        ({"path": "/" + "x" * 300}, {"path": "/" + "x" * 300}, HeaderError),
        ({"now": -1}, {"now": -1}, HeaderError),
    ],
)
def test_a_call_that_does_not_fit(
    made: dict[str, Any], checked: dict[str, Any], error: type[TransferError]
) -> None:
    with refused(error):
        _check(_request(**made), **checked)


@pytest.mark.parametrize("skew", [-SKEW, -600, 0, 600, SKEW])
def test_a_quarter_of_an_hour_each_way(skew: int) -> None:
    assert _check(_request(now=NOW + skew)).iat == NOW + skew


def test_a_replay_is_known_for_as_long_as_it_could_pass() -> None:
    """`jti` is kept twice as long as a request may be off, so the window never outlives the memory."""
    assert REMEMBER >= 2 * SKEW


@pytest.mark.parametrize("digest", [sha256(b"other"), sha256(b""), b"", bytes(31), bytes(33)])
def test_the_body_is_the_one_that_was_signed(digest: bytes) -> None:
    with refused(HashError):
        check_body(_check(_request()), digest)


def test_who_calls_is_read_without_a_signature_and_trusted_only_with_one() -> None:
    forged = signed(Request, {**_fields(), "site": OTHER.site.text}, S.key)
    assert claimed_site(forged) == OTHER.site
    with refused(SignatureError):
        _check(forged, site=OTHER.site)
    with refused(NotForMeError):
        _check(forged, site=S.site)


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(jws.verify("request", _request(), S.site, Request.CAP))
    return fields


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", HeaderError),
        ("a.b.c", HeaderError),
        ("x" * 1025, SizeError),
        ("é", HeaderError),
        (signed(Request, {"v": 2}, S.key), VersionError),
        (signed(Request, b"[]", S.key), HeaderError),
        (jws.sign("offer", b"{}", S.key), HeaderError),
    ],
)
def test_headers_of_another_form(text: str, error: type[TransferError]) -> None:
    for call in (claimed_site, _check, lambda text: peek(Request, text)):
        with refused(error):
            call(text)
