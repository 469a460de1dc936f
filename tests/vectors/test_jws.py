"""jws.json: signed messages and their bad twins.

The vectors were made before the message schemas were settled: the offer's `why` is "TREAT", the grant has no
`lang` and an empty `rel`. They hold as signed texts, and are refused as messages; both is tested.
"""

from __future__ import annotations

import json

import pytest
from nacl.signing import SigningKey

from tests.transfer_kit import refused
from tests.vectors.vectors import load, raw
from transfer import jws
from transfer.errors import HeaderError, PeerError, SignatureError
from transfer.ids import Cid, Digest, SiteId, Tid
from transfer.manifest import Chain
from transfer.messages import (
    Grant,
    Manifest,
    Message,
    Offer,
    Prekey,
    Receipt,
    Release,
    decode,
    encode,
    name_of,
    open_message,
)
from transfer.prekeys import PrekeyPair
from transfer.release import accept_receipt, release_info

V = load("jws")
S, R, PHONE = raw(V["S"]), raw(V["R"]), raw(V["phone"])
SIGNED: list[tuple[str, type[Message], str]] = [
    ("prekey", Prekey, "R"),
    ("offer", Offer, "S"),
    ("grant", Grant, "phone"),
    ("release", Release, "S"),
    ("manifest_0", Manifest, "S"),
    ("manifest_1", Manifest, "S"),
    ("receipt", Receipt, "R"),
]
OLD = {"offer", "grant"}


def test_the_public_keys_are_those_of_the_seeds() -> None:
    for name in ("S", "R", "phone"):
        assert SigningKey(raw(V[f"{name}_seed"])).verify_key.encode() == raw(V[name])


@pytest.mark.parametrize(("name", "kind", "signer"), SIGNED)
def test_each_text_holds_and_can_be_made_again(name: str, kind: type[Message], signer: str) -> None:
    payload = jws.verify(kind.NAME, V[name], raw(V[signer]), kind.CAP)
    assert json.loads(payload)["v"] == 1
    assert jws.sign(kind.NAME, payload, SigningKey(raw(V[f"{signer}_seed"]))) == V[name]
    assert name_of(V[name]) == kind.NAME


@pytest.mark.parametrize(("name", "kind", "signer"), SIGNED)
def test_each_is_a_message_unless_it_is_older_than_the_schema(
    name: str, kind: type[Message], signer: str
) -> None:
    if name in OLD:
        with refused(HeaderError):
            open_message(kind, V[name], raw(V[signer]))
    else:
        message = open_message(kind, V[name], raw(V[signer]))
        assert encode(message) == jws.verify(kind.NAME, V[name], raw(V[signer]), kind.CAP)


def test_what_is_old_is_only_what_the_page_says() -> None:
    """With today's words in place of the old ones both are good messages."""
    offer = json.loads(jws.verify("offer", V["offer"], S, Offer.CAP))
    assert offer.pop("why") == "TREAT"
    assert decode(json.dumps({**offer, "why": "transfer"}).encode(), Offer).ct == "en-2026-1"
    grant = json.loads(jws.verify("grant", V["grant"], PHONE, Grant.CAP))
    assert grant.pop("rel") == ""
    assert "lang" not in grant
    assert decode(json.dumps({**grant, "rel": "self", "lang": "en"}).encode(), Grant).by == "patient"


BAD: dict[str, type[PeerError]] = {
    "alg_none": HeaderError,
    "header_order": HeaderError,
    "header_eddsa": HeaderError,
    "header_extra": HeaderError,
    "typ_swap": HeaderError,
    "trailing_bits": HeaderError,
    "four_parts": HeaderError,
    "wrong_key": SignatureError,
}


@pytest.mark.parametrize("name", V["bad"])
def test_each_bad_text_is_refused_for_its_own_reason(name: str) -> None:
    assert set(BAD) == set(V["bad"])
    with refused(BAD[name]):
        jws.verify("offer", V["bad"][name], S, Offer.CAP)


def test_a_swapped_type_is_wrong_for_its_type_alone() -> None:
    """It carries a good signature of S over its own bytes, as the note in the file says."""
    assert jws.verify("grant", V["bad"]["typ_swap"], S, Grant.CAP) == jws.verify(
        "offer", V["offer"], S, Offer.CAP
    )


def test_hashes_name_the_texts() -> None:
    assert jws.digest(V["offer"]) == raw(V["offer_hash"])
    assert jws.digest(V["grant"]) == raw(V["grant_hash"])
    release = open_message(Release, V["release"], S)
    assert (release.offer, release.grant, release.pk) == (raw(V["offer_hash"]), raw(V["grant_hash"]), PHONE)


def test_the_release_holds_the_content_key_and_the_grant() -> None:
    hpke = load("hpke")
    pair = PrekeyPair(raw(hpke["mlkem_seed"]), raw(hpke["x25519_private"]))
    release = open_message(Release, V["release"], S)
    assert release.kid == pair.kid
    plain = pair.open(release.sealed, release_info(release.tid, release.offer, release.grant))
    assert plain == raw(load("pack")["K"]) + V["grant"].encode()


def test_the_manifest_is_a_chain_and_the_receipt_names_its_last_record() -> None:
    chain = Chain(Cid(raw(load("pack")["cid"])), SiteId(S))
    chain.add(V["manifest_0"])
    chain.add(V["manifest_1"])
    assert (chain.ended, chain.total, chain.items) == (True, 2, 2)
    assert chain.last == jws.digest(V["manifest_1"])
    receipt = accept_receipt(
        V["receipt"], r=SiteId(R), tid=Tid(raw(load("cpace_door")[0]["tid"])), offer=Digest(raw(V["offer_hash"])),
        grant=Digest(raw(V["grant_hash"])), manifests=frozenset({chain.last}),
    )  # fmt: skip
    assert (receipt.state, receipt.gaps) == ("PARTIAL", [1])
