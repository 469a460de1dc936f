from __future__ import annotations

from clients.gateway.console.trail import Trail
from tests.fake_engine import FakeEngine


async def test_a_page_that_refreshes_itself_is_one_look() -> None:
    engine = FakeEngine()
    trail = Trail(engine)
    await trail.saw("session", "desk1", "transfer", "aa", refresh=False)
    for _ in range(5):
        await trail.saw("session", "desk1", "transfer", "aa", refresh=True)
    assert engine.actions() == ["page:view-transfer"]
    await trail.saw("session", "desk1", "transfer", "aa", refresh=False)
    assert len(engine.lines) == 2


async def test_a_refresh_of_what_was_never_opened_is_a_look() -> None:
    engine = FakeEngine()
    trail = Trail(engine)
    await trail.saw("session", "desk1", "transfer", "aa", refresh=True)
    await trail.saw("session", "desk1", "transfer", "bb", refresh=True)
    await trail.saw("session", "desk1", "study", "aa", refresh=True)
    await trail.saw("another", "desk2", "transfer", "aa", refresh=True)
    assert [(line.actor, line.subject) for line in engine.lines] == [
        ("desk1", "aa"),
        ("desk1", "bb"),
        ("desk1", "aa"),
        ("desk2", "aa"),
    ]


async def test_what_is_forgotten_is_written_again_and_nothing_is_shown_unwritten() -> None:
    engine = FakeEngine()
    trail = Trail(engine, size=1)
    for subject in ("aa", "bb", "aa"):
        await trail.saw("session", "desk1", "transfer", subject, refresh=True)
    assert len(engine.lines) == 3
