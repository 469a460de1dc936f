"""`transfer.door`: an honest run, the PIN, steps out of order, and bodies of another form."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import msgspec
import pytest

from tests.door_kit import YES, make_m2, make_m4
from tests.transfer_kit import (
    NOW,
    OFFER,
    OFFER_TEXT,
    PIN,
    TID,
    Doors,
    Q,
    S,
    a_question,
    doors,
    fixed,
    hello,
    refused,
    stream,
)
from transfer import door, jws
from transfer.channel import Channel
from transfer.door import EndedError, PhoneDoor, SiteDoor, WrongPinError, read_wish, receipt_code
from transfer.encoding import b64
from transfer.errors import (
    HeaderError,
    LockedError,
    SignatureError,
    SizeError,
    StateError,
    TransferError,
    VersionError,
)
from transfer.ids import BlobKey, RunId
from transfer.mailbox import BODY_CAP, Answer, Decided, Refusal, Start, Status, Stop, Tag64, Tombstone
from transfer.messages import Grant, encode


def test_an_honest_run() -> None:
    ends = doors()
    asked = ends.phone.answer(make_m4(ends))
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
    m3 = ends.phone.point(make_m2(ends))
    assert ends.site.prove(m3) is False
    with refused(StateError):
        ends.site.prove(m3)
    with refused(StateError):
        ends.site.answer(a_question())
    assert not hasattr(ends.site, "channel")


def test_the_phone_hears_how_many_tries_are_left() -> None:
    ends = doors(pin="000000")
    ends.phone.point(make_m2(ends))
    with pytest.raises(WrongPinError) as caught:
        ends.phone.answer(encode(Refusal(v=1, error="wrong", left=3)))
    assert caught.value.left == 3
    with refused(StateError):
        ends.phone.decide(**YES)


def test_the_phone_hears_that_it_is_locked() -> None:
    ends = doors(pin="000000")
    ends.phone.point(make_m2(ends))
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
    m2 = make_m2(ends)
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
    m3 = ends.phone.point(make_m2(ends))
    assert ends.site.prove(m3)
    for again in (m3, msgspec.structs.replace(m3, Ta=Tag64(bytes(64)))):
        with refused(StateError):
            ends.site.prove(again)
    ends.phone.answer(encode(ends.site.answer(a_question())))


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
        m4 = json.loads(make_m4(ends))
        twin = _site_channel_from_zero(ends)
        m4["box"] = b64(twin.seal(plain))
        with refused(error):
            ends.phone.answer(json.dumps(m4).encode())


def _site_channel_from_zero(ends: Doors) -> Channel:
    return Channel(msgspec.structs.replace(ends.site.channel.state, sent=0))


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
