"""Paired sites: pinned after a person compared the fingerprint; and the pre-keys of both sides (protocol s. 0, 1).

Our own pre-keys: a new one each day, offered for 72 hours, private half erased 48 hours after that. A
peer's pre-key is fetched when an offer needs it and verified under the pinned key, so a relay can withhold
one but not invent one.
"""

from __future__ import annotations

import contextlib
from functools import partial

import msgspec

from clients.gateway.clock import Clock, Random, Signal
from clients.gateway.errors import AbsentError
from clients.gateway.peers.relay import RelayClient, RelayRefusal
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, rows, value
from clients.gateway.store.vault import Vault
from transfer.errors import PeerError
from transfer.ids import Kid, SiteId
from transfer.messages import Card, Prekey, ReleaseType
from transfer.prekeys import DELETE_AFTER, LIFE, RENEW, PrekeyPair, read_prekey
from transfer.release import Pin
from transfer.sites import Identity, read_card


class Peer(msgspec.Struct, frozen=True):
    """A pinned site."""

    site: SiteId
    name: str
    place: str
    roles: tuple[str, ...]
    pinned_at: int
    pinned_by: str
    prekey_exp: int
    allow: tuple[str, ...] = ()
    """Types of grant that staff of the peer may give here in a patient's place: `attest`, `override`."""
    call: str = ""
    """Whom staff here call there, by telephone; no message carries it."""

    @property
    def pin(self) -> Pin:
        """What the trust rules need of it."""
        return Pin(self.site, attest="attest" in self.allow, override="override" in self.allow)


class Pins:
    """Who is paired, and whose keys are good now."""

    def __init__(
        self, db: Database, vault: Vault, identity: Identity, relay: RelayClient, clock: Clock, random: Random
    ) -> None:
        self._db, self._vault, self._identity = db, vault, identity
        self._relay, self._clock, self._random = relay, clock, random
        self.paired = Signal()

    async def pin(self, card_text: str, actor: str) -> Card:
        """Pins the site of a card whose fingerprint a person has compared. Raises a `PeerError`."""
        card = read_card(card_text)
        now = self._clock.now()

        def work(con: Con) -> None:
            con.execute(
                "INSERT INTO peers (site, card, name, place, page, roles, pinned_at, pinned_by)"
                " VALUES (?,?,?,?,?,?,?,?)"
                " ON CONFLICT (site) DO UPDATE SET card=excluded.card, name=excluded.name, place=excluded.place,"
                " page=excluded.page, roles=excluded.roles, unpinned_at=0",
                (
                    card.site,
                    card_text.strip(),
                    card.name,
                    card.place,
                    card.page,
                    " ".join(card.roles),
                    now,
                    actor,
                ),
            )
            audit.record(con, actor, "peer.pin", card.site.hex(), "", now)

        await self._db.run(work)
        self.paired.set()
        return card

    async def all(self) -> list[Peer]:
        """Every pinned site, by name."""
        return await self._db.run(
            lambda con: [_peer(r) for r in rows(con, "SELECT * FROM peers WHERE unpinned_at=0 ORDER BY name")]
        )

    async def find(self, name: str) -> Peer:
        """The site of this id (base64url or hex) or name. Raises `AbsentError`."""
        matches = [p for p in await self.all() if name in (p.site.text, p.site.hex(), p.name)]
        if len(matches) != 1:
            raise AbsentError("No paired site has this name. Pair it first: `gateway pin DIR CARD`.")
        return matches[0]

    async def get(self, site: SiteId) -> Peer | None:
        """The pinned site of this id, or None."""
        row = await self._db.run(
            lambda con: one(con, "SELECT * FROM peers WHERE site=? AND unpinned_at=0", (site,))
        )
        return _peer(row) if row else None

    async def unpin(self, site: SiteId, actor: str) -> None:
        """Trusts a site no more: what it says from now on is a stranger's."""
        now = self._clock.now()

        def work(con: Con) -> None:
            con.execute(
                "UPDATE peers SET unpinned_at=?, prekey=NULL, prekey_exp=0, allow='' WHERE site=?",
                (now, site),
            )
            audit.record(con, actor, "peer.unpin", site.hex(), "", now)

        await self._db.run(work)

    async def allow(self, site: SiteId, kinds: tuple[ReleaseType, ...], actor: str) -> None:
        """From now on opens what this site's staff decide in a patient's place by these types, and by no other."""
        now, words = self._clock.now(), " ".join(sorted(kinds))

        def work(con: Con) -> None:
            con.execute("UPDATE peers SET allow=? WHERE site=? AND unpinned_at=0", (words, site))
            audit.record(con, actor, "peer.allow", site.hex(), words or "nothing", now)

        await self._db.run(work)

    async def note_call(self, site: SiteId, call: str, actor: str) -> None:
        """Whom staff call there from now on; "": it is not known."""
        now = self._clock.now()

        def work(con: Con) -> None:
            con.execute("UPDATE peers SET call=? WHERE site=? AND unpinned_at=0", (call, site))
            audit.record(con, actor, "peer.call", site.hex(), call or "nobody", now)

        await self._db.run(work)

    # Pre-keys of peers

    async def prekey_of(self, site: SiteId, until: int) -> tuple[str, Prekey] | None:
        """The pre-key of a peer that is valid now and longest; fetched if the known one ends before `until`."""
        stored = await self._db.run(lambda con: value(con, "SELECT prekey FROM peers WHERE site=?", (site,)))
        best = self._verified([stored] if stored else [], site)
        if best is None or best[1].exp < until:
            best = self._verified(await self._relay.prekeys(site), site) or best
            if best is not None:
                text, message = best
                await self._db.run(
                    lambda con: con.execute(
                        "UPDATE peers SET prekey=?, prekey_exp=? WHERE site=?", (text, message.exp, site)
                    )
                )
        return best

    async def refresh(self) -> None:
        """Learns which peers can be offered something now. Raises `RelayDownError`."""
        for peer in await self.all():
            with contextlib.suppress(RelayRefusal):
                await self.prekey_of(peer.site, self._clock.now() + RENEW)

    def _verified(self, texts: list[str], site: SiteId) -> tuple[str, Prekey] | None:
        good: list[tuple[str, Prekey]] = []
        for text in texts[:16]:
            try:
                good.append((text, read_prekey(text, site=site, now=self._clock.now())))
            except PeerError:
                continue
        return max(good, key=lambda pair: pair[1].exp, default=None)

    # Our own

    async def renew(self) -> None:
        """Makes today's pre-key if there is none, erases old private halves, offers what the relay does not list:
        it may have lost them. Raises `RelayDownError`, `RelayRefusal`.
        """
        now = self._clock.now()

        def work(con: Con) -> tuple[list[tuple[bytes, str, bool]], bool]:
            # one that a wrong clock dated into the future must not stand in for today's
            newest = value(con, "SELECT max(exp) FROM prekeys WHERE exp<=?", (now + LIFE,)) or 0
            if newest <= now + LIFE - RENEW:
                pair = PrekeyPair.generate(self._random)
                text = pair.publish(self._identity.key, now)
                exp = read_prekey(text, site=self._identity.site, now=now).exp
                con.execute(
                    "INSERT INTO prekeys (kid, pair_sealed, message, exp) VALUES (?,?,?,?)",
                    (pair.kid, self._vault.seal("prekey", pair.seed + pair.scalar), text, exp),
                )
            gone = con.execute("DELETE FROM prekeys WHERE exp<?", (now - DELETE_AFTER,)).rowcount
            good = rows(con, "SELECT kid, message, published FROM prekeys WHERE exp>? ORDER BY exp", (now,))
            return [(r["kid"], r["message"], bool(r["published"])) for r in good], gone > 0

        good, erased = await self._db.run(work)
        if erased:
            await self._db.scrub()
        listed: list[str] = []
        if any(published for _, _, published in good):
            listed = await self._relay.prekeys(self._identity.site)
        for kid, text, published in good:
            if not published or text not in listed:
                await self._relay.publish_prekey(kid, text)
                await self._db.run(partial(self._published, kid=kid))

    @staticmethod
    def _published(con: Con, kid: bytes) -> None:
        con.execute("UPDATE prekeys SET published=1 WHERE kid=?", (kid,))

    def own_pair(self, con: Con, kid: Kid) -> PrekeyPair | None:
        """Our private pre-key of this id, or None once it was erased."""
        sealed = value(con, "SELECT pair_sealed FROM prekeys WHERE kid=?", (kid,))
        if sealed is None:
            return None
        plain = self._vault.open("prekey", sealed)
        return PrekeyPair(plain[:64], plain[64:])


def _peer(row: object) -> Peer:
    r: dict[str, object] = dict(row)  # type: ignore[call-overload]
    return Peer(
        SiteId(bytes(r["site"])), str(r["name"]), str(r["place"]), tuple(str(r["roles"]).split()),  # type: ignore[call-overload]
        int(str(r["pinned_at"])), str(r["pinned_by"]), int(str(r["prekey_exp"])),
        tuple(str(r["allow"]).split()), str(r["call"]),
    )  # fmt: skip
