from __future__ import annotations

import json
import traceback
from typing import Any, get_args

import pytest

from tests.spec_schema import assert_documented
from tests.transfer_kit import (
    CID,
    DIGEST,
    GRANT,
    H_GRANT,
    H_OFFER,
    NOW,
    OFFER,
    OTHER,
    PAIR,
    PHONE,
    SPEC,
    TID,
    VP,
    R,
    S,
    a_grant,
    an_attestation,
    an_offer,
    an_override,
    fixed,
    payload,
    refused,
    signed,
)
from transfer import jws
from transfer.encoding import b64
from transfer.errors import HeaderError, PeerError, SignatureError, SizeError, VersionError
from transfer.ids import BlobKey, Digest, Nonce, PublicKey, SiteId
from transfer.messages import (
    Ack,
    Attest,
    Card,
    Close,
    CloseWhy,
    Grant,
    ItemEntry,
    Manifest,
    Message,
    Offer,
    Override,
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
    sign_message,
)

D32 = b64(bytes(32))
PACK = PackEntry("D", 0, 65576, DIGEST)
SERIES = SeriesEntry(0, "1.2.3", 1, 2, False)
ITEM = ItemEntry(
    0, 0, "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.840.10008.1.2.1", "htj2k", 0, 10, 20, DIGEST
)
EXAMPLES: dict[type[Message], Message] = {
    Prekey: Prekey(v=1, kid=PAIR.kid, site=R.site, pk=PAIR.public, nbf=NOW, exp=NOW + 72 * 3600),
    Offer: OFFER,
    Grant: GRANT,
    Attest: an_attestation(),
    Override: an_override(),
    Release: Release(
        v=1, tid=TID, offer=H_OFFER, grant=H_GRANT, pk=VP, type="patient", r=R.site, kid=PAIR.kid,
        sealed=BlobKey(fixed("sealed", 1500)), iat=NOW,
    ),
    Manifest: Manifest(v=1, cid=CID, i=0, prev="", packs=[PACK], series=[SERIES], items=[ITEM], end=False, total=0),
    Receipt: Receipt(
        v=1, tid=TID, offer=H_OFFER, grant=H_GRANT, manifest=DIGEST, state="PARTIAL", proof="store", gaps=[3, 5],
        iat=NOW,
    ),
    Close: Close(v=1, tid=TID, offer=H_OFFER, state="DENIED", why="", iat=NOW),
    Ack: Ack(v=1, of=DIGEST),
    Card: Card(
        v=1, site=S.site, name="Valley Hospital", place="Valley", relay="https://relay.example", page="",
        roles=["send", "receive"], iat=NOW,
    ),
    Request: Request(
        v=1, site=S.site, aud="https://relay.example", m="PUT", p="/v1/packs/00/1?kind=D", h=DIGEST, iat=NOW,
        jti=Nonce(bytes(16)),
    ),
}  # fmt: skip
SIGNER = {Grant: PHONE, Prekey: R.key, Receipt: R.key}
KINDS = list(EXAMPLES)
WRONG: list[Any] = [
    None, True, False, 0, 7, -1, 1.5, 1e300, 2**31, 2**63, 2**64, 10**400, "", "x", "\x00", "A" * 43, "A" * 42 + "B",
    "é" * 500, [], [[]], [None], {}, {"v": 1}, ["x"], [[1, 2, 3, 4]],
]  # fmt: skip


def _key(kind: type[Message]) -> Any:
    return SIGNER.get(kind, S.key)


def _public(kind: type[Message]) -> bytes:
    return bytes(_key(kind).verify_key)


def test_every_message_is_here() -> None:
    assert {*EXAMPLES} == {*Message.__subclasses__()}
    assert len({kind.NAME for kind in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: type[Message]) -> None:
    compact = sign_message(EXAMPLES[kind], _key(kind))
    assert open_message(kind, compact, _public(kind)) == EXAMPLES[kind]
    assert peek(kind, compact) == EXAMPLES[kind]
    assert name_of(compact) == kind.NAME


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_parsed_before_the_signature_held(kind: type[Message]) -> None:
    compact = sign_message(EXAMPLES[kind], _key(kind))
    with refused(SignatureError):
        open_message(kind, compact, OTHER.site)
    for broken in (b"{}", b"", b"[", b"\xff"):
        with refused(SignatureError):
            open_message(kind, signed(kind, broken, OTHER.key), _public(kind))
        with refused(HeaderError):
            open_message(kind, signed(kind, broken, _key(kind)), _public(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_is_taken_for_another(kind: type[Message]) -> None:
    compact = sign_message(EXAMPLES[kind], _key(kind))
    for other in KINDS:
        if other is not kind:
            with refused(HeaderError if len(compact) <= other.CAP else SizeError):
                open_message(other, compact, _public(kind))
        forged = jws.sign(other.NAME, encode(EXAMPLES[kind]), _key(kind))
        if other is not kind and len(forged) <= other.CAP:
            with refused(HeaderError):
                open_message(other, forged, _public(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_or_an_unknown_field_is_refused(kind: type[Message]) -> None:
    for name in payload(EXAMPLES[kind]):
        with refused(HeaderError):
            decode(json.dumps(payload(EXAMPLES[kind], **{name: ...})).encode(), kind)
    for name in ("x", "V", "", "iat ", "parent"):
        with refused(HeaderError):
            decode(json.dumps(payload(EXAMPLES[kind], **{name: 1})).encode(), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_type_is_refused_and_never_read_as_the_right_one(kind: type[Message]) -> None:
    for name in payload(EXAMPLES[kind]):
        for value in WRONG:
            body = payload(EXAMPLES[kind], **{name: value})
            try:
                read = decode(json.dumps(body).encode(), kind)
            except VersionError:
                assert name == "v"
            except HeaderError:
                assert name != "v"
            else:
                assert payload(read) == body, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [0, 2, -1, 255, 2**70, "1", 1.0, True, None, [1], {}])
def test_another_version_is_named(kind: type[Message], version: Any) -> None:
    with refused(VersionError):
        decode(json.dumps(payload(EXAMPLES[kind], v=version)).encode(), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_version_may_look_different(kind: type[Message]) -> None:
    """`v` comes first in what we write, so a peer of version 2 is told so, whatever else it sends."""
    assert next(iter(payload(EXAMPLES[kind]))) == "v"
    with refused(VersionError):
        decode(b'{"v":2,"everything":{"is":["new"]}}', kind)
    with refused(HeaderError):
        decode(b'{"everything":{"is":["new"]},"v":2}', kind)
    with refused(HeaderError):
        decode(json.dumps(payload(EXAMPLES[kind], v=...)).encode(), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cap_is_in_bytes_of_the_whole_text(kind: type[Message]) -> None:
    body = encode(EXAMPLES[kind])
    head = len(jws.header(kind.NAME)) + 2 + 86
    room = (kind.CAP - head) // 4 * 3
    fits = signed(kind, body + b" " * (room - len(body)), _key(kind))
    assert kind.CAP - 4 < len(fits) <= kind.CAP
    assert open_message(kind, fits, _public(kind)) == EXAMPLES[kind]
    with refused(SizeError):
        open_message(kind, signed(kind, body + b" " * (room - len(body) + 3), _key(kind)), _public(kind))
    with refused(SizeError):
        peek(kind, "x" * (kind.CAP + 1))


def test_nobody_signs_over_the_cap() -> None:
    close = Close(v=1, tid=TID, offer=H_OFFER, state="DENIED", why="", iat=NOW)
    assert len(sign_message(close, S.key)) <= Close.CAP
    with pytest.raises(ValueError, match="release over its cap"):
        sign_message(
            Release(
                v=1, tid=TID, offer=H_OFFER, grant=H_GRANT, pk=VP, type="patient", r=R.site, kid=PAIR.kid,
                sealed=BlobKey(bytes(16384)), iat=NOW,
            ),
            S.key,
        )  # fmt: skip


RANGES: list[tuple[type[Message], str, list[Any], list[Any]]] = [
    (Offer, "ct", ["en-2026-1", "x", "x" * 32], ["", "X", "x" * 33, "a b", "é", "a\n", "\x00"]),
    (Offer, "why", ["transfer", "consult", "drill"], ["TREAT", "", "Transfer", None]),
    (Offer, "alt", [[], [S.site.text] * 4], [[S.site.text] * 5, [""], [1], S.site.text]),
    (Offer, "add", [0, 7 * 86400], [-1, 7 * 86400 + 1, 0.5, True]),
    (Offer, "iat", [NOW, NOW + 7199], [NOW + 7200, NOW + 7201, NOW - 79201, -1, 2**40 + 1]),
    (Offer, "exp", [NOW + 1, NOW + 86400], [NOW, NOW - 1, NOW + 86401, 0, 2**40 + 1]),
    (Offer, "kid", [b64(bytes(8))], [b64(bytes(7)), b64(bytes(9)), "AAAAAAAAAAA=", ""]),
    (Offer, "tid", [b64(bytes(16))], [b64(bytes(15)), b64(bytes(17)), bytes(16).hex(), ""]),
    (Grant, "d", ["approve", "deny"], ["APPROVE", "", "yes", True, None]),
    (Grant, "by", ["patient"], ["proxy", "staff", ""]),
    (Grant, "name", [""], ["x", " ", None]),
    (Grant, "rel", ["self"], ["", "parent", "friend"]),
    (Grant, "lang", ["en", "es", "es-MX"], ["", "EN", "eng", "en-us", "en_US", "en\n", "en-US-x"]),
    (Grant, "t", [0, 2**40], [-1, 2**40 + 1, 1.5]),
    (Prekey, "nbf", [0, 2**40], [-1, 2**40 + 1]),
    (Attest, "by", [["a", "b"], ["José M.", "dr@valley"]],
     [[], ["a"], ["a", "a"], ["a", "b", "c"], ["a", ""], ["a", "x" * 65], ["a", "b\n"], ["a", 1], "ab", None]),
    (Attest, "reason", ["x", "é" * 300], ["", "x" * 301, "a\nb", "\x00", "a\x7f", None]),
    (Override, "by", [["a"], ["x" * 64]], [[], ["a", "b"], [""], "a"]),
    (Override, "reason", ["x" * 300], ["", "x" * 301, "\t"]),
    (Override, "iat", [0, 2**40], [-1, 2**40 + 1]),
    (Release, "type", ["patient"], ["attest", "override", "", "voice", "PATIENT"]),
    (Release, "pk", [D32], [b64(bytes(31)), b64(bytes(33)), ""]),
    (Release, "sealed", ["", "AA"], ["AB", "A", "AA=="]),
    (Receipt, "state", ["PARTIAL"], ["COMPLETE", "OPENED", ""]),
    (Receipt, "proof", ["commit", "find", "store"], ["", "echo"]),
    (Receipt, "gaps", [[], [0], [2**31 - 1]], [[-1], [2**31], ["1"], [1.0], None]),
    (Close, "state", ["DENIED", "EXPIRED", "REVOKED", "DIVERTED", "DECLINED"], ["COMPLETE", "PARTIAL", ""]),
    (Close, "why", list(get_args(CloseWhy)), ["no-receipt", "Clock", None]),
    (Card, "name", ["x", "x" * 80], ["", "x" * 81]),
    (Card, "place", ["", "x" * 80], ["x" * 81]),
    (Card, "relay", ["https://r", "http://127.0.0.1:8080", "https://[::1]:8443"],
     ["", "r", "https://", "https://r/", "https://r/x", "ftp://r", "https://r\n", " https://r",
      "https://" + "r" * 200]),
    (Card, "page", ["", "https://h/p", "http://h"], ["h", "javascript:x", "https://h p", "https://" + "r" * 200]),
    (Card, "roles", [["send"], ["receive"], ["send", "receive"]], [[], ["relay"], ["send"] * 3, "send"]),
    (Request, "m", ["GET", "PUT", "POST", "DELETE"], ["get", "PATCH", "HEAD", ""]),
    (Request, "p", ["", "/" + "x" * 299], ["/" + "x" * 300]),
    (Request, "aud", ["", "x" * 200], ["x" * 201]),
    (Request, "jti", [b64(bytes(16))], [b64(bytes(15)), ""]),
    (Manifest, "i", [0, 2**31 - 1], [-1, 2**31, 0.5]),
    (Manifest, "end", [True, False], [0, 1, "true", None]),
    (Manifest, "total", [0, 2**31 - 1], [-1, 2**31]),
    (Manifest, "packs", [[], [["D", 0, 0, D32]], [["M", 2**31 - 1, 2**50, D32]]],
     [[[]], [["D", 0, 0]], [["D", 0, 0, D32, 0]], [["X", 0, 0, D32]], [["D", -1, 0, D32]],
      [["D", 2**31, 0, D32]], [["D", 0, 2**50 + 1, D32]], [["D", 0, 0, b64(bytes(31))]],
      [{"kind": "D"}], {}, None]),
    (Manifest, "series", [[], [[0, "1.2", 0, 0, True]], [[0, "." * 64, 0, 0, True]]],
     [[[0, "", 0, 0, True]], [[0, "1" * 65, 0, 0, True]], [[0, "1.2\n", 0, 0, True]], [[0, "1.2 ", 0, 0, True]],
      [[0, "1.2\x00", 0, 0, True]], [[0, "../1.2", 0, 0, True]], [[0, "1.2", -1, 0, True]], [[0, "1.2", 0, 0, 1]],
      [[0, "1.2", 0, 0]], [[0, "١.٢", 0, 0, True]]]),
    (Manifest, "items", [[], [[0, 0, "1", "1", "1", "raw", 0, 0, 0, D32]]],
     [[[0, 0, "1", "1", "1", "", 0, 0, 0, D32]], [[0, 0, "1", "1", "1", "x" * 17, 0, 0, 0, D32]],
      [[0, 0, "1", "../../etc", "1", "raw", 0, 0, 0, D32]], [[0, 0, "1", "1", "1", "raw", -1, 0, 0, D32]],
      [[0, 0, "1", "1", "1", "raw", 0, 2**50 + 1, 0, D32]], [[0, 0, "1", "1", "1", "raw", 0, 0, 0]]]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "good", "bad"), RANGES, ids=[f"{k.NAME}.{n}" for k, n, _, _ in RANGES]
)
def test_ranges(kind: type[Message], name: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        body = payload(EXAMPLES[kind], **{name: value})
        assert payload(decode(json.dumps(body).encode(), kind))[name] == value
    for value in bad:
        with refused(HeaderError):
            decode(json.dumps(payload(EXAMPLES[kind], **{name: value})).encode(), kind)


@pytest.mark.parametrize(
    ("by", "rel", "name", "good"),
    [
        ("patient", "self", "", True), ("patient", "self", "J", False), ("patient", "parent", "", False),
        ("proxy", "parent", "Jane", True), ("proxy", "other", "", True), ("proxy", "self", "Jane", False),
        ("proxy", "spouse", "x" * 80, True), ("proxy", "spouse", "x" * 81, False), ("proxy", "spouse", "🙂" * 80, True),
    ],
)  # fmt: skip
def test_who_decided_is_told_in_one_way_only(by: str, rel: str, name: str, good: bool) -> None:
    data = json.dumps(payload(GRANT, by=by, rel=rel, name=name)).encode()
    if good:
        assert decode(data, Grant).by == by
    else:
        with refused(HeaderError):
            decode(data, Grant)


def test_a_longest_grant_fits_its_cap() -> None:
    """A name of 80 characters is up to 320 bytes."""
    for character in ("🙂", '"', "\\"):
        grant = a_grant(by="proxy", rel="guardian", name=character * 80, lang="es-MX", t=2**40)
        assert open_message(Grant, sign_message(grant, PHONE), VP) == grant


def test_the_longest_reason_fits_its_cap() -> None:
    """300 characters of four bytes under two names of forty; names and a reason that are too long are not signed."""
    text = sign_message(an_attestation(by=["a" * 40, "b" * 40], reason="🙂" * 300), S.key)
    assert open_message(Attest, text, S.site).reason == "🙂" * 300
    with pytest.raises(ValueError, match="attest over its cap"):
        sign_message(an_attestation(by=["🙂" * 64, "é" * 64], reason="🙂" * 300), S.key)


def test_no_phone_s_key_stands_in_a_release_that_staff_decided() -> None:
    body = payload(EXAMPLES[Release])
    for kind in ("attest", "override"):
        assert decode(json.dumps({**body, "type": kind, "pk": D32}).encode(), Release).type == kind
        with refused(HeaderError):
            decode(json.dumps({**body, "type": kind}).encode(), Release)


def test_a_child_offer_has_both_of_its_fields_or_none() -> None:
    both = payload(OFFER, parent=H_OFFER.text, kind="divert")
    assert decode(json.dumps(both).encode(), Offer).kind == "divert"
    for changes in (
        {"parent": ...},
        {"kind": ...},
        {"kind": "copy"},
        {"parent": ""},
        {"parent": None, "kind": None},
    ):
        with refused(HeaderError):
            decode(json.dumps({k: v for k, v in {**both, **changes}.items() if v is not ...}).encode(), Offer)


def test_an_offer_ends_within_a_day_on_both_sides() -> None:
    for iat, exp in ((NOW, NOW), (NOW, NOW - 1), (NOW, NOW + 86401)):
        with pytest.raises(ValueError, match="exp"):
            an_offer(iat=iat, exp=exp)


# ---- JSON at its edges


def test_of_two_fields_of_one_name_the_last_counts_and_the_first_is_checked_too() -> None:
    """msgspec takes the last, as JSON.parse does, so both ends read a message in one way; each value is checked."""
    one, two = b64(bytes(32)), b64(fixed("two"))
    assert decode(f'{{"v":1,"of":"{one}","of":"{two}"}}'.encode(), Ack).of == fixed("two")
    for text, error in (
        (f'{{"v":2,"v":1,"of":"{one}"}}', VersionError),
        (f'{{"v":1,"v":2,"of":"{one}"}}', VersionError),
        (f'{{"v":1,"of":"short","of":"{one}"}}', HeaderError),
        (f'{{"v":1,"of":"{one}","of":7}}', HeaderError),
    ):
        with refused(error):
            decode(text.encode(), Ack)


OF = D32.encode()
NOT_JSON = [
    b"", b" ", b"null", b"true", b"1", b'"x"', b"[]", b"[1]", b"{", b"}", b"{}", b"\x00", b"\xff",
    b'{"v":1,"of":' + b"[" * 150_000, b'{"v":1,"of":' + b"[" * 9000 + b"]" * 9000 + b"}",
    b'{"v":1,"of":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"}", b"[" * 150_000, b'{"x":' * 100_000,
    b'{"v":1,"of":"%s"} {}' % OF, b'{"v":1,"of":"%s"},' % OF, b'{"v":1,"of":"%s",}' % OF,
    b'{"v":1,,"of":"%s"}' % OF, b'\xef\xbb\xbf{"v":1,"of":"%s"}' % OF, b"{'v':1,'of':'%s'}" % OF,
    b'{v:1,"of":"%s"}' % OF, b'{"v":NaN,"of":"%s"}' % OF, b'{"v":Infinity,"of":"%s"}' % OF,
    b'{"v":01,"of":"%s"}' % OF, b'{"v":+1,"of":"%s"}' % OF, b'{"v":1,"of":"%s\x00"}' % OF,
    b'{"v":1,"of":"%s\\u0000"}' % OF, b'{"v":1,"of":"\\ud800"}', b'{"v":1,"of":"\\udfff x"}',
    b'{"v":1,"of":"\xed\xa0\x80"}', b'{"v":1,"of":"\xff"}', b'{"v":1,"of":"\xc0\x80"}', b'{"v":1,"of":"\\x41"}',
    b'{"v":1,"of":"%s"/**/}' % OF, '{"v":1}'.encode("utf-16"), '{"v":1}'.encode("utf-32"),
]  # fmt: skip


@pytest.mark.parametrize("data", NOT_JSON, ids=range(len(NOT_JSON)))
def test_what_is_not_our_json(data: bytes) -> None:
    with refused(HeaderError):
        decode(data, Ack)


@pytest.mark.parametrize("digits", [20, 400, 5000, 300_000])
def test_a_huge_number_costs_nothing_and_is_refused(digits: int) -> None:
    number = b"9" * digits
    with refused(VersionError):
        decode(b'{"v":%s,"of":"%s"}' % (number, OF), Ack)
    for text in (number, b"-" + number, b"0." + number, b"1e" + number, b"1E-" + number):
        body = encode(GRANT).replace(b'"t":%d' % (NOW + 60), b'"t":' + text)
        with refused(HeaderError):
            decode(body, Grant)


def test_white_space_and_escapes_are_json_s_own() -> None:
    """A hash names the text as received, so nothing is gained by one spelling of the payload."""
    assert decode(b' {"\\u0076" : 1 ,\n"of":"%s"}\r\n' % OF, Ack) == Ack(v=1, of=Digest(bytes(32)))


def test_zero_has_a_sign_that_is_dropped() -> None:
    assert decode(encode(a_grant(t=0)).replace(b'"t":0', b'"t":-0'), Grant).t == 0


@pytest.mark.parametrize("name", ["María José", "王小明", "نورة", "e\u0301"])
def test_a_name_is_kept_as_it_was_signed(name: str) -> None:
    """No normalisation: the bytes are signed."""
    grant = a_grant(by="proxy", rel="other", name=name)
    assert open_message(Grant, sign_message(grant, PHONE), VP).name == name


@pytest.mark.parametrize(
    "name", ["a\x00b", "\u202eevil", "x\ny", "Jane\u200b", "\u2067Jane\u2069", "x" * 10_000]
)
def test_a_name_that_does_not_look_like_itself_is_refused(name: str) -> None:
    """What no honest page signs: S stores no such grant, and R opens nothing by one."""
    body = payload(a_grant(by="proxy", rel="other", name="Jane"), name=name)
    with refused(SizeError if len(name) > 80 else HeaderError):
        open_message(Grant, signed(Grant, body, PHONE), VP)


def test_ids_are_read_as_their_own_types() -> None:
    offer = decode(encode(OFFER), Offer)
    assert type(offer.s) is SiteId
    assert type(offer.sum) is Digest
    assert type(decode(encode(EXAMPLES[Release]), Release).pk) is PublicKey
    assert type(decode(encode(EXAMPLES[Prekey]), Prekey).pk) is BlobKey


# ---- names and silence


@pytest.mark.parametrize(
    "text", ["", ".", "a.b.c", jws.header("unknown") + ".e30.AA", "é", jws.header("offer")[:-1] + "."]
)
def test_a_text_that_is_none_of_ours_has_no_name(text: str) -> None:
    with refused(HeaderError):
        name_of(text)


def test_an_error_never_repeats_what_it_refused() -> None:
    """Not in its text, not in the traceback that a logger prints."""
    secret = "Jane-Doe-1.2.840.99"
    bodies = [
        payload(GRANT, rel=secret), payload(GRANT, name=secret), payload(GRANT, **{secret: 1}),
        payload(GRANT, t=secret), payload(GRANT, offer=secret), payload(GRANT, v=secret), payload(GRANT, d=[secret]),
        payload(GRANT, lang={secret: secret}),
    ]  # fmt: skip
    for body in bodies:
        compact = signed(Grant, body, PHONE)
        with pytest.raises(PeerError) as caught:
            open_message(Grant, compact, VP)
        shown = "".join(traceback.format_exception(caught.value))
        for hidden in (secret, "Jane", b64(json.dumps(body).encode())[:40]):
            assert hidden not in shown
        assert caught.value.args == ()


@pytest.mark.parametrize("kind", [*EXAMPLES, PackEntry, SeriesEntry, ItemEntry])
def test_the_page_shows_every_field(kind: type[Any]) -> None:
    assert_documented(kind)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_page_shows_every_cap(kind: type[Message]) -> None:
    text = (SPEC / "messages.md").read_text("utf-8")
    heading = next(line for line in text.splitlines() if line.startswith(f"### `{kind.NAME}`"))
    assert heading.endswith(f"at most {kind.CAP:,} bytes")
