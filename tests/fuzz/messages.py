"""Signed texts: the compact form, every message under a good signature, and the rules that read them."""

from __future__ import annotations

import json
from typing import Any

from tests.fuzz.harness import Harness
from tests.transfer_kit import (
    CID,
    DIGEST,
    GRANT,
    GRANT_TEXT,
    H_GRANT,
    H_OFFER,
    NOW,
    OFFER,
    OFFER_TEXT,
    PAIR,
    PHONE,
    PREKEY,
    SUMMARY,
    TID,
    VP,
    K,
    R,
    S,
    an_attestation,
    an_override,
    fixed,
    no_pair,
    pair_of,
    signed,
)  # fmt: skip
from transfer import jws, release
from transfer.door import read_wish, receipt_code
from transfer.errors import HeaderError, PeerError
from transfer.ids import BlobKey, Nonce
from transfer.manifest import Chain
from transfer.messages import (
    Ack,
    Card,
    Close,
    Grant,
    ItemEntry,
    Manifest,
    Message,
    Offer,
    PackEntry,
    Prekey,
    Receipt,
    Release,
    Request,
    SeriesEntry,
    decode,
    encode,
    name_of,
    open_message,
    peek,
)  # fmt: skip
from transfer.packs import OVERHEAD
from transfer.prekeys import read_prekey, seal_to
from transfer.requests import EMPTY, check, check_body, claimed_site, make_request
from transfer.sites import Identity, fingerprint, read_card
from transfer.summary import read_summary

PIN = release.Pin(S.site)
KINDS: list[type[Message]] = list(Message.__subclasses__())
RELEASE_TEXT = release.make_release(
    key=S.key, offer_text=OFFER_TEXT, offer=OFFER, grant_text=GRANT_TEXT, vp=VP, prekey_text=PREKEY,
    content_key=K, now=NOW + 90
)  # fmt: skip
CARD_TEXT = S.card(
    name="Valley", place="Town", relay="https://relay.example", page="", roles=["send", "receive"], now=NOW
)
REQUEST_TEXT = make_request(
    S.key,
    aud="https://relay.example",
    method="PUT",
    path="/v1/packs/00/0?kind=D",
    body=b"",
    now=NOW,
    jti=bytes(16),
)
MANIFEST = Manifest(
    v=1, cid=CID, i=0, prev="", packs=[PackEntry("D", n, 2**16 + OVERHEAD, DIGEST) for n in range(3)],
    series=[SeriesEntry(0, "1.2.3", 2, 2, True)],
    items=[ItemEntry(n, 0, "1.2", f"1.2.{n}", "1.2.840", "raw", 100 * n, 100, 100, DIGEST) for n in range(2)],
    end=True, total=2,
)  # fmt: skip
EXAMPLES: list[Message] = [
    OFFER, GRANT, an_attestation(), an_override(), MANIFEST,
    decode(jws.unverified_payload("release", RELEASE_TEXT, Release.CAP), Release),
    peek(Prekey, PREKEY), peek(Card, CARD_TEXT), peek(Request, REQUEST_TEXT), Ack(v=1, of=DIGEST),
    Close(v=1, tid=TID, offer=H_OFFER, state="DENIED", why="", iat=NOW),
    Receipt(
        v=1, tid=TID, offer=H_OFFER, grant=H_GRANT, manifest=DIGEST, state="PARTIAL", proof="find", gaps=[1,
        2], iat=NOW
    ),
]  # fmt: skip
TEXTS = [OFFER_TEXT, GRANT_TEXT, PREKEY, RELEASE_TEXT, CARD_TEXT, REQUEST_TEXT]


def _text(data: bytes) -> str:
    """Text as it may come out of a JSON string."""
    return data.decode("utf-8", "replace")


def _compact(data: bytes) -> None:
    """Any text where a signed one is awaited; only one that we signed is taken."""
    text = _text(data)
    read = taken = 0
    for call in (
        name_of,
        claimed_site,
        read_card,
        jws.digest,
        lambda t: read_prekey(t, site=R.site, now=NOW),
    ):
        try:
            call(text)
        except PeerError:
            continue
        read += call is not jws.digest
        taken += call is read_card and text.strip() != CARD_TEXT
    for kind in KINDS:
        try:
            open_message(kind, text, S.site)
        except PeerError:
            continue
        taken += text not in TEXTS
    assert not taken, "a text that nobody signed was taken"
    if not read:
        raise HeaderError


def _message(data: bytes) -> None:
    """A payload under a good signature, read as each kind; what is taken says the same again."""
    read = 0
    for kind in KINDS:
        try:
            message = open_message(kind, signed(kind, data, S.key), S.site)
        except PeerError:
            continue
        read += 1
        assert decode(encode(message), kind) == message
        assert json.loads(encode(message)) == json.loads(data)
    if not read:
        raise HeaderError


def _offer(data: bytes) -> None:
    """An offer of a paired site: taken by R, under a key that is there or gone."""
    text = signed(Offer, data, S.key)
    offer = release.accept_offer(text, pin=PIN, me=R.site, now=NOW + 60, prekey=pair_of)
    assert (offer.s, offer.r) == (S.site, R.site)
    assert offer.iat < offer.exp <= offer.iat + 86400
    try:
        release.accept_offer(text, pin=PIN, me=R.site, now=NOW + 60, prekey=no_pair)
    except PeerError:
        return
    raise AssertionError("an offer for a key that is gone was taken")


def _release(data: bytes) -> None:
    """A release of a paired site for an offer that is here."""
    text = signed(Release, data, S.key)
    opened = release.open_release(
        text, OFFER_TEXT, pin=PIN, me=R.site, now=NOW + 100, prekey=pair_of, used=None
    )
    assert (bytes(opened.key), opened.grant) == (bytes(K), GRANT)


def _sealed(data: bytes) -> None:
    """What a paired site put into the box: key and grant, or anything."""
    grant = jws.digest(data[32:].decode("ascii")) if data[32:].isascii() else H_GRANT
    sealed = seal_to(PAIR.public, data, release.release_info(TID, H_OFFER, grant))
    fields = json.loads(encode(peek(Release, RELEASE_TEXT)))
    fields |= {"sealed": BlobKey(sealed).text, "grant": grant.text}
    opened = release.open_release(
        signed(Release, fields, S.key),
        OFFER_TEXT,
        pin=PIN,
        me=R.site,
        now=NOW + 100,
        prekey=pair_of,
        used=None,
    )
    assert release.says_yes(opened.grant)
    assert opened.grant.offer == H_OFFER


def _wish(data: bytes) -> None:
    """What a phone that proved the PIN says in m5: first byte even, a payload that it signed; odd, any text."""
    plain = signed(Grant, data[1:], PHONE).encode() if data[:1] < b"\x80" else data[1:]
    wish = read_wish(plain, vp=VP, tid=TID, offer=OFFER_TEXT)
    if isinstance(wish, tuple):
        assert wish[0].offer == H_OFFER


def _closing(data: bytes) -> None:
    """A close, a receipt, an ack from the other site."""
    manifests = frozenset({DIGEST})
    for call in (
        lambda: release.accept_close(signed(Close, data, R.key), site=R.site, tid=TID, offer=H_OFFER,
        from_receiver=True),
        lambda: release.accept_close(signed(Close, data, S.key), site=S.site, tid=TID, offer=H_OFFER,
        from_receiver=False),
        lambda: open_message(Ack, signed(Ack, data, R.key), R.site),
    ):  # fmt: skip
        try:
            call()
        except PeerError:
            pass
    text = signed(Receipt, data, R.key)
    receipt = release.accept_receipt(
        text, r=R.site, tid=TID, offer=H_OFFER, grant=H_GRANT, manifests=manifests
    )
    assert len(receipt_code(text)) == 9
    assert not (receipt.state == "COMPLETE" and receipt.gaps)


def _request(data: bytes) -> None:
    """The header of a call to the relay, by an enrolled site."""
    text = signed(Request, data, S.key)
    assert claimed_site(text) == peek(Request, text).site
    request = check(text, site=S.site, aud="https://relay.example", method="PUT", path="/v1/packs/00/0?kind=D",
    now=NOW)  # fmt: skip
    check_body(request, EMPTY)
    assert len(Nonce(request.jti)) == 16


def _prekey(data: bytes) -> None:
    """A pre-key of a paired site, and a release sealed to it."""
    found = read_prekey(signed(Prekey, data, R.key), site=R.site, now=NOW)
    seal_to(found.pk, b"x", b"info")


def _card(data: bytes) -> None:
    """A card whose own key signed it."""
    try:
        claimed = decode(data, Card).site
    except PeerError:
        claimed = S.site
    owner = next((i for i in (S, R, Identity(fixed("somebody else"))) if i.site == claimed), S)
    card = read_card(signed(Card, data, owner.key))
    assert card.site == owner.site
    assert len(fingerprint(card.site)) == 39
    assert 1 <= len(card.name) <= 80


def _summary(data: bytes) -> None:
    """The facts of the question."""
    assert len(read_summary(_text(data)).person) <= 40


def _chain(data: bytes) -> None:
    """Records of a sender, one a line; `"prev":"@"` stands for what it must be: so mutants get past the first."""
    chain = Chain(CID, S.site)
    for line in data.split(b"\n"):
        prev = chain.last.text if chain.last else ""
        chain.add(signed(Manifest, line.replace(b'"prev":"@"', b'"prev":"' + prev.encode() + b'"'), S.key))
        assert len(chain.packs) <= 2**20
        assert chain.items <= 200_000
        assert sum(series.have >= 0 for series in chain.series.values()) == len(chain.series)


def _records() -> list[bytes]:
    """One record that is a whole study; three that are one together; one with a thousand images."""
    first: dict[str, Any] = {**json.loads(encode(MANIFEST)), "end": False, "total": 0, "prev": "@"}
    first["series"][0][4] = False
    second = {**first, "i": 1, "packs": [["D", 9, 2**22 + OVERHEAD, DIGEST.text]], "items": [], "series": []}
    third = {**second, "i": 2, "packs": [], "end": True, "total": 2}
    many = {**first, "items": [[n, 0, "1.2", f"1.2.{n}", "1.2.840", "raw", 100 * n, 90, 90,
    DIGEST.text] for n in range(1000)]}  # fmt: skip
    many["series"] = [[0, "1.2.3", 1000, 0, False]]
    lines = [[MANIFEST], [first, second, third], [many]]
    return [
        b"\n".join(json.dumps(r).encode() if isinstance(r, dict) else encode(r) for r in group)
        for group in lines
    ]


def _payloads(*kinds: type[Message]) -> list[bytes]:
    return [encode(example) for example in EXAMPLES if not kinds or isinstance(example, kinds)]


FAMILY = (PeerError,)
HARNESSES = [
    Harness(name="jws", run=_compact, samples=lambda: [t.encode() for t in TEXTS], family=FAMILY),
    Harness(name="message", share=0.4, run=_message, samples=_payloads, family=FAMILY),
    Harness(name="offer", run=_offer, samples=lambda: _payloads(Offer), family=FAMILY),
    Harness(name="release", run=_release, samples=lambda: _payloads(Release), family=FAMILY),
    Harness(name="sealed", share=0.3, run=_sealed, samples=lambda: [K + GRANT_TEXT.encode()], family=FAMILY),
    Harness(
        name="wish", run=_wish, family=FAMILY,
        samples=lambda: [b"\0" + encode(GRANT), b"\xff" + GRANT_TEXT.encode(), b'\xff{"v":1,"stop":true}'],
    ),
    Harness(name="closing", share=0.4, run=_closing, samples=lambda: _payloads(Receipt, Close, Ack), family=FAMILY),
    Harness(name="request", run=_request, samples=lambda: _payloads(Request), family=FAMILY),
    Harness(name="prekey", run=_prekey, samples=lambda: _payloads(Prekey), family=FAMILY),
    Harness(name="card", run=_card, samples=lambda: _payloads(Card), family=FAMILY),
    Harness(name="summary", run=_summary, samples=lambda: [SUMMARY.encode()], family=FAMILY),
    Harness(name="manifest", share=0.15, run=_chain, samples=_records, family=FAMILY),
]  # fmt: skip
