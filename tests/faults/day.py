"""A bad day: two transfers at once over a relay that lies, with people who answer and gateways that crash; and what
must be true of it at every moment and in the end (docs/spec/protocol.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sqlite3
from pathlib import Path
from typing import Any

from clients.drill import Phone
from clients.gateway import folder as folders
from clients.gateway.dicom.header import read_header
from clients.gateway.errors import GatewayError
from clients.gateway.store import audit
from clients.gateway.views import TransferView
from relay import service
from relay.config import Config, Rate, Rates
from relay.enroll import enroll
from tests.faults.lies import Script
from tests.faults.proxy import LyingRelay, Memory
from tests.programs import write_study
from tests.world import Site, World
from transfer import jws, tries
from transfer.errors import TransferError
from transfer.messages import Grant, Offer, peek
from transfer.states import TERMINAL

S_NAME, R_NAME = "Valley ED", "Lakeside Trauma Center"
PLANS = ("approve", "approve", "deny", "both", "guess", "staff-stop", "yes-then-stop")
_ROUNDS = 12
_FAST = Rate(per_second=1e5, burst=10**6)


class LyingWorld(World):
    """All parties, and a lying relay between each gateway and the real one."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        memory = Memory()
        self.up, self.down = LyingRelay("S", memory), LyingRelay("R", memory)

    async def open(self) -> None:
        """Starts, enrolls and pairs everybody, honestly."""
        for proxy in (self.up, self.down):
            await proxy.open()
        await self.start_relay()
        await self.start_pacs()
        for site, name, proxy in ((self.sender, S_NAME, self.up), (self.receiver, R_NAME, self.down)):
            proxy.target = self.relay.url
            pacs = f"PACS@127.0.0.1:{self.pacs_port}" if site is self.receiver else ""
            identity = await folders.init(
                site.folder,
                name=name,
                relay=proxy.url,
                dicom="127.0.0.1:0",
                http="127.0.0.1:0",
                pacs=pacs,
                identity="as-is",
            )
            site.card = folders.own_card(site.folder, identity)  # type: ignore[attr-defined]
            enroll(self.relay_config.data, site.card)  # type: ignore[attr-defined]
            await site.open()
        await self.sender.engine.pin_peer(self.receiver.card, "test")  # type: ignore[attr-defined]
        await self.receiver.engine.pin_peer(self.sender.card, "test")  # type: ignore[attr-defined]

    async def start_relay(self) -> None:
        """The real one, which answers to the names of the liars and sets no rate."""
        rates = Rates(site=_FAST, address=_FAST, mailbox=_FAST, stranger=_FAST)
        self.relay_config = Config(
            listen="127.0.0.1:0", data=self.base / "relay", access_log=False, rates=rates,
            origins=[self.up.url, self.down.url],
        )  # fmt: skip
        self.relay = await service.start(self.relay_config)

    async def close(self) -> None:
        await super().close()
        for proxy in (self.up, self.down):
            await proxy.close()

    def copies(self) -> dict[str, list[bytes]]:
        """SHA-256 of every copy of every data set at the PACS, by SOP Instance UID."""
        found: dict[str, list[bytes]] = {}
        for path in self.pacs_folder.rglob("*.dcm"):
            header = read_header(path)
            digest = hashlib.sha256(path.read_bytes()[header.data_offset :]).digest()
            found.setdefault(header.sop_uid, []).append(digest)
        return found


class Case:
    """One transfer of the day."""

    def __init__(self, plan: str, study: dict[str, bytes]) -> None:
        self.plan, self.study = plan, study
        self.tid = ""
        self.wishes: list[tuple[str, Offer]] = []
        """Every answer that any phone ever tried to give, and to which offer."""
        self.stopped = False


class Day:
    """One seed."""

    def __init__(self, world: LyingWorld, seed: int) -> None:
        self.world, self.seed = world, seed
        self.dice = random.Random(seed)
        self.script = Script(seed)
        self.cases: list[Case] = []
        self.crashes = 0
        self.history: dict[tuple[str, str], list[str]] = {}
        self._house = asyncio.Lock()

    async def run(self) -> None:
        """The day, its night, and the promises."""
        for _ in range(2):
            await self._begin()
        self.world.up.script = self.world.down.script = self.script
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for case in self.cases:
                    group.create_task(self._send(case))
                group.create_task(self._crash())
            self.script.end()
            for case in self.cases:
                await self._close(case)
            await self._all_over()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self._look()
        await self._promises()

    async def _begin(self) -> None:
        folder = self.world.base / f"study-{len(self.cases)}"
        sent = write_study(
            folder, instances=self.dice.randrange(2, 5), side=self.dice.choice((8, 64, 200)), seed=self.seed
        )
        self.cases.append(Case(self.dice.choice(PLANS), sent))

    # People

    async def _send(self, case: Case) -> None:
        folder = self.world.base / f"study-{self.cases.index(case)}"
        async with self._house:
            result = await self.world.sender.engine.import_path(str(folder), "test")
            view = await self.world.sender.engine.send(result["studies"][0], R_NAME, "drill", "test")
        case.tid = view.tid
        for _ in range(3):
            if (view := await self._view(case)).state == "OFFERED" and await self._people(case, view):
                return
            await self.script.others(20)

    async def _view(self, case: Case) -> TransferView:
        async with self._house:
            return await self.world.sender.engine.transfer(case.tid)

    async def _people(self, case: Case, view: TransferView) -> bool:
        """What people do who were shown this code; True once they heard what became of it."""
        match case.plan:
            case "staff-stop":
                await self.script.others(self.dice.randrange(1, 60))
                return await self._staff_stop(case)
            case "both":
                heard = await asyncio.gather(
                    self._phone(case, view, "approve"), self._phone(case, view, "deny")
                )
                return any(heard)
            case "guess":
                wrong = f"{(int(view.pin) + 1) % 10**6:06d}"
                await asyncio.gather(*(self._phone(case, view, "approve", pin=wrong) for _ in range(7)))
                return await self._phone(case, view, "approve")
            case "yes-then-stop":
                return await self._phone(case, view, "approve", stop=True)
            case _:
                return await self._phone(case, view, case.plan)

    async def _phone(
        self, case: Case, view: TransferView, d: str, *, pin: str = "", stop: bool = False
    ) -> bool:
        try:
            async with Phone(view.link, pin or view.pin) as phone:
                asked = await phone.ask()
                assert not pin, "a wrong PIN was let in"
                case.wishes.append((d, asked.offer))
                status = await phone.decide(d, by="patient", name="", rel="self")
                if not status.refused:
                    assert (d == "deny") == (status.state == "DENIED")
                if stop:
                    case.stopped = True
                    await phone.stop()
        except (TransferError, GatewayError):
            return False
        return True

    async def _staff_stop(self, case: Case) -> bool:
        with contextlib.suppress(GatewayError):  # it has ended
            async with self._house:
                case.stopped = True
                await self.world.sender.engine.cancel(case.tid, "test")
        return True

    async def _crash(self) -> None:
        for _ in range(self.dice.randrange(3)):
            await self.script.others(self.dice.randrange(10, 80))
            site: Site = self.dice.choice((self.world.sender, self.world.receiver))
            async with self._house:
                await site.close()
                await site.open()
                self.crashes += 1

    async def _close(self, case: Case) -> None:
        """The relay is honest. Whoever has no answer yet asks once more, as people do."""
        engine = self.world.sender.engine
        for _ in range(_ROUNDS):
            await self.world.sender.until(case.tid, "OFFERED", "RELEASED", *TERMINAL)
            view = await engine.transfer(case.tid)
            if view.state != "OFFERED":
                return
            if view.locked and not view.reopens_left:
                await self._staff_stop(case)
                return
            if view.locked:
                view = await engine.reopen(case.tid, "test")
            await self._phone(case, view, "deny" if case.plan == "deny" else "approve")
        raise AssertionError("an honest phone is not heard over an honest relay")

    async def _all_over(self) -> None:
        for case in self.cases:
            for site in (self.world.sender, self.world.receiver):
                await site.until(case.tid, *TERMINAL)

    # What must be true

    def _rows(self, site: Site, sql: str) -> list[sqlite3.Row]:
        uri = f"file:{site.folder / 'gateway.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as con:
            con.row_factory = sqlite3.Row
            return con.execute(sql).fetchall()

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(0.05)

    def _look(self) -> None:
        """Notes the states at both sites, as they are on disk."""
        for site, table in ((self.world.sender, "sends"), (self.world.receiver, "receives")):
            for row in self._rows(site, f"SELECT tid, state FROM {table}"):
                seen = self.history.setdefault((table, bytes(row["tid"]).hex()), [])
                if not seen or seen[-1] != row["state"]:
                    seen.append(row["state"])

    async def _promises(self) -> None:
        for (_, tid), states in self.history.items():
            assert len(TERMINAL & set(states)) <= 1, (tid, states)
            assert states[-1] in TERMINAL
        sends = {bytes(r["tid"]).hex(): r for r in self._rows(self.world.sender, "SELECT * FROM sends")}
        copies = self.world.copies()
        for case in self.cases:
            self._tries(case, sends[case.tid])
            opened = self._opened(case, sends[case.tid])
            self._delivered(case, sends[case.tid], copies, opened=opened)
        known = {uid for case in self.cases for uid in case.study}
        assert copies.keys() <= known
        for site in (self.world.sender, self.world.receiver):
            assert await site.rooms.db.run(audit.verify) == 0

    def _tries(self, case: Case, row: sqlite3.Row) -> None:
        spent = sum(
            bytes(r["tid"]).hex() == case.tid
            for r in self._rows(self.world.sender, "SELECT tid FROM tries WHERE state='spent'")
        )
        assert spent <= tries.limit(row["reopens"])

    def _opened(self, case: Case, send: sqlite3.Row) -> bool:
        """Whether R opened it: once, and only after a yes to exactly this offer."""
        rows = [
            r for r in self._rows(self.world.receiver, "SELECT * FROM receives")
            if bytes(r["tid"]).hex() == case.tid
        ]  # fmt: skip
        lines = [
            r for r in self._rows(self.world.receiver, "SELECT * FROM audit WHERE action='incoming.opened'")
            if r["subject"] == case.tid
        ]  # fmt: skip
        assert len(rows) == 1
        assert len(lines) == (1 if rows[0]["opened_at"] else 0)
        if not rows[0]["opened_at"]:
            return False
        offer: str = rows[0]["offer"]
        grant = peek(Grant, self.world.receiver.rooms.vault.open("grant", rows[0]["grant_sealed"]).decode())
        assert offer == send["offer"]
        assert (grant.d, grant.offer) == ("approve", jws.digest(offer))
        assert ("approve", peek(Offer, offer)) in case.wishes
        assert send["decision"] == "approve"
        return True

    def _delivered(self, case: Case, send: sqlite3.Row, copies: dict[str, Any], *, opened: bool) -> None:
        """Byte for byte what was sent, once; again only what was on its way when R crashed."""
        there = {uid: copies[uid] for uid in case.study if uid in copies}
        assert opened or not there
        for uid, found in there.items():
            assert set(found) == {case.study[uid]}
            assert len(found) <= 1 + self.crashes
        ledger = [
            r for r in self._rows(self.world.receiver, "SELECT * FROM ledger")
            if bytes(r["tid"]).hex() == case.tid
        ]  # fmt: skip
        stored = {r["sop_uid"] for r in ledger if r["state"] == "stored"}
        assert len(ledger) == len({r["sop_uid"] for r in ledger})
        assert stored <= there.keys()
        assert all(bytes(r["hash"]) == case.study[r["sop_uid"]] for r in ledger)
        if send["state"] == "COMPLETE":
            assert stored == case.study.keys()
        if send["decision"] == "deny":
            assert send["state"] == "DENIED"
