"""Any bytes at all: what is coded comes back, and what is damaged is named or has the length that was announced."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.codec import CodecError, decode, encode
from tests.image_kit import BIG, EXPLICIT, IMPLICIT, data_set, smooth

SYNTAXES = [EXPLICIT, IMPLICIT, BIG, "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1.99"]
CODED = [
    (data, encode(data, syntax))
    for data, syntax in [
        (data_set(smooth((64, 48))), EXPLICIT),
        (data_set(smooth((3, 40, 36, 3), "u1"), frames=3), EXPLICIT),
        (data_set(smooth((48, 48), "<i2"), IMPLICIT), IMPLICIT),
        (data_set(smooth((64, 48), ">u2"), BIG), BIG),
        (b"report " * 300, EXPLICIT),
        (np.random.default_rng(1).bytes(500), EXPLICIT),
    ]
]
assert {coded.codec for _, coded in CODED} == {"ht1", "sh1", "zs1", "raw"}


@given(st.binary(max_size=2000), st.sampled_from(SYNTAXES))
def test_any_bytes_come_back(data: bytes, syntax: str) -> None:
    coded = encode(data, syntax)
    assert len(coded.body) <= len(data)
    assert decode(coded.codec, coded.body, len(data)) == data


@given(st.data())
def test_any_image_comes_back(draw: st.DataObject) -> None:
    dtype = draw.draw(st.sampled_from(["u1", "i1", "<u2", "<i2"]))
    rows, columns = draw.draw(st.integers(1, 70)), draw.draw(st.integers(1, 70))
    shape = (rows, columns, 3) if draw.draw(st.booleans()) and rows > 4 and columns > 4 else (rows, columns)
    pixels = smooth(shape, dtype, seed=draw.draw(st.integers(0, 1000)), level=20)
    for at in draw.draw(st.lists(st.integers(0, pixels.size - 1), max_size=5)):
        pixels.flat[at] = draw.draw(st.sampled_from([np.iinfo(dtype).min, np.iinfo(dtype).max]))
    syntax = draw.draw(st.sampled_from([EXPLICIT, IMPLICIT]))
    data = data_set(pixels, syntax)[: draw.draw(st.sampled_from([None, None, -1, -7]))]
    coded = encode(data, syntax)
    assert decode(coded.codec, coded.body, len(data)) == data


@given(st.sampled_from(CODED), st.data())
def test_a_damaged_body_is_named_or_as_long_as_announced(
    sample: tuple[bytes, object], draw: st.DataObject
) -> None:
    data, coded = sample
    body = bytearray(coded.body)  # type: ignore[attr-defined]
    for _ in range(draw.draw(st.integers(1, 6))):
        kind = draw.draw(st.sampled_from(["flip", "set", "drop", "insert", "zero"]))
        at = draw.draw(st.integers(0, max(0, len(body) - 1)))
        if kind == "flip" and body:
            body[at] ^= 1 << draw.draw(st.integers(0, 7))
        elif kind == "set" and body:
            body[at] = draw.draw(st.integers(0, 255))
        elif kind == "drop":
            del body[at : at + draw.draw(st.integers(1, 40))]
        elif kind == "insert":
            body[at:at] = draw.draw(st.binary(min_size=1, max_size=20))
        else:
            body[at : at + 64] = bytes(len(body[at : at + 64]))
    original = draw.draw(st.sampled_from([len(data), len(data), len(data), len(data) - 1, 0, 10_000_000]))
    try:
        assert len(decode(coded.codec, bytes(body), original)) == original  # type: ignore[attr-defined]
    except CodecError:
        pass


@given(st.sampled_from(["ht1", "sh1", "zs1", "raw"]), st.binary(max_size=300), st.integers(-1, 1 << 40))
def test_any_body_is_named_or_as_long_as_announced(codec: str, body: bytes, original: int) -> None:
    try:
        assert len(decode(codec, body, original)) == original
    except CodecError:
        pass
