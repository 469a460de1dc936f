"""What stands in URLs. How refusals look over HTTP: the tests of the calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import HeaderError
from relay.params import number


@pytest.mark.parametrize("text", ["0", "1", "10", "4294967295"])
def test_numbers(text: str) -> None:
    assert str(number(text, 2**32 - 1)) == text


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "01", "00", " 1", "1 ", "1_0", "1.0", "0x1", "4294967296", "٣", "²", "9" * 99]
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(HeaderError):
        number(text, 2**32 - 1)


@given(st.text(max_size=20), st.integers(0, 2**53))
def test_one_text_for_each_number(text: str, most: int) -> None:
    try:
        found = number(text, most)
    except HeaderError:
        return
    assert str(found) == text
    assert 0 <= found <= most
