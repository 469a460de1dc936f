"""hpke.json: RFC 9180 with the ML-KEM hybrid. Encapsulation is random, so a vector can only be opened."""

from __future__ import annotations

from tests.transfer_kit import flip, refused
from tests.vectors.vectors import load, raw
from transfer import jws
from transfer.errors import HashError
from transfer.ids import Digest, SiteId, Tid
from transfer.prekeys import PrekeyPair, kid_of, read_prekey, seal_to
from transfer.release import release_info

V = load("hpke")
JWS = load("jws")
PAIR = PrekeyPair(raw(V["mlkem_seed"]), raw(V["x25519_private"]))


def test_the_suite_is_ours() -> None:
    assert V["suite"] == "MLKEM768-X25519 (0x647a), HKDF-SHA256, ChaCha20-Poly1305"


def test_the_public_half_comes_from_the_two_secrets() -> None:
    assert PAIR.public == raw(V["public"])
    message = read_prekey(JWS["prekey"], site=SiteId(raw(JWS["R"])), now=1796000000)
    assert message.pk == PAIR.public
    assert message.kid == PAIR.kid == kid_of(raw(V["public"]))


def test_info_is_label_tid_offer_and_grant() -> None:
    tid = Tid(raw(load("cpace_door")[0]["tid"]))
    h_offer, h_grant = jws.digest(JWS["offer"]), jws.digest(JWS["grant"])
    assert (h_offer, h_grant) == (Digest(raw(JWS["offer_hash"])), Digest(raw(JWS["grant_hash"])))
    assert release_info(tid, h_offer, h_grant) == raw(V["info"])


def test_it_opens() -> None:
    plain = PAIR.open(raw(V["sealed"]), raw(V["info"]))
    assert plain == raw(V["plaintext"])
    assert plain == raw(load("pack")["K"]) + JWS["grant"].encode()
    assert PAIR.open(seal_to(PAIR.public, plain, raw(V["info"])), raw(V["info"])) == plain


def test_it_opens_for_nothing_else() -> None:
    sealed, info = raw(V["sealed"]), raw(V["info"])
    for text, bound in ((sealed, b""), (sealed, flip(info)), (flip(sealed, 9000), info), (sealed[:-1], info)):
        with refused(HashError):
            PAIR.open(text, bound)


def test_the_other_suite_does_not_open() -> None:
    """The same plain text under X25519 alone: nobody downgrades us."""
    with refused(HashError):
        PAIR.open(raw(V["x25519_suite_sealed"]), raw(V["info"]))
