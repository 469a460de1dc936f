"""Staff and their sessions: their part of the engine (`clients.gateway.views.Engine`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clients.gateway.errors import AbsentError
from clients.gateway.store import audit
from clients.gateway.store.database import Con, one, rows, value
from clients.gateway.views import SessionView, UserView

if TYPE_CHECKING:
    from clients.gateway.rooms import Rooms


class AccountsEngine:
    """Who may sign in, and who has; passwords and tokens only as their hashes."""

    _rooms: Rooms

    async def user_add(self, name: str, role: str, password_hash: str, actor: str) -> None:
        """Adds a member of staff, or gives them a new role and password, which ends their sessions."""
        now = self._rooms.clock.now()

        def work(con: Con) -> None:
            con.execute(
                "INSERT INTO users (name, role, hash, created_at) VALUES (?,?,?,?) ON CONFLICT (name) DO UPDATE"
                " SET role=excluded.role, hash=excluded.hash, disabled=0",
                (name, role, password_hash, now),
            )
            _end_sessions(con, name)
            audit.record(con, actor, "user.add", name, role, now)

        await self._rooms.db.run(work)

    async def user_remove(self, name: str, actor: str) -> None:
        """A member of staff leaves: no sign-in, and every session ends. Raises `AbsentError`."""
        now = self._rooms.clock.now()

        def work(con: Con) -> None:
            if not con.execute("UPDATE users SET disabled=1 WHERE name=? AND disabled=0", (name,)).rowcount:
                raise AbsentError("Nobody of this name may sign in. Check the name.")
            _end_sessions(con, name)
            audit.record(con, actor, "user.remove", name, "", now)

        await self._rooms.db.run(work)

    async def user_hash(self, name: str) -> tuple[str, str]:
        """(password hash, role). Raises `AbsentError`."""
        row = await self._rooms.db.run(
            lambda con: one(con, "SELECT hash, role FROM users WHERE name=? AND disabled=0", (name,))
        )
        if row is None:
            raise AbsentError
        return row["hash"], row["role"]

    async def users(self) -> list[UserView]:
        """All members of staff."""
        found = await self._rooms.db.run(lambda con: rows(con, "SELECT * FROM users ORDER BY name"))
        return [
            UserView(name=r["name"], role=r["role"], created_at=r["created_at"], disabled=bool(r["disabled"]))
            for r in found
        ]

    async def session_put(self, token_hash: str, session: SessionView) -> None:
        """Stores a session under the hash of its token; drops those that have run out."""
        now = self._rooms.clock.now()
        data = msgspec.json.encode(session)

        def work(con: Con) -> None:
            con.execute("DELETE FROM sessions WHERE expires_at<?", (now,))
            con.execute(
                "INSERT OR REPLACE INTO sessions (token, data, expires_at) VALUES (?,?,?)",
                (token_hash, data, session.expires_at),
            )

        await self._rooms.db.run(work)

    async def session_get(self, token_hash: str) -> SessionView | None:
        """The session of a token's hash, if it has not run out."""
        now = self._rooms.clock.now()
        data = await self._rooms.db.run(
            lambda con: value(
                con, "SELECT data FROM sessions WHERE token=? AND expires_at>=?", (token_hash, now)
            )
        )
        return msgspec.json.decode(data, type=SessionView) if data else None

    async def session_drop(self, token_hash: str) -> None:
        """Ends a session."""
        await self._rooms.db.run(lambda con: con.execute("DELETE FROM sessions WHERE token=?", (token_hash,)))


def _end_sessions(con: Con, user: str) -> None:
    for row in rows(con, "SELECT token, data FROM sessions"):
        if msgspec.json.decode(row["data"], type=SessionView).user == user:
            con.execute("DELETE FROM sessions WHERE token=?", (row["token"],))
