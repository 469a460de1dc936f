"""`clients.gateway.receiving.routing`: the first rule that matches; nothing waits for an image where none is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.gateway.receiving.routing import DEFAULT, Kind, Rule, Sender, early, route

VALLEY, LAKE = Sender("Valley ED", "1234 5678"), Sender("Lakeside", "8765 4321")
CT, MR = Kind("CT", "HEAD"), Kind("MR", "")
RULES = [
    Rule(sender=("valley ed",), modality=("CT", "MR"), body_part=("Head",), to=("neuro", "pacs")),
    Rule(modality=("MR",), to=("research",)),
    Rule(sender=("87654321",), to=("lake", "lake")),
]


@pytest.mark.parametrize(
    ("sender", "kind", "to"),
    [
        (VALLEY, CT, ("neuro", "pacs")),
        (VALLEY, MR, ("research",)),
        (VALLEY, Kind("US", "HEAD"), ("pacs",)),
        (VALLEY, Kind("", ""), ("pacs",)),
        (LAKE, CT, ("lake",)),
        (LAKE, Kind(" mr ", ""), ("research",)),
    ],
)
def test_the_first_rule_that_matches_counts(sender: Sender, kind: Kind, to: tuple[str, ...]) -> None:
    assert route(RULES, sender, kind) == to


def test_what_is_known_before_the_first_image() -> None:
    assert early([], VALLEY) == (DEFAULT,)
    assert early(RULES, VALLEY) is None
    assert early(RULES[2:], LAKE) == ("lake",)
    assert early(RULES[2:], VALLEY) == (DEFAULT,)
    assert early([Rule(to=("all",)), *RULES], VALLEY) == ("all",)


_words = st.lists(st.sampled_from(["CT", "MR", "HEAD", "Valley ED", "1234 5678", "x"]), max_size=2).map(tuple)
_rules = st.lists(
    st.builds(
        Rule, modality=_words, body_part=_words, sender=_words,
        to=st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2).map(tuple),
    ), max_size=4,
)  # fmt: skip


@given(_rules, st.sampled_from([VALLEY, LAKE]), st.sampled_from([CT, MR]))
def test_what_is_known_early_is_what_comes_of_every_image(
    rules: list[Rule], sender: Sender, kind: Kind
) -> None:
    assert early(rules, sender) in (None, route(rules, sender, kind))
