from __future__ import annotations

from clients.gateway.console.searches import MAX_LENGTH, Searches


def test_a_search_is_found_again_by_its_own_session_only() -> None:
    searches = Searches()
    number = searches.keep("mine", "DOE 1984")
    assert "DOE" not in number
    assert searches.words("mine", number) == "DOE 1984"
    assert searches.words("other", number) == ""
    assert searches.words("mine", "") == ""


def test_the_oldest_unused_search_goes_first_and_none_is_long() -> None:
    searches = Searches(size=2)
    first = searches.keep("s", "one")
    second = searches.keep("s", "x" * 10_000)
    assert searches.words("s", first) == "one"
    third = searches.keep("s", "three")
    assert searches.words("s", second) == ""
    assert searches.words("s", first) == "one"
    assert searches.words("s", third) == "three"
    assert len(searches.words("s", searches.keep("s", "x" * 10_000))) == MAX_LENGTH
