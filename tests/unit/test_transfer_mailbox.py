from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.spec_schema import assert_documented
from tests.transfer_kit import CID, DIGEST, TID, VP, S, fixed, refused
from transfer.errors import HeaderError, SizeError, VersionError
from transfer.ids import BlobKey, RunId
from transfer.mailbox import (
    BODY_CAP,
    PHONE_SLOTS,
    SITE_SLOTS,
    SLOT_CAPS,
    Answer,
    Body,
    Decided,
    Hello,
    Point,
    Point32,
    Proof,
    Question,
    Refusal,
    Sealed,
    Start,
    Status,
    Stop,
    Tag64,
    Tombstone,
    read_body,
)
from transfer.messages import decode, encode

BOX = BlobKey(fixed("box", 40))
BODIES: dict[type[msgspec.Struct], msgspec.Struct] = {
    Hello: Hello(v=1, tid=TID, s=S.site, exp=5),
    Tombstone: Tombstone(v=1, ended="DENIED"),
    Start: Start(v=1, nP=RunId(bytes(16)), Ya=Point32(bytes(32)), vP=VP, gate=BlobKey(bytes(32))),
    Point: Point(v=1, Yb=Point32(bytes(32)), hO=DIGEST),
    Proof: Proof(v=1, Ta=Tag64(bytes(64))),
    Answer: Answer(v=1, Tb=Tag64(bytes(64)), box=BOX),
    Refusal: Refusal(v=1, error="wrong", left=4),
    Sealed: Sealed(v=1, box=BOX),
    Stop: Stop(v=1, stop=True),
    Status: Status(v=1, state="DENIED", at=5, refused="", decided=Decided(d="deny", at=5), code=""),
    Question: Question(
        offer="a.b.c", summary="{}", salt=BlobKey(bytes(16)), state="OFFERED", decided=None, now=7
    ),
}
KINDS = list(BODIES)
WRONG: list[Any] = [None, True, 7, -1, 1.5, "", "x", "é\x00", [], {}, [[]], {"v": 1}, 2**70, "A" * 21 + "B"]


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: type[msgspec.Struct]) -> None:
    assert decode(encode(BODIES[kind]), kind) == BODIES[kind]
    if issubclass(kind, Body):
        assert read_body(encode(BODIES[kind]), kind) == BODIES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_or_an_unknown_field_is_refused(kind: type[msgspec.Struct]) -> None:
    good = json.loads(encode(BODIES[kind]))
    for name in good:
        with refused(HeaderError):
            decode(json.dumps({k: v for k, v in good.items() if k != name}).encode(), kind)
    with refused(HeaderError):
        decode(json.dumps({**good, "x": 1}).encode(), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_type_is_refused_and_never_read_as_the_right_one(kind: type[msgspec.Struct]) -> None:
    good = json.loads(encode(BODIES[kind]))
    for name in good:
        for value in WRONG:
            data = json.dumps({**good, name: value}).encode()
            try:
                read = decode(data, kind)
            except VersionError:
                assert name == "v"
            except HeaderError:
                assert name != "v"
            else:
                assert json.loads(encode(read)) == {**good, name: value}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, Body)])
@pytest.mark.parametrize("version", [0, 2, -1, "1", 1.0, True, None, [1], 10**30])
def test_another_version_is_named(kind: type[Body], version: Any) -> None:
    body = {**json.loads(encode(BODIES[kind])), "v": version}
    with refused(VersionError):
        decode(json.dumps(body).encode(), kind)


def test_what_each_side_may_leave() -> None:
    assert set(PHONE_SLOTS) | set(SITE_SLOTS) == set(SLOT_CAPS)
    assert not set(PHONE_SLOTS) & set(SITE_SLOTS)
    assert all(SLOT_CAPS[slot] == 1 for slot in (1, 2, 3, 4))


def test_a_refusal_says_how_many_tries_are_left() -> None:
    for left in (-1, 101):
        with refused(HeaderError):
            decode(b'{"v":1,"error":"wrong","left":%d}' % left, Refusal)
    with refused(HeaderError):
        decode(b'{"v":1,"error":"expired","left":1}', Refusal)


def test_to_stop_is_true_or_nothing() -> None:
    for value in (b"false", b"1", b'"true"', b"null"):
        with refused(HeaderError):
            decode(b'{"v":1,"stop":' + value + b"}", Stop)


def test_no_body_is_read_over_its_cap() -> None:
    """The phone reads from a relay that it does not trust; the size is looked at before the JSON is."""
    text = encode(BODIES[Hello])
    assert read_body(text + b" " * (BODY_CAP - len(text)), Hello) == BODIES[Hello]
    for data in (text + b" " * (BODY_CAP - len(text) + 1), b"[" * (BODY_CAP + 1), bytes(2**22)):
        with refused(SizeError):
            read_body(data, Hello)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"[]", b"1", b'"x"', b"{}", b"\xff", b"\x00", b"{" * 5000, b"[" * 16000,
        b'{"ended":' * 1500, b'{"v":1,"ended":NaN}', b'{"v":1,"ended":"\\ud800"}', b'{"v":1,"ended":"\xed\xa0\x80"}',
        b'{"v":1,"ended":"\n"}',
        b'{"v":1,"ended":"x"}{}', b'{"v":1,"ended":"x",}', b"{'v':1}", b'\xef\xbb\xbf{"v":1,"ended":"x"}', bytes(CID),
        '{"v":1,"ended":"x"}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_no_json_object(data: bytes) -> None:
    with refused(HeaderError):
        read_body(data, Tombstone)


@pytest.mark.parametrize("kind", [*KINDS, Decided])
def test_the_page_shows_every_field(kind: type[msgspec.Struct]) -> None:
    assert_documented(kind)
