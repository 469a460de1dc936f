"""`MetaStore` in one SQLite file, through `relay.ledger`.

Every change is one work: a plain function of the connection, in which nothing can come between its
statements; those of mailboxes and of the letters in them are in `relay.boxes`. The tables are in `migrations/`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from relay import boxes, metastore
from relay.boxes import rows_of
from relay.clock import Clock
from relay.config import Quota
from relay.errors import AbsentError, BusyError, DifferentError, GoneError, QuotaError
from relay.ledger import Ledger, Row
from relay.metastore import Counts, Hello, Letter, Pack, Posted, Site, check_owner
from transfer.ids import Cid, Digest, Kid, Nonce, SiteId

Con = sqlite3.Connection


class SqliteMeta:
    """The store at `path`; what a site may keep is in `quota`."""

    def __init__(self, path: Path, quota: Quota, clock: Clock) -> None:
        self._ledger = Ledger(path)
        self._quota = quota
        self._clock = clock

    async def open(self) -> None:
        """Opens the file, brings its tables up to date."""
        await self._ledger.open(self._clock())

    async def close(self) -> None:
        """Commits what waits, closes the file."""
        await self._ledger.close()

    async def ping(self) -> None:
        """See `MetaStore.ping`: a transaction that changes nothing takes every lock and writes nothing."""
        try:
            await self._ledger.write(lambda con: con.execute("SELECT 1 FROM sites LIMIT 1").fetchone())
        except sqlite3.Error:
            raise BusyError from None

    async def counts(self) -> Counts:
        """See `MetaStore.counts`. From partial indexes: names that are gone cost nothing here."""
        cids = "SELECT count(*), coalesce(sum(packs), 0), coalesce(sum(bytes), 0) FROM cids WHERE gone = 0"
        boxes = "SELECT count(*) FROM mailboxes WHERE gone = 0"
        ((alive, packs, size),) = await self._ledger.read(cids)
        ((letters,),) = await self._ledger.read("SELECT count(*) FROM letters")
        ((mailboxes,),) = await self._ledger.read(boxes)
        return Counts(alive, packs, size, letters, mailboxes)

    # Sites ------------------------------------------------------------------------------------------------

    async def enroll(self, site: Site) -> None:
        await self._ledger.write(lambda con: enroll(con, site))

    async def site(self, site: SiteId) -> Site | None:
        rows = await self._ledger.read("SELECT name, card, at FROM sites WHERE site = ?", (site,))
        return Site(site, *rows[0]) if rows else None

    async def remember(self, site: SiteId, jti: Nonce, now: int) -> bool:
        sql = "INSERT INTO requests (site, jti, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._ledger.write(lambda con: con.execute(sql, (site, jti, now)).rowcount == 1)

    # Queues -----------------------------------------------------------------------------------------------

    async def post(self, owner: SiteId, sender: SiteId, digest: Digest, body: bytes, now: int) -> int:
        def work(con: Con) -> int:
            if not rows_of(con, "SELECT 1 FROM sites WHERE site = ?", owner):
                raise AbsentError
            same = "SELECT seq FROM letters WHERE owner = ? AND sender = ? AND digest = ?"
            if rows := rows_of(con, same, owner, sender, digest):
                return int(rows[0][0])
            return boxes.add_letter(con, owner, sender, digest, body, now, self._quota)

        return await self._ledger.write(work)

    async def letters(self, owner: SiteId, after: int, most: int) -> list[Letter]:
        sql = (
            "SELECT seq, at, sender, body, mb, run, slot, i FROM letters"
            " WHERE owner = ? AND seq > ? ORDER BY seq LIMIT ?"
        )
        return [Letter(*row) for row in await self._ledger.read(sql, (owner, after, most))]

    async def ack(self, owner: SiteId, seqs: list[int]) -> None:
        rows = [(owner, seq) for seq in seqs]
        sql = "DELETE FROM letters WHERE owner = ? AND seq = ?"
        await self._ledger.write(lambda con: con.executemany(sql, rows).rowcount)

    # Pre-keys ---------------------------------------------------------------------------------------------

    async def put_prekey(self, site: SiteId, kid: Kid, compact: str, nbf: int, exp: int, now: int) -> None:
        def work(con: Con) -> None:
            con.execute("DELETE FROM prekeys WHERE site = ? AND exp <= ?", (site, now))
            con.execute(
                "INSERT INTO prekeys (site, kid, body, nbf, exp) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (site, kid) DO UPDATE SET body = excluded.body, nbf = excluded.nbf, exp = excluded.exp",
                (site, kid, compact, nbf, exp),
            )
            con.execute(
                "DELETE FROM prekeys WHERE site = ?1 AND kid NOT IN"
                " (SELECT kid FROM prekeys WHERE site = ?1 ORDER BY nbf DESC, kid LIMIT ?2)",
                (site, metastore.PREKEYS),
            )

        await self._ledger.write(work)

    async def prekeys(self, site: SiteId, now: int) -> list[str]:
        if await self.site(site) is None:
            raise AbsentError
        sql = "SELECT body FROM prekeys WHERE site = ? AND exp > ? ORDER BY nbf DESC, kid"
        return [row[0] for row in await self._ledger.read(sql, (site, now))]

    # Packs ------------------------------------------------------------------------------------------------

    async def own(self, cid: Cid, site: SiteId, now: int) -> None:
        await self._ledger.write(lambda con: self._own(con, cid, site, now))

    def _own(self, con: Con, cid: Cid, site: SiteId, now: int) -> None:
        if rows := rows_of(con, "SELECT owner, gone FROM cids WHERE cid = ?", cid):
            check_owner(rows[0][0], site, bool(rows[0][1]))
            return
        alive = rows_of(con, "SELECT count(*) FROM cids WHERE owner = ? AND gone = 0", site)[0][0]
        if alive >= self._quota.site_cids:
            raise QuotaError
        dies = now + metastore.PACK_LIFE
        con.execute("INSERT INTO cids (cid, owner, dies) VALUES (?, ?, ?)", (cid, site, dies))

    async def find_pack(self, cid: Cid, n: int, owner: SiteId) -> tuple[bool, Pack | None]:
        rows = await self._ledger.read(
            "SELECT c.owner, c.gone, p.n, p.kind, p.size, p.digest, p.arrival"
            " FROM cids c LEFT JOIN packs p ON p.cid = c.cid AND p.n = ? WHERE c.cid = ?",
            (n, cid),
        )
        if not rows:
            return False, None
        check_owner(rows[0][0], owner, bool(rows[0][1]))
        return True, None if rows[0][2] is None else _pack(rows[0][2:])

    async def add_pack(self, cid: Cid, site: SiteId, pack: Pack) -> bool:
        def work(con: Con) -> bool:
            rows = rows_of(con, "SELECT owner, gone, packs FROM cids WHERE cid = ?", cid)
            if not rows:
                raise AbsentError
            check_owner(rows[0][0], site, bool(rows[0][1]))
            same = rows_of(con, "SELECT kind, digest FROM packs WHERE cid = ? AND n = ?", cid, pack.n)
            if same and same[0] != (pack.kind, pack.digest):
                raise DifferentError
            if same:
                return False
            self._take_room(con, cid, site, rows[0][2], pack.size)
            con.execute(
                "INSERT INTO packs (cid, n, kind, size, digest) VALUES (?, ?, ?, ?, ?)",
                (cid, pack.n, pack.kind, pack.size, pack.digest),
            )
            return True

        return await self._ledger.write(work)

    def _take_room(self, con: Con, cid: Cid, site: SiteId, packs: int, size: int) -> None:
        stored = rows_of(con, "SELECT stored FROM sites WHERE site = ?", site)
        if packs >= self._quota.cid_packs or not stored or stored[0][0] + size > self._quota.site_bytes:
            raise QuotaError
        con.execute("UPDATE sites SET stored = stored + ? WHERE site = ?", (size, site))
        con.execute("UPDATE cids SET packs = packs + 1, bytes = bytes + ? WHERE cid = ?", (size, cid))

    async def pack(self, cid: Cid, n: int, reader: SiteId) -> Pack:
        await self._check_reader(cid, reader)
        sql = "SELECT n, kind, size, digest, arrival FROM packs WHERE cid = ? AND n = ?"
        rows = await self._ledger.read(sql, (cid, n))
        if not rows:
            raise AbsentError
        return _pack(rows[0])

    async def packs(self, cid: Cid, reader: SiteId, after: int, most: int) -> list[Pack]:
        await self._check_reader(cid, reader)
        sql = (
            "SELECT n, kind, size, digest, arrival FROM packs"
            " WHERE cid = ? AND arrival > ? ORDER BY arrival LIMIT ?"
        )  # fmt: skip
        return [_pack(row) for row in await self._ledger.read(sql, (cid, after, most))]

    async def every_pack(self, after: int, most: int) -> list[tuple[Cid, Pack]]:
        sql = (
            "SELECT cid, n, kind, size, digest, arrival FROM packs WHERE arrival > ? ORDER BY arrival LIMIT ?"
        )
        return [(Cid(row[0]), _pack(row[1:])) for row in await self._ledger.read(sql, (after, most))]

    async def forget_packs(self, cid: Cid, numbers: list[int]) -> None:
        def work(con: Con) -> None:
            for n in numbers:
                lost = "DELETE FROM packs WHERE cid = ? AND n = ? RETURNING size"
                for (size,) in rows_of(con, lost, cid, n):
                    con.execute(
                        "UPDATE cids SET packs = packs - 1, bytes = bytes - ? WHERE cid = ?", (size, cid)
                    )
                    con.execute(
                        "UPDATE sites SET stored = stored - ? WHERE site = (SELECT owner FROM cids WHERE cid = ?)",
                        (size, cid),
                    )

        await self._ledger.write(work)

    async def _check_reader(self, cid: Cid, reader: SiteId) -> None:
        rows = await self._ledger.read(
            "SELECT c.owner, c.gone, EXISTS (SELECT 1 FROM readers r WHERE r.cid = c.cid AND r.site = ?)"
            " FROM cids c WHERE c.cid = ?",
            (reader, cid),
        )
        if not rows:
            raise AbsentError
        owner, gone, named = rows[0]
        if gone:
            raise GoneError
        check_owner(reader if named else owner, reader, gone=False)

    async def add_readers(self, cid: Cid, site: SiteId, readers: list[SiteId], now: int) -> None:
        def work(con: Con) -> None:
            self._own(con, cid, site, now)
            for reader in readers:
                con.execute(
                    "INSERT INTO readers (cid, site) VALUES (?, ?) ON CONFLICT DO NOTHING", (cid, reader)
                )
            if (
                rows_of(con, "SELECT count(*) FROM readers WHERE cid = ?", cid)[0][0]
                > self._quota.cid_readers
            ):
                raise QuotaError

        await self._ledger.write(work)

    async def delete_cid(self, cid: Cid, site: SiteId, now: int) -> None:
        def work(con: Con) -> None:
            rows = rows_of(con, "SELECT owner, gone FROM cids WHERE cid = ?", cid)
            if not rows:
                raise AbsentError
            check_owner(rows[0][0], site, gone=False)
            if not rows[0][1]:
                _end_cid(con, cid)

        await self._ledger.write(work)

    # Mailboxes --------------------------------------------------------------------------------------------

    async def put_hello(self, mb: str, site: SiteId, hello: Hello, now: int) -> None:
        await self._ledger.write(lambda con: boxes.put_hello(con, mb, site, hello, self._quota))

    async def hello(self, mb: str) -> bytes:
        rows = await self._ledger.read("SELECT body, gone FROM mailboxes WHERE mb = ?", (mb,))
        return bytes(boxes.present(rows))

    async def put_message(
        self, mb: str, run: str, slot: int, body: bytes, digest: Digest, site: SiteId | None, now: int
    ) -> Posted:
        message = boxes.Message(mb, run, slot, body, digest)
        return await self._ledger.write(lambda con: boxes.put_message(con, message, site, now, self._quota))

    async def message(self, mb: str, run: str, slot: int, i: int) -> bytes | None:
        boxes.present(await self._ledger.read("SELECT 1, gone FROM mailboxes WHERE mb = ?", (mb,)))
        sql = "SELECT body FROM messages WHERE mb = ? AND run = ? AND slot = ? AND i = ?"
        rows = await self._ledger.read(sql, (mb, run, slot, i))
        return bytes(rows[0][0]) if rows else None

    async def delete_mailbox(self, mb: str, site: SiteId) -> None:
        await self._ledger.write(lambda con: boxes.delete(con, mb, site))

    # Sweeping ---------------------------------------------------------------------------------------------

    async def expire(self, now: int, most: int) -> bool:
        def work(con: Con) -> bool:
            counts = [
                con.execute(sql, (limit, most)).rowcount
                for sql, limit in (
                    (_FORGET.format("requests", "site, jti", "at <= ?"), now - metastore.REQUEST_LIFE),
                    (_FORGET.format("letters", "seq", "at <= ?"), now - metastore.LETTER_LIFE),
                    (_FORGET.format("prekeys", "site, kid", "exp <= ?"), now),
                )
            ]
            cids = rows_of(con, "SELECT cid FROM cids WHERE gone = 0 AND dies <= ? LIMIT ?", now, most)
            dead = rows_of(con, "SELECT mb FROM mailboxes WHERE gone = 0 AND dies <= ? LIMIT ?", now, most)
            for (cid,) in cids:
                _end_cid(con, cid)
            for (mb,) in dead:
                boxes.end(con, mb)
            counts += [len(cids), len(dead)]
            return max(counts) >= most

        return await self._ledger.write(work)

    async def doomed(self, most: int) -> list[Cid]:
        rows = await self._ledger.read("SELECT cid FROM cids WHERE gone = 1 LIMIT ?", (most,))
        return [Cid(row[0]) for row in rows]

    async def erased(self, cid: Cid) -> None:
        sql = "UPDATE cids SET gone = 2 WHERE cid = ? AND gone = 1"
        await self._ledger.write(lambda con: con.execute(sql, (cid,)).rowcount)

    async def alive(self, cids: list[Cid]) -> set[Cid]:
        found = set()
        for cid in cids:
            if await self._ledger.read("SELECT 1 FROM cids WHERE cid = ? AND gone < 2", (cid,)):
                found.add(cid)
        return found


_FORGET = "DELETE FROM {0} WHERE ({1}) IN (SELECT {1} FROM {0} WHERE {2} LIMIT ?)"


def enroll(con: Con, site: Site) -> None:
    """Inside a transaction: adds a site, or takes its newer card."""
    con.execute(
        "INSERT INTO sites (site, name, card, at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (site) DO UPDATE SET name = excluded.name, card = excluded.card",
        (site.site, site.name, site.card, site.at),
    )


def _pack(row: Row) -> Pack:
    n, kind, size, digest, arrival = row
    return Pack(n, kind, size, Digest(digest), arrival)


def _end_cid(con: Con, cid: bytes) -> None:
    """Its rows go, its name stays."""
    con.execute(
        "UPDATE sites SET stored = stored - c.bytes FROM cids c WHERE c.cid = ? AND sites.site = c.owner",
        (cid,),
    )
    con.execute("DELETE FROM packs WHERE cid = ?", (cid,))
    con.execute("DELETE FROM readers WHERE cid = ?", (cid,))
    con.execute("UPDATE cids SET gone = 1, bytes = 0, packs = 0 WHERE cid = ?", (cid,))
