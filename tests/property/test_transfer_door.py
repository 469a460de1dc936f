from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfer_kit import OFFER_TEXT, TID, Q, S, a_question, hello, refused, stream
from transfer.channel import Channel, ChannelState
from transfer.door import PhoneDoor, SiteDoor
from transfer.errors import SignatureError
from transfer.messages import encode

CODE = st.text("0123456789", min_size=6, max_size=6)


@settings(max_examples=60)
@given(
    CODE,
    CODE,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**32),
)
def test_a_run_is_proved_if_and_only_if_both_know_the_same(
    typed: str, told: str, scanned: bytes, shown: bytes, seed: int
) -> None:
    for code, q in ((typed, scanned), (told, scanned), (typed, shown), (told, shown)):
        phone = PhoneDoor(q, code, stream(f"phone {seed}"))
        site = SiteDoor(
            q=shown, code=told, tid=TID, site=S.site, offer=OFFER_TEXT, random=stream(f"site {seed}")
        )
        m1 = phone.hello(hello())
        if q != shown:
            with refused(SignatureError):
                site.start(m1)
            continue
        proved = site.prove(phone.point(encode(site.start(m1))))
        assert proved is (code == told)
        if proved:
            assert phone.answer(encode(site.answer(a_question()))).check == site.check


SAY = st.tuples(st.sampled_from(["phone", "site"]), st.binary(max_size=300), st.booleans())


@settings(max_examples=80)
@given(st.binary(min_size=64, max_size=64), st.lists(SAY, max_size=20))
def test_a_channel_carries_everything_in_order_over_any_restarts(
    isk: bytes, words: list[tuple[str, bytes, bool]]
) -> None:
    ends = {"phone": Channel.derive(isk, Q, "p2s"), "site": Channel.derive(isk, Q, "s2p")}
    boxes: set[bytes] = set()
    for who, text, restart in words:
        other = "site" if who == "phone" else "phone"
        box = ends[who].seal(text)
        assert box not in boxes
        boxes.add(box)
        if restart:
            ends = {name: Channel(_stored(end.state)) for name, end in ends.items()}
        assert ends[other].open(box) == text
    if boxes:
        with refused(SignatureError):
            ends["site"].open(min(boxes))


def _stored(state: ChannelState) -> ChannelState:
    return msgspec.json.decode(msgspec.json.encode(state), type=ChannelState)
