"""Whatever bytes come, a reader answers with a value or with a named error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.transfer_kit import (
    CID,
    DIGEST,
    OFFER,
    OFFER_TEXT,
    PHONE,
    K,
    Q,
    S,
    a_grant,
    an_attestation,
    an_override,
    fixed,
    joined,
    payload,
    signed,
)
from transfer import jws
from transfer.door import PhoneDoor, read_wish
from transfer.encoding import b64, unb64
from transfer.errors import PeerError, TransferError
from transfer.links import make_link, read_link
from transfer.mailbox import Answer, Body, Hello, Question, Refusal, Start, Status, Tombstone, read_body
from transfer.manifest import Chain
from transfer.messages import (
    Attest,
    Grant,
    Message,
    Offer,
    Override,
    decode,
    encode,
    name_of,
    open_message,
    peek,
)
from transfer.packs import open_pack
from transfer.prekeys import read_prekey
from transfer.requests import claimed_site
from transfer.sites import read_card
from transfer.summary import read_summary
from transfer.text import seen

KINDS: list[type[Any]] = [*Message.__subclasses__(), *Body.__subclasses__(), Question]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TEXT = st.text(max_size=60)
BYTES = st.binary(max_size=200)


def named(call: Callable[[], object]) -> None:
    """`call` ends, or refuses by name; nothing else may come out of it."""
    try:
        call()
    except TransferError:
        return


@settings(max_examples=150)
@given(st.sampled_from(KINDS), BYTES | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_break_a_reader(kind: type[Any], data: bytes) -> None:
    named(lambda: decode(data, kind))
    named(lambda: open_message(Offer, signed(Offer, data, S.key), S.site))
    if issubclass(kind, Body):
        named(lambda: read_body(data, kind))


FIELDS: dict[type[Any], dict[str, Any]] = {
    Hello: {"v": 1, "tid": b64(bytes(16)), "s": b64(bytes(32)), "exp": 1},
    Start: {"v": 1, "nP": b64(bytes(16)), "Ya": b64(bytes(32)), "vP": b64(bytes(32)), "gate": ""},
    Answer: {"v": 1, "Tb": b64(bytes(64)), "box": ""},
    Refusal: {"v": 1, "error": "wrong", "left": 1},
    Tombstone: {"v": 1, "ended": "DENIED"},
    Status: {"v": 1, "state": "", "at": 1, "refused": "", "decided": None, "code": ""},
    Offer: payload(OFFER),
    Grant: payload(a_grant()),
    Attest: payload(an_attestation()),
    Override: payload(an_override()),
}


@settings(max_examples=300)
@given(st.sampled_from(list(FIELDS)), st.data(), JSON)
def test_any_value_in_any_field_is_read_as_it_is_or_refused(
    kind: type[Any], data: st.DataObject, value: Any
) -> None:
    name = data.draw(st.sampled_from(sorted(FIELDS[kind])))
    body = {**FIELDS[kind], name: value}
    try:
        read = decode(json.dumps(body).encode(), kind)
    except PeerError:
        return
    assert json.loads(encode(read)) == body


@settings(max_examples=100)
@given(TEXT)
@example("https://r.example/s#1.")
@example("\ud800")
@example(OFFER_TEXT)
def test_no_text_breaks_a_reader(text: str) -> None:
    for call in (
        lambda: read_link(text), lambda: read_card(text), lambda: claimed_site(text), lambda: name_of(text),
        lambda: peek(Offer, text), lambda: open_message(Grant, text, S.site), lambda: jws.digest(text),
        lambda: read_summary(text), lambda: unb64(text), lambda: Chain(OFFER.cid, S.site).add(text),
        lambda: read_prekey(text, site=S.site, now=0),
    ):  # fmt: skip
        named(call)


@settings(max_examples=200)
@given(st.integers(0, len(OFFER_TEXT) - 1), st.characters(codec="utf-8"))
def test_one_other_character_in_a_signed_text_is_never_taken(at: int, character: str) -> None:
    changed = OFFER_TEXT[:at] + character + OFFER_TEXT[at + 1 :]
    if changed == OFFER_TEXT:
        return
    try:
        open_message(Offer, changed, S.site)
    except PeerError:
        return
    raise AssertionError("a changed text was taken")


@settings(max_examples=100)
@given(st.binary(max_size=70_000))
def test_base64url_is_one_to_one(data: bytes) -> None:
    assert unb64(b64(data)) == data
    assert "=" not in b64(data)


@settings(max_examples=100)
@given(st.binary(min_size=16, max_size=16))
def test_every_q_makes_a_link_that_is_read_back(q: bytes) -> None:
    assert read_link(make_link("https://relay.example", q)) == ("https://relay.example", q)


@settings(max_examples=100)
@given(
    st.text(max_size=80).map(lambda name: seen(name).encode(errors="ignore").decode()),
    st.sampled_from(["parent", "poa", "other"]),
)
def test_every_name_of_a_proxy_survives(name: str, rel: str) -> None:
    grant = a_grant(by="proxy", rel=rel, name=name)
    assert open_message(Grant, signed(Grant, payload(grant), PHONE), bytes(PHONE.verify_key)) == grant


@settings(max_examples=60)
@given(st.sampled_from(["hello", "point", "answer"]), BYTES)
def test_the_relay_cannot_break_a_phone(step: str, body: bytes) -> None:
    phone = PhoneDoor(Q, "000000", lambda n: fixed("p", n))
    if step != "hello":
        phone.hello(encode(Hello(v=1, tid=OFFER.tid, s=S.site, exp=1)))
    if step == "answer":
        phone.point(json.dumps({"v": 1, "Yb": b64(b"\x09" + bytes(31)), "hO": DIGEST.text}).encode())
    named(lambda: getattr(phone, step)(body))
    assert phone.state in ("DEAD", "STARTED", "PROVING", "ASKED")


@settings(max_examples=60)
@given(BYTES)
def test_a_phone_that_proved_the_pin_cannot_break_s(plain: bytes) -> None:
    ends = joined()
    named(lambda: read_wish(plain, vp=ends.site.vp, tid=OFFER.tid, offer=OFFER_TEXT))
    named(lambda: ends.site.channel.open(plain))


@settings(max_examples=60)
@given(BYTES)
def test_no_bytes_break_a_pack(ct: bytes) -> None:
    named(lambda: open_pack(K, CID, "D", 0, ct))
