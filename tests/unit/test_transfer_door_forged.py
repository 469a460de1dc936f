"""`transfer.door`: every field of every message changed on its way, a recorded run, and keys of somebody else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from tests.door_kit import YES, make_m2, make_m4
from tests.transfer_kit import (
    OTHER,
    PIN,
    TID,
    Q,
    a_question,
    doors,
    fixed,
    flip,
    hello,
    joined,
    refused,
    stream,
)
from transfer.door import PhoneDoor, gate
from transfer.encoding import b64, unb64
from transfer.errors import HeaderError, SignatureError, StateError
from transfer.ids import BlobKey, PublicKey, SiteId, Tid
from transfer.mailbox import Point32, Tag64
from transfer.messages import encode

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
]


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
    make_m2(ends)
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
    m3 = ends.phone.point(make_m2(ends))
    assert ends.site.prove(msgspec.structs.replace(m3, Ta=Tag64(flip(m3.Ta, bit)))) is False


@pytest.mark.parametrize("field", ["Tb", "box"])
@pytest.mark.parametrize("bit", [0, 99, 511])
def test_a_changed_m4_is_not_shown(field: str, bit: int) -> None:
    ends = doors()
    m4 = msgspec.json.decode(make_m4(ends), type=dict[str, Any])
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
    m2 = make_m2(ends)
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
