from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from tests.transfer_kit import (
    HOURS,
    NOW,
    OFFER,
    OFFER_TEXT,
    OTHER,
    PIN,
    SALT,
    SUMMARY,
    TID,
    Doors,
    Q,
    S,
    a_question,
    an_offer,
    doors,
    fixed,
    flip,
    hello,
    joined,
    refused,
    stream,
)
from transfer import door, jws
from transfer.channel import Channel
from transfer.door import EndedError, PhoneDoor, SiteDoor, WrongPinError, gate, read_wish, receipt_code
from transfer.encoding import b64, unb64
from transfer.errors import (
    ExpiredError,
    HashError,
    HeaderError,
    LockedError,
    SignatureError,
    SizeError,
    StateError,
    TransferError,
    VersionError,
)
from transfer.ids import BlobKey, Digest, PublicKey, RunId, SiteId, Tid
from transfer.mailbox import (
    BODY_CAP,
    Answer,
    Decided,
    Point32,
    Question,
    Refusal,
    Start,
    Status,
    Stop,
    Tag64,
    Tombstone,
)
from transfer.messages import Grant, Offer, encode, sign_message
from transfer.summary import Summary, make_summary, summary_hash

YES: dict[str, Any] = {"d": "approve", "by": "patient", "name": "", "rel": "self", "lang": "en", "t": NOW}
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
]


def _m2(ends: Doors) -> bytes:
    return encode(ends.site.start(ends.phone.hello(hello())))


def _m4(ends: Doors, question: Question | None = None) -> bytes:
    assert ends.site.prove(ends.phone.point(_m2(ends)))
    return encode(ends.site.answer(question or a_question()))


def test_an_honest_run() -> None:
    ends = doors()
    asked = ends.phone.answer(_m4(ends))
    assert asked.offer == OFFER
    assert asked.summary.from_ == "Valley Hospital"
    assert (asked.state, asked.decided, asked.now) == ("OFFERED", None, NOW + 30)
    assert asked.check == ends.site.check
    assert (ends.site.run, ends.site.vp) == (ends.phone.run, ends.phone.vp)

    m5 = ends.phone.decide(**YES)
    wish = read_wish(ends.site.channel.open(m5.box), vp=ends.site.vp, tid=TID, offer=OFFER_TEXT)
    assert isinstance(wish, tuple)
    grant, text = wish
    assert grant.d == "approve"
    assert grant.offer == jws.digest(OFFER_TEXT)
    assert jws.verify("grant", text, ends.phone.vp, Grant.CAP)

    status = Status(
        v=1, state="RELEASED", at=NOW + 61, refused="", decided=Decided(d="approve", at=NOW + 61), code=""
    )
    box = BlobKey(ends.site.channel.seal(encode(status)))
    assert ends.phone.status(b'{"v":1,"box":"%s"}' % box.text.encode()) == status

    stop = read_wish(
        ends.site.channel.open(ends.phone.stop().box), vp=ends.site.vp, tid=TID, offer=OFFER_TEXT
    )
    assert stop == Stop(v=1, stop=True)


def test_the_voice_door_has_no_q_and_no_gate() -> None:
    phone = PhoneDoor(b"", "27182818", stream("p"))
    site = SiteDoor(q=b"", code="27182818", tid=TID, site=S.site, offer=OFFER_TEXT, random=stream("s"))
    m1 = phone.hello(hello())
    assert m1.gate == b""
    assert site.prove(phone.point(encode(site.start(m1))))


# ---- the PIN


@pytest.mark.parametrize("pin", ["271829", "000000", "27182", "2718280"])
def test_a_wrong_pin_proves_nothing_and_the_run_is_over(pin: str) -> None:
    ends = doors(pin=pin)
    m3 = ends.phone.point(_m2(ends))
    assert ends.site.prove(m3) is False
    with refused(StateError):
        ends.site.prove(m3)
    with refused(StateError):
        ends.site.answer(a_question())
    assert not hasattr(ends.site, "channel")


def test_the_phone_hears_how_many_tries_are_left() -> None:
    ends = doors(pin="000000")
    ends.phone.point(_m2(ends))
    with pytest.raises(WrongPinError) as caught:
        ends.phone.answer(encode(Refusal(v=1, error="wrong", left=3)))
    assert caught.value.left == 3
    with refused(StateError):
        ends.phone.decide(**YES)


def test_the_phone_hears_that_it_is_locked() -> None:
    ends = doors(pin="000000")
    ends.phone.point(_m2(ends))
    with refused(LockedError):
        ends.phone.answer(encode(Refusal(v=1, error="locked", left=0)))
    with refused(StateError):
        ends.phone.stop()


@pytest.mark.parametrize(
    "pin", ["27182a", "27 182", "２７１８２８", "٢٧١٨٢٨", "\ud800", "271828\n", "-27182"]
)
def test_a_pin_is_ascii_digits(pin: str) -> None:
    with refused(HeaderError):
        doors(pin=pin)


def test_another_qr_is_stopped_at_the_gate() -> None:
    phone = doors(q=fixed("another q", 16)).phone
    with refused(SignatureError):
        doors().site.start(phone.hello(hello()))


# ---- out of order

PHONE_CALLS: dict[str, Callable[[PhoneDoor], object]] = {
    "hello": lambda phone: phone.hello(hello()),
    "point": lambda phone: phone.point(b"{}"),
    "answer": lambda phone: phone.answer(b"{}"),
    "decide": lambda phone: phone.decide(**YES),
    "stop": lambda phone: phone.stop(),
    "status": lambda phone: phone.status(b"{}"),
}


def _phone_at(state: str) -> PhoneDoor:
    ends = doors()
    if state == "NEW":
        return ends.phone
    m2 = _m2(ends)
    if state == "STARTED":
        return ends.phone
    m3 = ends.phone.point(m2)
    if state == "PROVING":
        return ends.phone
    assert ends.site.prove(m3)
    if state == "DEAD":
        with pytest.raises(TransferError):
            ends.phone.answer(b"{}")
        return ends.phone
    ends.phone.answer(encode(ends.site.answer(a_question())))
    if state == "DECIDED":
        ends.phone.decide(**YES)
    return ends.phone


@pytest.mark.parametrize("state", ["NEW", "STARTED", "PROVING", "ASKED", "DECIDED", "DEAD"])
@pytest.mark.parametrize("call", PHONE_CALLS)
def test_the_phone_takes_no_step_out_of_order(state: str, call: str) -> None:
    phone = _phone_at(state)
    assert phone.state == state
    if (state, call) in door.PHONE:
        return
    with refused(StateError):
        PHONE_CALLS[call](phone)
    assert phone.state == state


@pytest.mark.parametrize("state", ["NEW", "POINTED", "PROVED", "OPEN", "DEAD"])
@pytest.mark.parametrize("call", ["start", "prove", "answer"])
def test_the_site_takes_no_step_out_of_order(state: str, call: str) -> None:
    ends = doors()
    m1 = ends.phone.hello(hello())
    m2 = ends.site.start(m1)
    m3 = ends.phone.point(encode(m2))
    site = doors().site
    if state != "NEW":
        site.start(m1)
    if state in ("PROVED", "OPEN"):
        assert site.prove(m3)
    if state == "OPEN":
        site.answer(a_question())
    if state == "DEAD":
        site.prove(msgspec.structs.replace(m3, Ta=Tag64(bytes(64))))
    assert site.state == state
    if (state, call) in door.SITE:
        return
    calls: dict[str, Callable[[], object]] = {
        "start": lambda: site.start(m1),
        "prove": lambda: site.prove(m3),
        "answer": lambda: site.answer(a_question()),
    }
    with refused(StateError):
        calls[call]()
    assert site.state == state


def test_a_second_m3_neither_helps_nor_harms() -> None:
    """One comparison for one run: a late wrong one must not end a run that was proved."""
    ends = doors()
    m3 = ends.phone.point(_m2(ends))
    assert ends.site.prove(m3)
    for again in (m3, msgspec.structs.replace(m3, Ta=Tag64(bytes(64)))):
        with refused(StateError):
            ends.site.prove(again)
    ends.phone.answer(encode(ends.site.answer(a_question())))


# ---- every field of every message


@pytest.mark.parametrize("field", ["nP", "Ya", "vP", "gate"])
@pytest.mark.parametrize("bit", [0, 7, 60, 127, 255])
def test_m1_stands_whole_behind_the_gate(field: str, bit: int) -> None:
    ends = doors()
    m1 = ends.phone.hello(hello())
    value = getattr(m1, field)
    changed = msgspec.structs.replace(m1, **{field: type(value)(flip(value, bit))})
    with refused(SignatureError):
        ends.site.start(changed)
    with refused(StateError):
        ends.site.start(m1)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_gate_of_another_size(size: int) -> None:
    ends = doors()
    m1 = ends.phone.hello(hello())
    with refused(SignatureError):
        ends.site.start(msgspec.structs.replace(m1, gate=BlobKey((bytes(m1.gate) * 3)[:size])))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_point_from_a_phone_that_holds_q(point: bytes) -> None:
    ends = doors()
    m1 = ends.phone.hello(hello())
    ya = Point32(point)
    forged = msgspec.structs.replace(m1, Ya=ya, gate=BlobKey(gate(Q, TID, m1.nP, ya, m1.vP)))
    with refused(HeaderError):
        ends.site.start(forged)
    assert ends.site.state == "DEAD"


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_point_from_the_relay(point: bytes) -> None:
    ends = doors()
    _m2(ends)
    with refused(HeaderError):
        ends.phone.point(b'{"v":1,"Yb":"%s","hO":"%s"}' % (b64(point).encode(), b64(bytes(32)).encode()))
    assert ends.phone.state == "DEAD"


@pytest.mark.parametrize(("field", "other"), [("tid", Tid(bytes(16))), ("s", OTHER.site)])
def test_a_swapped_m0_ends_before_a_question(field: str, other: Tid | SiteId) -> None:
    """Another tid fails at the gate; another site gives another generator, and costs a try."""
    ends = doors()
    m1 = ends.phone.hello(hello(**{field: other}))
    if field == "tid":
        with refused(SignatureError):
            ends.site.start(m1)
    else:
        assert ends.site.prove(ends.phone.point(encode(ends.site.start(m1)))) is False


@pytest.mark.parametrize("field", ["Yb", "hO"])
@pytest.mark.parametrize("bit", [0, 100, 248, 255])
def test_a_changed_m2_proves_nothing(field: str, bit: int) -> None:
    """Bit 248 is the top bit of Yb, which X25519 ignores and the transcript does not."""
    ends = doors()
    m2 = ends.site.start(ends.phone.hello(hello()))
    value = getattr(m2, field)
    changed = msgspec.structs.replace(m2, **{field: type(value)(flip(value, bit))})
    assert ends.site.prove(ends.phone.point(encode(changed))) is False


@pytest.mark.parametrize("bit", range(0, 512, 37))
def test_a_changed_m3_proves_nothing(bit: int) -> None:
    ends = doors()
    m3 = ends.phone.point(_m2(ends))
    assert ends.site.prove(msgspec.structs.replace(m3, Ta=Tag64(flip(m3.Ta, bit)))) is False


@pytest.mark.parametrize("field", ["Tb", "box"])
@pytest.mark.parametrize("bit", [0, 99, 511])
def test_a_changed_m4_is_not_shown(field: str, bit: int) -> None:
    ends = doors()
    m4 = msgspec.json.decode(_m4(ends), type=dict[str, Any])
    raw = bytearray(unb64(m4[field]))
    with refused(SignatureError):
        ends.phone.answer(json.dumps({**m4, field: b64(flip(bytes(raw), bit))}).encode())
    with refused(StateError):
        ends.phone.decide(**YES)


@pytest.mark.parametrize("bit", [0, 50, 300])
def test_a_changed_m5_decides_nothing(bit: int) -> None:
    ends = joined()
    m5 = ends.phone.decide(**YES)
    with refused(SignatureError):
        ends.site.channel.open(flip(m5.box, bit))


def test_a_changed_m6_is_not_believed() -> None:
    ends = joined()
    ends.phone.decide(**YES)
    box = ends.site.channel.seal(b"{}")
    with refused(SignatureError):
        ends.phone.status(b'{"v":1,"box":"%s"}' % b64(flip(box, 9)).encode())
    assert ends.phone.state == "DEAD"


# ---- replay and substitution


def test_an_old_m1_and_m3_prove_nothing_in_a_new_run() -> None:
    """S has a fresh point each time, so a whole recorded run fits no second one."""
    ends = doors()
    m1 = ends.phone.hello(hello())
    m3 = ends.phone.point(encode(ends.site.start(m1)))
    assert ends.site.prove(m3)
    again = doors("after a restart").site
    again.start(m1)
    assert again.prove(m3) is False


def test_an_old_m2_and_m4_are_not_believed_in_a_new_run() -> None:
    ends = doors()
    m2 = _m2(ends)
    m3 = ends.phone.point(m2)
    assert ends.site.prove(m3)
    m4 = encode(ends.site.answer(a_question()))
    fresh = PhoneDoor(Q, PIN, stream("another phone"))
    fresh.hello(hello())
    fresh.point(m2)
    with refused(SignatureError):
        fresh.answer(m4)


def test_a_substituted_phone_key_proves_nothing() -> None:
    """Whoever has the QR's photo can pass the gate with a key of theirs; the person's own proof then fails."""
    ends = doors()
    m1 = ends.phone.hello(hello())
    thief = PublicKey(SigningKey(fixed("thief")).verify_key.encode())
    forged = msgspec.structs.replace(m1, vP=thief, gate=BlobKey(gate(Q, TID, m1.nP, m1.Ya, thief)))
    assert ends.site.prove(ends.phone.point(encode(ends.site.start(forged)))) is False


def test_two_runs_share_nothing() -> None:
    one, two = joined("one"), joined("two")
    assert one.phone.run != two.phone.run
    assert one.phone.vp != two.phone.vp
    with refused(SignatureError):
        two.site.channel.open(one.phone.decide(**YES).box)


# ---- what S asks


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"offer": sign_message(an_offer(iat=NOW + 1), S.key)}, HashError),
        ({"offer": OFFER_TEXT + "A"}, HashError),
        ({"offer": ""}, HashError),
        ({"offer": "é"}, HeaderError),
        ({"summary": SUMMARY.replace("Valley", "Volley")}, HashError),
        ({"summary": ""}, HashError),
        ({"salt": BlobKey(flip(SALT))}, HashError),
        ({"salt": BlobKey(b"")}, HashError),
        ({"summary": "x" * 4097}, SizeError),
        ({"summary": "é" * 2049}, SizeError),
        ({"now": OFFER.exp}, ExpiredError),
        ({"now": OFFER.exp + 1}, ExpiredError),
    ],
)
def test_a_question_that_does_not_fit_the_run(changes: dict[str, Any], error: type[TransferError]) -> None:
    ends = doors()
    m4 = _m4(ends, a_question(**changes))
    with refused(error):
        ends.phone.answer(m4)
    with refused(StateError):
        ends.phone.decide(**YES)


def test_the_last_second_still_counts() -> None:
    ends = doors()
    assert ends.phone.answer(_m4(ends, a_question(now=OFFER.exp - 1))).now == OFFER.exp - 1


@pytest.mark.parametrize("state", ["RELEASED", "COMPLETE", "DENIED", "EXPIRED"])
def test_after_the_end_there_is_a_page_and_no_clock(state: str) -> None:
    ends = doors()
    decided = Decided(d="approve", at=NOW + 60)
    asked = ends.phone.answer(_m4(ends, a_question(state=state, decided=decided, now=OFFER.exp + 5 * HOURS)))
    assert (asked.state, asked.decided) == (state, decided)
    stop = read_wish(
        ends.site.channel.open(ends.phone.stop().box), vp=ends.site.vp, tid=TID, offer=OFFER_TEXT
    )
    assert isinstance(stop, Stop)


def _dishonest(offer: str | Offer, **question: Any) -> tuple[PhoneDoor, bytes]:
    """A run in which S itself speaks of something else: its m2 and m4 agree with each other."""
    text = offer if isinstance(offer, str) else sign_message(offer, S.key)
    ends = doors(offer=text)
    return ends.phone, _m4(ends, a_question(offer=text, **question))


@pytest.mark.parametrize(
    ("offer", "error"),
    [
        (an_offer(tid=Tid(bytes(16))), HashError),
        (an_offer(s=OTHER.site), HashError),
        (an_offer(sum=Digest(bytes(32))), HashError),
        ("e30.e30.e30", HeaderError),
        (jws.sign("offer", b"{}", S.key), HeaderError),
        (jws.sign("offer", b'{"v":2}', S.key), VersionError),
        (jws.sign("offer", b" " * 3200, S.key), SizeError),
        (jws.sign("grant", encode(OFFER), S.key), HeaderError),
    ],
)
def test_an_offer_that_is_not_the_mailbox_s(offer: str | Offer, error: type[TransferError]) -> None:
    phone, m4 = _dishonest(offer)
    with refused(error):
        phone.answer(m4)
    assert phone.state == "DEAD"


@pytest.mark.parametrize(
    ("summary", "error"),
    [
        ("{}", HeaderError),
        ("[]", HeaderError),
        ("x", HeaderError),
        (" " * 2049, SizeError),
        ("\x00", HeaderError),
    ],
)
def test_words_that_nobody_can_read(summary: str, error: type[TransferError]) -> None:
    phone, m4 = _dishonest(an_offer(sum=summary_hash(SALT, summary)), summary=summary)
    with refused(error):
        phone.answer(m4)


def test_m4_may_be_as_long_as_the_protocol_allows() -> None:
    summary = make_summary(
        Summary(
            person="\U0001f3e5" * 40, from_="é" * 120, to="é" * 120, what="é" * 120, why="transfer",
            until=NOW, alt=["é" * 120] * 3, add=0, call='"' * 80, declined=None,
        )
    )  # fmt: skip
    assert len(summary.encode()) > 1800
    phone, m4 = _dishonest(an_offer(sum=summary_hash(SALT, summary)), summary=summary)
    assert len(m4) <= BODY_CAP
    assert phone.answer(m4).summary.call == '"' * 80


# ---- form


def _at(phone_state: str) -> tuple[PhoneDoor, Callable[[bytes], object]]:
    phone = _phone_at(phone_state)
    return phone, {
        "NEW": phone.hello, "STARTED": phone.point, "PROVING": phone.answer, "DECIDED": phone.status
    }[phone_state]  # fmt: skip


@pytest.mark.parametrize("state", ["NEW", "STARTED", "PROVING", "DECIDED"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", HeaderError),
        (b"null", HeaderError),
        (b"{}", HeaderError),
        (b"\xff\xfe", HeaderError),
        (b'{"v":1}', HeaderError),
        (b'{"v":1,"x":2}', HeaderError),
        (b'{"v":2}', VersionError),
        (b'{"v":2,"something":"new"}', VersionError),
        (b"[" * BODY_CAP, HeaderError),
        (b" " * (BODY_CAP + 1), SizeError),
        (b'{"v":1,"box":"' + b"A" * BODY_CAP + b'"}', SizeError),
    ],
)
def test_a_body_of_another_form_ends_the_run(state: str, body: bytes, error: type[TransferError]) -> None:
    phone, take = _at(state)
    with refused(error):
        take(body)
    assert phone.state == "DEAD"
    for call in PHONE_CALLS.values():
        with refused(StateError):
            call(phone)


def test_a_tombstone_has_a_page_of_its_own() -> None:
    phone = doors().phone
    with pytest.raises(EndedError) as caught:
        phone.hello(encode(Tombstone(v=1, ended="DENIED")))
    assert caught.value.state == "DENIED"
    assert phone.state == "DEAD"


def test_a_code_that_is_over_begins_no_run() -> None:
    phone = PhoneDoor(b"", "27182818", bytes)
    with pytest.raises(EndedError) as why:
        phone.hello(hello(exp=0))
    assert (why.value.state, phone.state) == ("EXPIRED", "DEAD")


def test_a_box_that_holds_no_question() -> None:
    for plain, error in ((b"", HeaderError), (b"{}", HeaderError), (b"\xff", HeaderError)):
        ends = doors()
        m4 = json.loads(_m4(ends))
        twin = _site_channel_from_zero(ends)
        m4["box"] = b64(twin.seal(plain))
        with refused(error):
            ends.phone.answer(json.dumps(m4).encode())


def _site_channel_from_zero(ends: Doors) -> Channel:
    return Channel(msgspec.structs.replace(ends.site.channel.state, sent=0))


# ---- the wish


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "J. Doe"}, {"rel": "parent"}, {"by": "proxy"}, {"by": "proxy", "rel": "parent", "name": "x" * 81},
        {"d": "maybe"}, {"lang": "english"}, {"lang": ""}, {"t": -1}, {"rel": ""},
        {"by": "proxy", "rel": "parent", "name": "\ud800"}, {"by": "proxy", "rel": "parent", "name": "\u202eeoD"},
    ],
)  # fmt: skip
def test_the_phone_signs_no_grant_that_everybody_would_refuse(changes: dict[str, Any]) -> None:
    """Nothing was sent, so the person may correct the form and go on."""
    ends = joined()
    with refused(HeaderError):
        ends.phone.decide(**{**YES, **changes})
    m5 = ends.phone.decide(**YES)
    assert ends.site.channel.open(m5.box)


@pytest.mark.parametrize("name", ["", "x" * 80, "María José 王小明 🙂", "נועה לוי"])
def test_a_proxy_may_have_any_name(name: str) -> None:
    ends = joined()
    m5 = ends.phone.decide(**{**YES, "by": "proxy", "rel": "guardian", "name": name})
    wish = read_wish(ends.site.channel.open(m5.box), vp=ends.site.vp, tid=TID, offer=OFFER_TEXT)
    assert isinstance(wish, tuple)
    assert wish[0].name == name


def _grant(key: SigningKey, **changes: Any) -> bytes:
    fields: dict[str, Any] = {"v": 1, "tid": TID, "offer": jws.digest(OFFER_TEXT), **YES}
    return sign_message(Grant(**{**fields, **changes}), key).encode()


def test_a_wish_is_for_this_run_and_this_offer() -> None:
    key = SigningKey(fixed("run"))
    vp = PublicKey(key.verify_key.encode())

    def read(plain: bytes) -> object:
        return read_wish(plain, vp=vp, tid=TID, offer=OFFER_TEXT)

    assert isinstance(read(_grant(key)), tuple)
    for plain, error in (
        (_grant(key, tid=Tid(bytes(16))), HashError),
        (_grant(key, offer=Digest(bytes(32))), HashError),
        (_grant(SigningKey(fixed("other"))), SignatureError),
        (_grant(key)[:-1], HeaderError),
        (b"x" * 2049, SizeError),
        (b"", HeaderError),
        (b"\xff\xfe", HeaderError),
        (b"{}", HeaderError),
        (b'{"v":1,"stop":false}', HeaderError),
        (b'{"v":2,"stop":true}', VersionError),
        (b'{"v":1,"stop":true,"x":1}', HeaderError),
        (b' {"v":1,"stop":true}', HeaderError),
    ):
        with refused(error):
            read(plain)


def test_a_denied_grant_is_read_as_denied() -> None:
    ends = joined()
    wish = read_wish(
        ends.site.channel.open(ends.phone.decide(**{**YES, "d": "deny"}).box),
        vp=ends.site.vp, tid=TID, offer=OFFER_TEXT,
    )  # fmt: skip
    assert isinstance(wish, tuple)
    assert wish[0].d == "deny"


def test_the_receipt_code_is_short_and_easy_to_read_aloud() -> None:
    assert receipt_code("a.b.c") == receipt_code("a.b.c")
    codes = {receipt_code(f"receipt {n}") for n in range(300)}
    assert len(codes) == 300
    for code in codes:
        assert len(code) == 9
        assert code[4] == "-"
        assert set(code) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ-")


def test_no_machine_is_reused_by_a_copy_of_its_random() -> None:
    """The random source is asked once for each secret; two doors of one source differ."""
    source = stream("one source")
    first, second = PhoneDoor(Q, PIN, source), PhoneDoor(Q, PIN, source)
    assert first.run != second.run
    assert first.vp != second.vp
    assert copy.copy(first.run) == RunId(bytes(first.run))


def test_types_of_the_wire() -> None:
    m1 = doors().phone.hello(hello())
    assert isinstance(m1, Start)
    assert len(encode(m1)) < 300
    assert isinstance(doors().site, SiteDoor)
    assert Answer.__struct_fields__ == ("v", "Tb", "box")
