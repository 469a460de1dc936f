"""`clients.gateway.accounts`: staff and their sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.errors import AbsentError
from clients.gateway.views import SessionView
from tests.rooms_kit import Desk, a_desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as made:
        yield made


def a_session(desk: Desk, user: str = "jdoe", seconds: int = 1800) -> SessionView:
    now = desk.clock.at
    return SessionView(user=user, role="clerk", csrf="c", started_at=now, expires_at=now + seconds)


async def test_a_new_password_ends_all_sessions_of_that_person(desk: Desk) -> None:
    await desk.engine.user_add("jdoe", "clerk", "hash 1", "admin")
    await desk.engine.user_add("other", "clinician", "hash", "admin")
    await desk.engine.session_put("t1", a_session(desk))
    await desk.engine.session_put("t2", a_session(desk))
    await desk.engine.session_put("t3", a_session(desk, "other"))
    await desk.engine.user_add("jdoe", "privacy-officer", "hash 2", "admin")
    assert await desk.engine.user_hash("jdoe") == ("hash 2", "privacy-officer")
    assert await desk.engine.session_get("t1") is None
    assert await desk.engine.session_get("t2") is None
    assert await desk.engine.session_get("t3") is not None
    assert [u.name for u in await desk.engine.users()] == ["jdoe", "other"]
    assert [a.action for a in await desk.engine.audit(limit=3)] == ["user.add"] * 3


async def test_whoever_left_is_absent_and_signed_out(desk: Desk) -> None:
    await desk.engine.user_add("jdoe", "clerk", "hash", "admin")
    await desk.engine.session_put("t", a_session(desk))
    await desk.engine.user_remove("jdoe", "admin")
    with pytest.raises(AbsentError):
        await desk.engine.user_hash("jdoe")
    assert await desk.engine.session_get("t") is None
    assert (await desk.engine.users())[0].disabled
    for name in ("jdoe", "nobody"):
        with pytest.raises(AbsentError):
            await desk.engine.user_remove(name, "admin")
    assert [a.action for a in await desk.engine.audit(limit=2)] == ["user.remove", "user.add"]
    await desk.engine.user_add("jdoe", "clerk", "hash 2", "admin")
    assert await desk.engine.user_hash("jdoe") == ("hash 2", "clerk")


async def test_sessions_run_out(desk: Desk) -> None:
    await desk.engine.session_put("t", a_session(desk))
    desk.clock.at += 1800
    session = await desk.engine.session_get("t")
    assert session is not None
    assert (session.user, session.role, session.expires_at) == ("jdoe", "clerk", desk.clock.at)
    desk.clock.at += 1
    assert await desk.engine.session_get("t") is None
    await desk.engine.session_put("new", a_session(desk))
    found = await desk.rooms.db.run(lambda con: [r[0] for r in con.execute("SELECT token FROM sessions")])
    assert found == ["new"]
    await desk.engine.session_drop("new")
    assert await desk.engine.session_get("new") is None
