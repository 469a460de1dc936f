from __future__ import annotations

import re
from typing import Any

import pytest

from tests.transfer_kit import NOW, OTHER, SPEC, R, S, fixed, refused, signed
from transfer import jws
from transfer.encoding import b64
from transfer.errors import HeaderError, SignatureError, SizeError, TransferError, VersionError
from transfer.ids import SiteId
from transfer.messages import Card, encode, peek
from transfer.sites import Identity, fingerprint, read_card


def _card(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "name": "Valley Hospital", "place": "Valley, OR", "relay": "https://relay.example", "page": "",
        "roles": ["send", "receive"], "now": NOW,
    }  # fmt: skip
    return S.card(**{**arguments, **changes})


def test_an_identity_is_its_seed() -> None:
    again = Identity(fixed("sender"))
    assert again.site == S.site
    assert repr(again) == f"Identity({S.site})"
    assert fixed("sender").hex() not in repr(again)
    with pytest.raises(ValueError, match="seed"):
        Identity(bytes(31))


def test_a_card_goes_from_hand_to_hand() -> None:
    card = read_card(_card())
    assert (card.site, card.name, card.roles) == (S.site, "Valley Hospital", ["send", "receive"])
    assert read_card(f"\n  {_card()}\r\n") == card


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": ""}, HeaderError),
        ({"name": "x" * 81}, HeaderError),
        ({"relay": "relay.example"}, HeaderError),
        ({"relay": "https://relay.example/path"}, HeaderError),
        ({"page": "relay.example/s"}, HeaderError),
        ({"roles": []}, HeaderError),
        ({"roles": ["admin"]}, HeaderError),
        ({"now": -1}, HeaderError),
    ],
)
def test_a_card_that_says_something_else_is_not_read(
    changes: dict[str, Any], error: type[TransferError]
) -> None:
    with refused(error):
        read_card(_card(**changes))


def test_a_card_is_signed_by_the_key_that_it_names() -> None:
    card = peek(Card, _card())
    with refused(SignatureError):
        read_card(jws.sign("card", encode(card), OTHER.key))


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_a_card_of_a_small_order_key(key: bytes) -> None:
    """Under such a key about any signature would hold."""
    body = encode(peek(Card, _card())).replace(S.site.text.encode(), SiteId(key).text.encode())
    forged = f"{jws.header('card')}.{b64(body)}.{b64(bytes([1]) + bytes(63))}"
    with refused(SignatureError):
        read_card(forged)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", HeaderError),
        ("not a card", HeaderError),
        ("x" * 2049, SizeError),
        ("é", HeaderError),
        (signed(Card, b"{}", S.key), HeaderError),
        (signed(Card, {"v": 2}, S.key), VersionError),
    ],
)
def test_what_is_no_card(text: str, error: type[TransferError]) -> None:
    with refused(error):
        read_card(text)


def test_the_fingerprint_is_stable_and_easy_to_compare() -> None:
    """An example for the documents and for whoever writes a second implementation."""
    example = "4754 7833 0177 3153 6727 5109 8187 0221"
    assert fingerprint(SiteId(bytes(range(32)))) == example
    assert f"`{example}`" in (SPEC / "protocol.md").read_text("utf-8")
    assert fingerprint(S.site) != fingerprint(R.site)
    for n in range(50):
        assert re.fullmatch(r"\d{4}( \d{4}){7}", fingerprint(SiteId(fixed(f"site {n}"))))
