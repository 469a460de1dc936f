"""`Range` (RFC 9110 14.1.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RangeError
from relay.ranges import byte_range


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 1000)),
        ("bytes=500-", (500, 1000)),
        ("bytes=500-100000", (500, 1000)),
        ("bytes=-500", (500, 1000)),
        ("bytes=-100000", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes= 999-999 ", (999, 1000)),
    ],
)
def test_one_range(header: str, part: tuple[int, int]) -> None:
    assert byte_range(header, 1000) == part


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_behind_the_end(header: str) -> None:
    with pytest.raises(RangeError) as why:
        byte_range(header, 1000)
    assert why.value.headers == {"Content-Range": "bytes */1000"}


@pytest.mark.parametrize(
    "header",
    [
        "items=0-5",
        "bytes=5-4",
        "bytes=0-1,5-6",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0x1-5",
        "bytes=²-³",
        "",
    ],
)
def test_what_is_ignored(header: str) -> None:
    assert byte_range(header, 1000) is None


@given(st.text(alphabet="bytes=0123456789-, \t", max_size=40), st.integers(1, 10**7))
def test_a_part_is_always_within(header: str, size: int) -> None:
    try:
        part = byte_range("bytes=" + header, size)
    except RangeError:
        return
    if part is not None:
        assert 0 <= part[0] < part[1] <= size
