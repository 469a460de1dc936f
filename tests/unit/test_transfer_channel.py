from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.transfer_kit import fixed, flip, refused
from transfer.channel import Channel, ChannelState, check_code
from transfer.encoding import hkdf
from transfer.errors import SignatureError, SizeError
from transfer.ids import BlobKey
from transfer.mailbox import BODY_CAP, Answer, Sealed, Tag64
from transfer.messages import encode

ISK, SID = fixed("isk", 64), fixed("sid")


def _pair() -> tuple[Channel, Channel]:
    return Channel.derive(ISK, SID, "p2s"), Channel.derive(ISK, SID, "s2p")


def test_both_ways_in_order() -> None:
    phone, site = _pair()
    for n in range(5):
        assert site.open(phone.seal(b"ask %d" % n)) == b"ask %d" % n
        assert phone.open(site.seal(b"")) == b""
    assert phone.state.sent == phone.state.received == site.state.sent == site.state.received == 5


def test_the_box_is_the_one_of_the_text() -> None:
    """AES-256-GCM, a 96-bit counter from 0, the direction in key and AAD (protocol s. 3)."""
    phone, _ = _pair()
    first, second = phone.seal(b"one"), phone.seal(b"two")
    key = AESGCM(hkdf(ISK, SID, b"tt1/ch/p2s"))
    assert key.decrypt(bytes(12), first, b"tt1/ch/p2s") == b"one"
    assert key.decrypt(bytes(11) + b"\x01", second, b"tt1/ch/p2s") == b"two"


def test_a_gap_ends_the_run() -> None:
    phone, site = _pair()
    phone.seal(b"lost")
    with refused(SignatureError):
        site.open(phone.seal(b"next"))


def test_a_repeat_ends_the_run() -> None:
    phone, site = _pair()
    box = phone.seal(b"once")
    site.open(box)
    with refused(SignatureError):
        site.open(box)
    with refused(SignatureError):
        site.open(phone.seal(b"what was right a moment ago"))


def test_another_order_ends_the_run() -> None:
    phone, site = _pair()
    first, second = phone.seal(b"1"), phone.seal(b"2")
    with refused(SignatureError):
        site.open(second)
    with refused(SignatureError):
        site.open(first)


def test_every_bit_of_a_box_counts_and_then_nothing_is_read_any_more() -> None:
    phone, _ = _pair()
    box = phone.seal(b"yes")
    for bit in range(8 * len(box)):
        _, site = _pair()
        with refused(SignatureError):
            site.open(flip(box, bit))
        with refused(SignatureError):
            site.open(box)
        assert site.state.received == 0


@pytest.mark.parametrize("box", [b"", bytes(15), bytes(16), bytes(17)])
def test_short_boxes(box: bytes) -> None:
    _, site = _pair()
    with refused(SignatureError):
        site.open(box)


def test_a_box_does_not_come_back_to_its_sender() -> None:
    phone, site = _pair()
    box = phone.seal(b"mine")
    with refused(SignatureError):
        phone.open(box)
    assert site.open(box) == b"mine"


def test_another_run_has_other_keys() -> None:
    phone, _ = _pair()
    box = phone.seal(b"x")
    for isk, sid in ((flip(ISK), SID), (ISK, flip(SID))):
        with refused(SignatureError):
            Channel.derive(isk, sid, "s2p").open(box)


def test_a_stored_state_goes_on_where_it_stopped() -> None:
    """No counter is ever used for two texts, and no box is read twice, over a restart."""
    phone, site = _pair()
    old = phone.seal(b"before")
    site.open(old)
    answer = site.seal(b"answer")
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(site.state), type=ChannelState)
    assert stored == site.state
    again = Channel(stored)
    assert again.open(phone.seal(b"after")) == b"after"
    assert phone.open(answer) == b"answer"
    assert phone.open(again.seal(b"second")) == b"second"
    with refused(SignatureError):
        Channel(stored).open(old)


def test_the_state_shows_no_key() -> None:
    phone, _ = _pair()
    shown = repr(phone.state)
    assert shown == "ChannelState(p2s, sent=0, received=0)"


def test_the_largest_text_makes_a_body_that_the_relay_takes() -> None:
    """Whatever `seal` accepts fits 16 KiB as m4, the body that has most beside the box."""
    low, high = 0, BODY_CAP
    while low < high:
        size = (low + high + 1) // 2
        try:
            Channel.derive(ISK, SID, "s2p").seal(bytes(size))
        except SizeError:
            high = size - 1
        else:
            low = size
    assert low > 12000
    box = BlobKey(Channel.derive(ISK, SID, "s2p").seal(bytes(low)))
    assert len(encode(Answer(v=1, Tb=Tag64(bytes(64)), box=box))) <= BODY_CAP
    assert len(encode(Sealed(v=1, box=box))) <= BODY_CAP
    phone, _ = _pair()
    with refused(SizeError):
        phone.seal(bytes(low + 1))
    assert phone.state.sent == 0


def test_the_check_code_has_four_digits() -> None:
    assert check_code(ISK, SID) == f"{int.from_bytes(hkdf(ISK, SID, b'tt1/code', 8), 'big') % 10000:04d}"
    codes = {check_code(ISK, fixed(f"run {n}")) for n in range(200)}
    assert all(len(code) == 4 and code.isdigit() for code in codes)
    assert len(codes) > 150
    assert any(code.startswith("0") for code in codes)
