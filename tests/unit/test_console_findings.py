from __future__ import annotations

from clients.gateway.console.findings import Findings
from clients.gateway.pulled import SearchView
from tests.fake_archive import match

FOUND = SearchView(matches=[match("1.2.3"), match("1.2.4")], more=False, sentence="")


def test_a_finding_is_of_its_session_and_a_study_is_named_by_its_place() -> None:
    kept = Findings()
    number = kept.keep("me", {"accession": "A1"}, FOUND)
    assert len(number) == 16
    assert (found := kept.get("me", number)) is not None
    assert found.terms == {"accession": "A1"}
    assert kept.get("you", number) is None
    assert (second := kept.match("me", number, "1")) is not None
    assert second.uid == "1.2.4"
    for place in ("2", "-1", "", "x", "²", "00000001"):
        assert kept.match("me", number, place) is None
    assert kept.match("you", number, "0") is None


def test_the_oldest_is_forgotten_and_a_look_keeps_one() -> None:
    kept = Findings(size=2)
    first, second = (kept.keep("me", {}, FOUND) for _ in range(2))
    kept.get("me", first)
    kept.keep("me", {}, FOUND)
    assert kept.get("me", first) is not None
    assert kept.get("me", second) is None
