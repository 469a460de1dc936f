"""staff.json: what staff sign in a patient's place, and its bad twins."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from tests.transfer_kit import refused
from tests.vectors.vectors import load, raw
from transfer import jws
from transfer.errors import HeaderError
from transfer.ids import Digest, PublicKey
from transfer.messages import Attest, Message, Offer, Override, encode, open_message, sign_message
from transfer.release import NO_RUN, check_grant, release_info

V = load("staff")
S = raw(V["S"])
KINDS: dict[str, type[Attest] | type[Override]] = {"attest": Attest, "override": Override}


@pytest.mark.parametrize("name", KINDS)
def test_each_is_a_grant_for_its_offer_and_can_be_made_again(name: str) -> None:
    key = SigningKey(raw(V["S_seed"]))
    assert bytes(key.verify_key) == S
    offer = open_message(Offer, V["offer"], S)
    kind: type[Message] = KINDS[name]
    message = open_message(kind, V[name], S)
    assert sign_message(message, key) == V[name]
    assert encode(message) == jws.verify(name, V[name], S, kind.CAP)
    assert jws.digest(V[name]) == raw(V[f"{name}_hash"])
    given = check_grant(V[name], kind=name, vp=NO_RUN, offer_text=V["offer"], offer=offer)  # type: ignore[arg-type]
    assert given == message
    assert given.offer == raw(V["offer_hash"])


def test_the_release_is_bound_to_it_as_to_any_grant() -> None:
    offer = open_message(Offer, V["offer"], S)
    digests = [Digest(raw(V[name])) for name in ("offer_hash", "attest_hash")]
    assert release_info(offer.tid, *digests) == raw(V["info_attest"])
    assert PublicKey(bytes(32)) == NO_RUN


@pytest.mark.parametrize("name", V["bad"])
def test_each_bad_twin_is_refused(name: str) -> None:
    kind = KINDS[name.partition("_")[0]]
    text = V["bad"][name]
    as_what = Attest if name == "override_as_attest" else kind
    assert jws.verify(as_what.NAME, text, S, as_what.CAP)
    with refused(HeaderError):
        open_message(as_what, text, S)
