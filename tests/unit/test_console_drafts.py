from __future__ import annotations

from clients.gateway.console.drafts import Draft, Drafts
from clients.gateway.whose import Candidate

DRAFT = Draft(candidate=Candidate(patient_id="4711"))


def test_a_draft_is_for_one_session_and_one_subject() -> None:
    drafts = Drafts()
    number = drafts.keep("a", "t1", DRAFT)
    assert drafts.get("a", "t1", number) == DRAFT
    for key in (("b", "t1", number), ("a", "t2", number), ("a", "t1", "0" * 16)):
        assert drafts.get(*key) is None


def test_the_oldest_that_nobody_looked_at_goes_first() -> None:
    drafts = Drafts(size=2)
    first, second = drafts.keep("a", "t", DRAFT), drafts.keep("a", "t", DRAFT)
    assert drafts.get("a", "t", first) is not None
    drafts.keep("a", "t", DRAFT)
    assert drafts.get("a", "t", second) is None
    assert drafts.get("a", "t", first) is not None
